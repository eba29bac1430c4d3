"""Clipping a gradient by its global norm (Pascanu et al. 2013, algorithm 1): a hook of training steps."""

from typing import Any, Protocol

import numpy as np
from numba import types

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address
from kernels.cpu.engine.operations.update import sum_of_squares
from kernels.cpu.ir import floats, memory
from kernels.layout import address

GRADIENT, SIZE, LIMIT = range(3)  # the hook's argument: an address, a number of elements, a float64


class Hook(Protocol):
    """What a training step calls between the gradient and the update, with the address of the hook's own words."""

    def __call__(self, argument: Address) -> None: ...


@jit.kernel(like=Hook)
def clip(real: Any) -> Any:
    """g *= limit / |g|, where the norm |g| over all elements is not at most the limit; a NaN makes all NaN but zeros.

    The squares are summed in float64, where one of float32 does not overflow. Zeros stay zero: padding is not written
    anew, and would be NaN in all later steps.
    """
    sqrt, select, zero = floats.bits(types.float64).sqrt, floats.bits(real).select, real(0.0)
    elements, integers, doubles = memory.pointer(real), memory.pointer(types.int64), memory.pointer(types.float64)

    squares = sum_of_squares(types.float64)

    def function(argument):
        g, n, limit = elements(integers(argument)[GRADIENT]), integers(argument)[SIZE], doubles(argument)[LIMIT]
        norm = sqrt(squares(n, g))
        if not norm <= limit:
            factor = real(limit / norm)
            for i in range(n):
                g[i] = select(g[i] == zero, zero, g[i] * factor)

    return function


def argument(gradient: np.ndarray, limit: float) -> np.ndarray:
    """What the hook is called with the address of."""
    values = np.array([address(gradient), gradient.size, 0], np.int64)
    values.view(np.float64)[LIMIT] = limit
    return values
