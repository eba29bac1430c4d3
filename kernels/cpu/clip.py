"""Clipping a gradient by its global norm (Pascanu et al. 2013, algorithm 1): a hook of training steps."""

from typing import Any

import numpy as np
from numba import types

from ..layout import address
from . import floats, jit, memory

GRADIENT, SIZE, LIMIT = range(3)  # the hook's argument: an address, a number of elements, a float64


@jit.kernel("v i")
def clip(real: Any) -> Any:
    """g *= limit / |g|, where the norm |g| over all elements is not at most the limit; a NaN makes all NaN but zeros.

    The sum goes over the elements in order, in float64, where a square of float32 does not overflow. The size is a
    multiple of 8, as a layout's is. Zeros stay zero: padding is not written anew, and would be NaN in all later steps.
    """
    sqrt, select, zero = floats.bits(types.float64).sqrt, floats.bits(real).select, real(0.0)
    elements, integers, doubles = memory.pointer(real), memory.pointer(types.int64), memory.pointer(types.float64)

    @jit.inline
    def square(value):
        return types.float64(value) * types.float64(value)

    def function(argument):
        g, n, limit = elements(integers(argument)[GRADIENT]), integers(argument)[SIZE], doubles(argument)[LIMIT]
        s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(0, n, 8):  # side by side: one sum would wait for each addition
            s0 += square(g[i])
            s1 += square(g[i + 1])
            s2 += square(g[i + 2])
            s3 += square(g[i + 3])
            s4 += square(g[i + 4])
            s5 += square(g[i + 5])
            s6 += square(g[i + 6])
            s7 += square(g[i + 7])
        norm = sqrt(((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7)))
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
