"""Loading networks, forward passes, the reference model."""
