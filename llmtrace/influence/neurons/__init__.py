"""What neurons write, what makes them fire, and how often: readings and statistics."""
