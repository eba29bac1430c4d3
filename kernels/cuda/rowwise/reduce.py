"""Sums and maxima over a block's threads, in an order that depends on the number of threads alone."""

import functools
from typing import Any

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.target import cuda


@functools.cache
def over_block(threads: int, combine: Any) -> Any:
    """f(shared (threads,), value): what `combine(a, b)` makes of each thread's value, known to all.

    With one thread, which need not be its block's only one, it is the value itself.
    """
    if threads & (threads - 1):
        raise ValueError(f"threads must be a power of two, got {threads}")

    @jit.inline
    def alone(shared, value):
        return value

    if threads == 1:
        return alone

    @jit.inline
    def combined(shared, value):
        thread = cuda.threadIdx.x
        shared[thread] = value
        cuda.syncthreads()
        half = threads // 2
        while half > 0:
            if thread < half:
                shared[thread] = combine(shared[thread], shared[thread + half])
            cuda.syncthreads()
            half //= 2
        result = shared[0]
        cuda.syncthreads()
        return result

    return combined


@jit.inline
def _sum(a, b):
    return a + b


@jit.inline
def _larger(a, b):
    return b if b > a else a


def block_sum(threads: int) -> Any:
    """f(shared (threads,), value): the sum of each thread's value, known to all."""
    return over_block(threads, _sum)


def block_max(threads: int) -> Any:
    """f(shared (threads,), value): the largest of each thread's value, known to all."""
    return over_block(threads, _larger)
