"""The input vectors of tokens: what stands for their absence, how a metric minds them, where it is read."""
