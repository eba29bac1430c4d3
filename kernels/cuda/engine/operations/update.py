"""What is done with a gradient: the sums of dz's rows, those of its parts, weight decay, optimiser steps."""

from typing import Any

import numpy as np

from kernels import scalar
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.records import Real, Record, record_at, record_class
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import NUMBERS, PRODUCT_WORDS, job_of, numbers_of, product_at, rows_of
from kernels.cuda.ir.ptx import maths_of
from kernels.cuda.rowwise.reduce import block_sum

# w, g, first, second, numbers, words. One step on w (w_rows, w_columns), in place. w, first and second (the
# optimiser's state) have rows w_row apart, the gradient g rows g_row apart: the sum of g_parts parts that lie g_spacing
# apart, in their order, if there is more than one. A thread per element.
SIGNATURE = "R R R R R I"


@jit.inline
def _gradient(g, at, job):
    total = g[at]
    for part in range(1, job.g_parts):
        total += g[part * job.g_spacing + at]
    return total


@record_class
class SgdNumbers(Record):
    """A step's numbers for gradient descent."""

    rate: Real
    momentum: Real = 0.0
    nesterov: Real = 0.0

    @classmethod
    def of(cls, scalars: np.ndarray) -> "SgdNumbers":
        """From what the engines are given for steps: rate, momentum, nesterov."""
        rate, momentum, nesterov = scalars.T[:3]
        return cls(rate=rate, momentum=momentum, nesterov=nesterov)


_sgd_numbers_at = record_at(SgdNumbers)


@jit.kernel
def sgd(real: Any) -> Any:
    """numbers: SgdNumbers. first: the velocity where there is a slot for it."""
    update = maths_of(real).rule(scalar.sgd)
    zero = real(0.0)

    def function(w, g, first, second, numbers, words):
        job = job_of(words)
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j, now = e // job.w_columns, e % job.w_columns, _sgd_numbers_at(numbers, job.step * NUMBERS)
        if i < job.w_rows:
            at, slope = i * job.w_row + j, _gradient(g, i * job.g_row + j, job)
            if job.slots == 0:
                w[at] = w[at] - now.rate * slope
            else:
                new, velocity = update(w[at], slope, first[at], now.rate, now.momentum, now.nesterov != zero)
                w[at] = new
                first[at] = velocity

    return function, SIGNATURE, tuning.THREADS


@record_class
class AdamNumbers(Record):
    """A step's numbers for Adam. The shares are 1 - beta, the corrections 1 / (1 - beta^t)."""

    rate: Real
    beta1: Real
    beta2: Real
    epsilon: Real
    correction1: Real
    correction2: Real
    share1: Real
    share2: Real

    @classmethod
    def of(cls, scalars: np.ndarray) -> "AdamNumbers":
        """From what the engines are given for steps: all but the shares.

        Those are rounded once: 1 - beta of float32's 0.999 would be wrong by 5e-5.
        """
        rate, beta1, beta2, epsilon, correction1, correction2 = scalars.T[:6]
        return cls(
            rate=rate, beta1=beta1, beta2=beta2, epsilon=epsilon, correction1=correction1, correction2=correction2,
            share1=1.0 - beta1, share2=1.0 - beta2,
        )  # fmt: skip


_adam_numbers_at = record_at(AdamNumbers)


@jit.kernel
def adam(real: Any) -> Any:
    """numbers: AdamNumbers. first, second: m and v."""
    update = maths_of(real).rule(scalar.adam)

    def function(w, g, first, second, numbers, words):
        job = job_of(words)
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j, now = e // job.w_columns, e % job.w_columns, _adam_numbers_at(numbers, job.step * NUMBERS)
        if i < job.w_rows:
            at, slope = i * job.w_row + j, _gradient(g, i * job.g_row + j, job)
            new, m, v = update(
                w[at], slope, first[at], second[at], now.rate, now.beta1, now.share1, now.beta2, now.share2,
                now.epsilon, now.correction1, now.correction2,
            )  # fmt: skip
            w[at] = new
            first[at] = m
            second[at] = v

    return function, SIGNATURE, tuning.THREADS


updates = {"sgd": sgd, "adam": adam}
update_numbers: dict[str, Any] = {"sgd": SgdNumbers.of, "adam": AdamNumbers.of}


@jit.kernel
def column_sums(real: Any, columns: int, lanes: int) -> Any:
    """dz, gradient, words, first: db of a layer, the sums of its dz's columns, where its product has it.

    blockIdx.x: `columns` columns each, summed by `lanes` threads; blockIdx.y: the product, the first one of which is at
    words[first]; blockIdx.z: the part of the rows.
    """
    threads, zero = columns * lanes, real(0.0)

    def function(dz, gradient, words, first):
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

    return function, "R R I i", threads


@jit.kernel
def sum_parts(real: Any) -> Any:
    """parts, c, count, spacing, rows, columns, ldc: c (rows, columns) = the sum of parts `spacing` apart; c may be
    the first.
    The parts are added in their order. A thread takes an element.
    """

    def function(parts, c, count, spacing, rows, columns, ldc):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if e < rows * columns:
            total = parts[e]
            for part in range(1, count):
                total += parts[part * spacing + e]
            c[e // columns * ldc + e % columns] = total

    return function, "R R i i i i i", tuning.THREADS


@jit.kernel
def decay(real: Any, threads: int) -> Any:
    """w, gradient, parts, numbers, words, first: the l2 term of a layer's weights, added to its gradient.

    blockIdx.y: the product of dw, the first one of which is at words[first]. A block leaves the sum of its weights'
    squares in parts (n,).
    """
    total_of, zero = block_sum(threads), real(0.0)

    def function(w, gradient, parts, numbers, words, first):
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

    return function, "R R R R I i", threads
