"""What heads do, from their weights and from their behaviour: circuits, composition, copying, detectors."""
