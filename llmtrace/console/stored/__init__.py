"""What lies in a saved folder, as views: one file for each kind of thing that is saved. NumPy and JSON, no torch."""
