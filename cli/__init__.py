"""The command line: a light dispatcher, one module a command, and the packaged recipes."""
