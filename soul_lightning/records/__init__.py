"""Rows out of files of any usual kind, each fault named by file and line."""
