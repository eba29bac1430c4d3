"""The machine's ceiling: multiply-adds on registers alone, which every rate here is measured against."""

import time
from typing import Any

import numpy as np

from . import jit, simd


@jit.kernel("v 2i")
def multiply_adds(real: Any) -> Any:
    """`steps` rounds of MR * NV vector multiply-adds, on so many vectors at an address."""
    loop = simd.multiply_add_loop(real)

    def function(steps, target):
        loop(steps, target)

    return function


def flops(dtype: str = "float32", seconds: float = 0.002) -> float:
    """Floating-point operations a second of one core, measured now, for about so long."""
    isa, kernel, steps = simd.chosen(), multiply_adds[dtype], 1000
    target = np.zeros(isa.mr * isa.nv * isa.register_bytes, np.uint8)
    kernel(steps, target.ctypes.data)
    while True:
        start = time.perf_counter()
        kernel(steps, target.ctypes.data)
        taken = time.perf_counter() - start
        if taken >= seconds / 2:
            return 2 * steps * isa.mr * isa.nv * isa.lanes(np.dtype(dtype).itemsize) / taken
        steps *= 2
