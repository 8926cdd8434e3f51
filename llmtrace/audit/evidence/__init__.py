"""What is known about a monitor: how well it tells classes apart, and whether what it watches does anything."""
