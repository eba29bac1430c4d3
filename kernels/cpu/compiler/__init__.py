"""How kernels are declared, compiled, cached and called: the one place that calls Numba's compiler."""
