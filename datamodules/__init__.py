"""DataModules: paired streams and probes."""
