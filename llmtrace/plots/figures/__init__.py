"""One noun, one drawing."""
