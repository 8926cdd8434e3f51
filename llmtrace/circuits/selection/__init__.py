"""From edge scores to a circuit."""
