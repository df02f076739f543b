"""Callbacks that measure: they need a causal language model and a tokenizer, and never change training."""
