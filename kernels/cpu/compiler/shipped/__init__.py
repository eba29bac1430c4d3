"""Kernels that come compiled with the package: for which levels of a CPU, how they are made, loaded and checked."""
