"""What is asked of a model itself, once, on a few tokens, and never of its name."""
