"""Kernels that only an engine and a few public functions run, beside products and what is row-wise."""
