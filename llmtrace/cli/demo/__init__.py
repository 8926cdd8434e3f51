"""The demo: its steps, and its words."""
