"""What can be watched: a file and a row of `MONITORS` each."""
