"""The FMA peak of this process, and the products' kernel called by itself."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kernels.cpu import simd
from kernels.cpu.gemm import gemm

NO_FLOOR = float("-inf")
SHARE_SECONDS = 0.5


def product(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> Callable[[], None]:
    """The call c (m, n) = a (m, k) @ b (k, n) on the calling thread. c is row-major; a and b, or their .T, are too."""
    (m, k), n = a.shape, b.shape[1]
    transposed = b.strides[1] != b.itemsize
    ldb = b.strides[1] if transposed else b.strides[0]
    kernel = gemm[c.dtype]
    args = (
        m, n, k, a.ctypes.data, *a.strides, b.ctypes.data, ldb, c.ctypes.data, c.strides[0], 0, 0, NO_FLOOR,
        transposed, False,
    )  # fmt: skip
    return lambda: kernel(*args)


class Peak:
    """The most FLOP/s that so many threads reach together: the micro-kernel alone.

    All strides of a and b are 0: nothing but fused multiply-adds on registers and one line of L1 is left to do.
    """

    def __init__(self, dtype: str, threads: int) -> None:
        isa = simd.chosen()
        m, n = isa.mr, isa.nv * isa.lanes(np.dtype(dtype).itemsize)
        self._depth, self._flops, self._kernel, self._shape = 1 << 17, 2 * m * n, gemm[np.dtype(dtype)], (m, n)
        self._operands = [[np.zeros((m, n), dtype) for _ in "abc"] for _ in range(threads)]
        self._pool = ThreadPoolExecutor(threads)

    def rate(self) -> float:
        """FLOP/s of all threads at once."""
        return sum(self._pool.map(self._run, self._operands))

    def _run(self, operands: list[np.ndarray]) -> float:
        a, b, c = (array.ctypes.data for array in operands)
        args = (*self._shape, self._depth, a, 0, 0, b, 0, c, operands[2].strides[0], 0, 0, NO_FLOOR, False, False)
        start = time.perf_counter()
        self._kernel(*args)
        return self._flops * self._depth / (time.perf_counter() - start)


def share_of_peak(benchmark: Any, flops: float, dtype: str, threads: int) -> float:
    """Per cent of the FMA peak that `benchmark.call`, of so many operations, reaches.

    Both are measured in turn, for the clock's frequency drifts; the median of the ratios counts.
    """
    peak, shares = Peak(dtype, threads), []
    end = time.perf_counter() + SHARE_SECONDS
    while time.perf_counter() < end or len(shares) < 3:
        rate = peak.rate()
        start = time.perf_counter()
        for _ in range(benchmark.number):
            benchmark.call()
        shares.append(flops * benchmark.number / (time.perf_counter() - start) / rate)
    return 100.0 * float(np.median(shares))
