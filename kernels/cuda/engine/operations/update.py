"""What is done with a gradient: the sums of dz's rows, those of its parts, weight decay, optimiser steps."""

import functools
from collections.abc import Callable
from typing import Any

from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Offset, Real, Size, Stride
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import PRODUCT_WORDS, SCALARS, job_of, numbers_of, product_at, rows_of
from kernels.cuda.ir.ptx import maths_of
from kernels.cuda.rowwise.reduce import block_sum
from kernels.declarations.sources import rule_hash
from kernels.optimizers.declaration import Update


@jit.inline
def _gradient(g, at, job):
    total = g[at]
    for part in range(1, job.g_parts):
        total += g[part * job.g_spacing + at]
    return total


@functools.cache
def kernel_of(update: Update, dtype: str) -> jit.Kernel:
    """One step on w (w_rows, w_columns), in place, and on an array of each slot. A thread per element.

    w and the slots' arrays have rows w_row apart, the gradient g rows g_row apart: the sum of g_parts parts that lie
    g_spacing apart, in their order, if there is more than one.
    """
    return _kernels_of(update.name, update.rule, len(update.slots), len(update.names), update.weights_alone)(dtype)


@functools.cache
def _kernels_of(name: str, rule: Any, n_slots: int, n_scalars: int, weights_alone: bool) -> Callable[..., jit.Kernel]:
    @jit.kernel(name=name, stamp=f"{rule_hash(rule)}{n_slots}")
    def make(real: Any) -> Any:
        slots = "".join(f"s{k}: Array[Real], " for k in range(n_slots))
        kept = "".join(f"s{k}[at], " for k in range(n_slots))
        scalars = "".join(f"numbers[first + {k}], " for k in range(n_scalars))
        scope: dict[str, Any] = {
            "Array": Array, "Real": Real, "cuda": cuda, "job_of": job_of,
            "gradient_at": _gradient, "rule": maths_of(real).rule(rule),
            "first_scalar": _first_of_biases if weights_alone else _first, "n_scalars": n_scalars,
        }  # fmt: skip
        text = f"""
def function(w: Array[Real], g: Array[Real], {slots}numbers: Array[Real], words: Array[int]) -> None:
    job = job_of(words)
    e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    i, j = e // job.w_columns, e % job.w_columns
    if i < job.w_rows:
        at, slope = i * job.w_row + j, gradient_at(g, i * job.g_row + j, job)
        first = first_scalar(job, words, at, n_scalars)
        w[at], {kept}= rule(w[at], slope, {kept}{scalars})
"""
        exec(compile(text, __file__, "exec"), scope)
        return scope["function"], tuning.THREADS

    return make


@jit.inline
def _first(job, words, at, n_scalars):
    """Where a step's scalars begin among the numbers."""
    return job.step * job.numbers + SCALARS


@jit.inline
def _first_of_biases(job, words, at, n_scalars):
    """The same, where biases have scalars of their own, after those of weights."""
    first = job.step * job.numbers + SCALARS
    for layer in range(job.layers):
        product = product_at(words, job.first_dw + layer * PRODUCT_WORDS)
        if product.with_db != 0 and product.db <= at and at < product.db + product.n:
            return first + n_scalars
    return first


@jit.kernel
def column_sums(real: Any, columns: int, lanes: int) -> Any:
    """db of a layer, in gradient: the sums of its dz's columns, where its product has it.

    blockIdx.x: `columns` columns each, summed by `lanes` threads; blockIdx.y: the product, the first one of which is at
    words[first]; blockIdx.z: the part of the rows.
    """
    threads, zero = columns * lanes, real(0.0)

    def function(dz: Array[Real], gradient: Array[Real], words: Array[int], first: Offset) -> None:
        shared = cuda.shared.array(threads, real)
        job, product = job_of(words), product_at(words, first + cuda.blockIdx.y * PRODUCT_WORDS)
        thread = cuda.threadIdx.x
        lane, j = thread // columns, cuda.blockIdx.x * columns + thread % columns
        total = zero
        if j < product.n:
            first_row = cuda.blockIdx.z * product.chunk
            last = min(rows_of(job), first_row + product.chunk)
            for i in range(first_row + lane, last, lanes):
                total += dz[product.b + i * product.b_row + j]
        shared[thread] = total
        cuda.syncthreads()
        half = lanes // 2
        while half > 0:
            if lane < half:
                shared[thread] += shared[thread + half * columns]
            cuda.syncthreads()
            half //= 2
        if lane == 0 and j < product.n and product.with_db != 0:
            gradient[cuda.blockIdx.z * product.spacing + product.db + j] = shared[thread]

    return function, threads


@jit.kernel
def sum_parts(real: Any) -> Any:
    """c (rows, columns) = the sum of `count` parts that lie `spacing` apart; c may be the first.

    The parts are added in their order. A thread takes an element.
    """

    def function(
        parts: Array[Real], c: Array[Real], count: Size, spacing: Stride, rows: Size, columns: Size, ldc: Stride
    ) -> None:
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if e < rows * columns:
            total = parts[e]
            for part in range(1, count):
                total += parts[part * spacing + e]
            c[e // columns * ldc + e % columns] = total

    return function, tuning.THREADS


@jit.kernel
def decay(real: Any, threads: int) -> Any:
    """The l2 term of a layer's weights, added to its gradient.

    blockIdx.y: the product of dw, the first one of which is at words[first]. A block leaves the sum of its weights'
    squares in parts (n,).
    """
    total_of, zero = block_sum(threads), real(0.0)

    def function(
        w: Array[Real], gradient: Array[Real], parts: Array[Real], numbers: Array[Real], words: Array[int],
        first: Offset,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(threads, real)
        job, product = job_of(words), product_at(words, first + cuda.blockIdx.y * PRODUCT_WORDS)
        start, size = product.c, product.m * product.c_row
        factor, total = numbers_of(numbers, job).decay, zero
        for e in range(cuda.blockIdx.x * threads + cuda.threadIdx.x, size, cuda.gridDim.x * threads):
            value = w[start + e]
            gradient[start + e] += factor * value
            total += value * value
        total = total_of(shared, total)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.y * cuda.gridDim.x + cuda.blockIdx.x] = total

    return function, threads
