"""The kernels of each kind of layer: forward, backward and gradient, which phases call by their addresses."""
