"""Matrix products: micro-kernels, the loops around them, bfloat16, layers."""
