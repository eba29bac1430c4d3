"""The FMA peak as a yardstick, and the products' kernel called by itself."""

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from kernels import devices
from kernels.cpu.measure.ceilings import flops
from kernels.cpu.product.gemm import gemm

NO_FLOOR = float("-inf")
SHARE_SECONDS = 0.5
PEAK_SECONDS = 0.004
# Multiply-adds a clock of one multiprocessor by compute capability (CUDA C++ Programming Guide, "Throughput of Native
# Arithmetic Instructions")
LANES = {"float32": {(7, 5): 64, (8, 0): 64}, "float64": {(8, 0): 32, (9, 0): 64, (10, 0): 64}}
OTHER_LANES = {"float32": 128, "float64": 2}


def product(a: np.ndarray, b: np.ndarray, c: np.ndarray, family: Any = gemm) -> Callable[[], None]:
    """The call c (m, n) = a (m, k) @ b (k, n) on the calling thread. c is row-major; a and b, or their .T, are too.

    family: `gemm`, or one of gemm_bf16.
    """
    (m, k), n = a.shape, b.shape[1]
    transposed = b.strides[1] != b.itemsize
    ldb = b.strides[1] if transposed else b.strides[0]
    kernel = family[c.dtype]
    args = (
        m, n, k, a.ctypes.data, *a.strides, b.ctypes.data, ldb, c.ctypes.data, c.strides[0], 0, 0, NO_FLOOR,
        transposed, False,
    )  # fmt: skip
    return lambda: kernel(*args)


def nominal(dtype: str) -> float:
    """Floating-point operations a second of the GPU's multiply-adds at its highest clock; NaN in the simulator."""
    if devices.simulated():
        return math.nan
    from numba import cuda

    gpu = cuda.get_current_device()
    lanes = LANES[dtype].get(tuple(gpu.compute_capability), OTHER_LANES[dtype])
    return 2e3 * gpu.CLOCK_RATE * gpu.MULTIPROCESSOR_COUNT * lanes


def share_of_peak(benchmark: Any, operations: float, dtype: str, threads: int, device: str = "cpu") -> float:
    """Per cent of the FMA peak that `benchmark.call`, of `operations` operations, reaches.

    The peak is what `threads` threads reach together. Both are measured in turn, for the clock's frequency drifts; the
    median of the ratios counts. A GPU's is nominal.
    """
    shares: list[float] = []
    with ThreadPoolExecutor(threads) as pool:
        end = time.perf_counter() + SHARE_SECONDS
        while time.perf_counter() < end or len(shares) < 3:
            if device == "cuda":
                peak = nominal(dtype)
            else:
                peak = sum(pool.map(lambda _: flops(dtype, PEAK_SECONDS), range(threads)))
            start = time.perf_counter()
            for _ in range(benchmark.number):
                benchmark.call()
            shares.append(operations * benchmark.number / (time.perf_counter() - start) / peak)
    return 100.0 * float(np.median(shares))
