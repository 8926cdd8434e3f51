"""One component at a time: weights, norms, heads, neurons and attention as functions, without a forward pass."""
