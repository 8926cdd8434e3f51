"""Models whose weights were set by hand, so that every edge of their circuits is known."""
