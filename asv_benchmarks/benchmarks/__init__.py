"""Benchmarks of the kernels and of whole training runs, one module a topic; run by asv."""
