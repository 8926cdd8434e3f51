"""What edge scores are made of: gradients of ports times changes of writers, batch by batch."""
