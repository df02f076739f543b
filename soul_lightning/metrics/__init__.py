"""Metrics, each with a functional form."""
