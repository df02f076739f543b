"""What the speed claims run: one thread, CPU seconds, interleaved pairs, medians and ratios."""
