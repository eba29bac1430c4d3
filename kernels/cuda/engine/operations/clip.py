"""Clipping a gradient by its global norm (Pascanu et al. 2013, algorithm 1): a sum of squares, then a scaling."""

import math
from typing import Any

from numba import types

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Real, Size
from kernels.cuda.compiler.target import cuda
from kernels.cuda.rowwise.reduce import block_sum


@jit.kernel
def squares(real: Any, threads: int) -> Any:
    """The sum of squares of a block's part of gradient (n,), into norms (CLIP_PARTS + 1,).

    In float64, where a square of float32 does not overflow.
    """
    total_of, double = block_sum(threads), types.float64

    def function(gradient: Array[Real], norms: Array[float], n: Size) -> None:
        shared, total = cuda.shared.array(threads, double), double(0.0)
        for e in range(cuda.blockIdx.x * threads + cuda.threadIdx.x, n, cuda.gridDim.x * threads):
            value = double(gradient[e])
            total += value * value
        total = total_of(shared, total)
        if cuda.threadIdx.x == 0:
            norms[cuda.blockIdx.x] = total

    return function, threads


@jit.kernel
def clip(real: Any, threads: int, parts: int) -> Any:
    """gradient (n,) *= limit / norm where the norm is not at most the limit; a NaN makes all NaN.

    All but zeros, so that padding stays zero. norms (parts + 1,): the parts of the sum of squares, then the limit.
    A thread per element.
    """
    total_of, double, zero = block_sum(threads), types.float64, real(0.0)

    def function(gradient: Array[Real], norms: Array[float], n: Size) -> None:
        shared, total = cuda.shared.array(threads, double), double(0.0)
        for part in range(cuda.threadIdx.x, parts, threads):
            total += norms[part]
        norm, limit = math.sqrt(total_of(shared, total)), norms[parts]
        e = cuda.blockIdx.x * threads + cuda.threadIdx.x
        if e < n and gradient[e] != zero and not norm <= limit:
            gradient[e] *= real(limit / norm)

    return function, threads
