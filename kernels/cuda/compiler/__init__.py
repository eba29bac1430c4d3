"""How CUDA kernels are compiled, cached and launched: the one place that touches numba-cuda's internals."""
