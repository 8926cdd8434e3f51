"""Running only a circuit: the pass, and the ground that removed edges leave."""
