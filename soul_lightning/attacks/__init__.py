"""Attempts to bring back what was unlearned, on copies: what each does to a model, and what it finds."""
