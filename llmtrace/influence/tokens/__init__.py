"""How much each position takes from each token before it: attention, flow, gradients, occlusion."""
