"""The stamp that kernels' symbols and cached machine code carry: a hash of the kernels' sources."""

from kernels.declarations.sources import source_hash

STAMP = source_hash("cpu", "nopython", "activations", "engine/codes.py", "losses", "maths", "optimizers", "layout.py")
