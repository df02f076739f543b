"""Tables, files and figures of what was measured."""
