"""The FMA peak as a yardstick, and the products' kernel called by itself."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kernels.cpu.gemm import gemm
from kernels.cpu.peak import flops

NO_FLOOR = float("-inf")
SHARE_SECONDS = 0.5
PEAK_SECONDS = 0.004


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


def share_of_peak(benchmark: Any, operations: float, dtype: str, threads: int) -> float:
    """Per cent of the FMA peak that `benchmark.call`, of so many operations, reaches.

    The peak is what so many threads reach together. Both are measured in turn, for the clock's frequency drifts; the
    median of the ratios counts.
    """
    shares: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        end = time.perf_counter() + SHARE_SECONDS
        while time.perf_counter() < end or len(shares) < 3:
            peak = sum(pool.map(lambda _: flops(dtype, PEAK_SECONDS), range(threads)))
            start = time.perf_counter()
            for _ in range(benchmark.number):
                benchmark.call()
            shares.append(operations * benchmark.number / (time.perf_counter() - start) / peak)
    return 100.0 * float(np.median(shares))
