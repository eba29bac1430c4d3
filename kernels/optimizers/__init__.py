"""Optimisers: what to do with a gradient, as plain values. Each has a module, with all that is its own.

An optimiser is a frozen dataclass of its options; see `declaration` for what it says besides. From it come the kernels
of all backends, the public function of `kernels`, also inside `@njit` code, and the command line's choice.
"""

from kernels.optimizers.declaration import known

known.load(__name__, __path__)
