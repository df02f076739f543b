"""Runs that are killed, and what becomes of them: `python -m tests.faults.campaign`."""
