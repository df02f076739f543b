"""Scoring and generating with any causal language model."""
