"""One step of training on one rank: the update of the weights, and the same as one CUDA graph."""
