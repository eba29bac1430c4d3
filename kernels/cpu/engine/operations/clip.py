"""Clipping a gradient by its global norm (Pascanu et al. 2013, algorithm 1): a hook of training steps."""

from typing import Any, Protocol

import numpy as np

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Size
from kernels.cpu.compiler.records import Record, record_at, record_class
from kernels.cpu.engine.operations.update import sum_of_squares
from kernels.cpu.ir import floats, memory
from kernels.deferred import types
from kernels.layout import address


@record_class
class Clipping(Record):
    """The hook's argument."""

    gradient: Address
    size: Size  # of the gradient, in elements
    limit: float


clipping_at = record_at(Clipping)


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
    elements, squares = memory.pointer(real), sum_of_squares(types.float64)

    def function(argument):
        clipping = clipping_at(argument)
        g, n, limit = elements(clipping.gradient), clipping.size, clipping.limit
        norm = sqrt(squares(n, g))
        if not norm <= limit:
            factor = real(limit / norm)
            for i in range(n):
                g[i] = select(g[i] == zero, zero, g[i] * factor)

    return function


def argument(gradient: np.ndarray, limit: float) -> Clipping:
    """What the hook is called with the address of."""
    return Clipping(gradient=address(gradient), size=gradient.size, limit=float(limit))
