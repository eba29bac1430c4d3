"""What is done with a gradient: the sums of dz's rows, weight decay, optimiser steps."""

from typing import Any

from .. import scalar
from . import jit
from . import job as fields
from .jit import cuda
from .ptx import float_bits
from .reduce import block_sum

# w, g, first, second, numbers, job, step. One step on w (W_ROWS, W_COLUMNS), in place. w, first and second (the
# optimiser's state) have rows LDW apart, the gradient g rows LDG apart. A thread per element.
SIGNATURE = "R R R R R I i"
PARTS = 64  # blocks, and partial sums, of one layer's decay


@jit.kernel
def sgd(real: Any) -> Any:
    """numbers: rate, momentum, nesterov. first: the velocity where SLOTS is not 0."""
    update = scalar.functions(real, jit.inline, float_bits(real)).sgd
    zero = real(0.0)

    def function(w, g, first, second, numbers, job, step):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j, p = e // job[fields.W_COLUMNS], e % job[fields.W_COLUMNS], step * fields.NUMBERS
        if i < job[fields.W_ROWS]:
            at, slope = i * job[fields.LDW] + j, g[i * job[fields.LDG] + j]
            if job[fields.SLOTS] == 0:
                w[at] = w[at] - numbers[p] * slope
            else:
                new, velocity = update(w[at], slope, first[at], numbers[p], numbers[p + 1], numbers[p + 2] != zero)
                w[at] = new
                first[at] = velocity

    return function, SIGNATURE, jit.THREADS


@jit.kernel
def adam(real: Any) -> Any:
    """numbers: rate, beta1, beta2, epsilon, 1 / (1 - beta1^t), 1 / (1 - beta2^t), 1 - beta1, 1 - beta2."""
    update = scalar.functions(real, jit.inline, float_bits(real)).adam

    def function(w, g, first, second, numbers, job, step):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j, p = e // job[fields.W_COLUMNS], e % job[fields.W_COLUMNS], step * fields.NUMBERS
        if i < job[fields.W_ROWS]:
            at = i * job[fields.LDW] + j
            new, m, v = update(
                w[at], g[i * job[fields.LDG] + j], first[at], second[at], numbers[p], numbers[p + 1], numbers[p + 6],
                numbers[p + 2], numbers[p + 7], numbers[p + 3], numbers[p + 4], numbers[p + 5],
            )  # fmt: skip
            w[at] = new
            first[at] = m
            second[at] = v

    return function, SIGNATURE, jit.THREADS


updates = {"sgd": sgd, "adam": adam}


@jit.kernel
def column_sums(real: Any, columns: int, lanes: int) -> Any:
    """dz, gradient, job, first record, step: db of a layer, the sums of its dz's columns, at the record's DB.

    blockIdx.x: `columns` columns each, summed by `lanes` threads; blockIdx.y: the record, from the first on.
    """
    threads, zero = columns * lanes, real(0.0)

    def function(dz, gradient, job, first, step):
        shared = cuda.shared.array(threads, real)
        at = fields.HEADER + (first + cuda.blockIdx.y) * fields.RECORD
        thread = cuda.threadIdx.x
        lane, j = thread // columns, cuda.blockIdx.x * columns + thread % columns
        total = zero
        if j < job[at + fields.N]:
            for i in range(lane, fields.rows_of(job, step), lanes):
                total += dz[job[at + fields.B] + i * job[at + fields.LDB] + j]
        shared[thread] = total
        cuda.syncthreads()
        half = lanes // 2
        while half > 0:
            if lane < half:
                shared[thread] += shared[thread + half * columns]
            cuda.syncthreads()
            half //= 2
        if lane == 0 and j < job[at + fields.N] and job[at + fields.DB] != fields.NONE:
            gradient[job[at + fields.DB] + j] = shared[thread]

    return function, "R R I i i", threads


@jit.kernel
def decay(real: Any, threads: int) -> Any:
    """w, gradient, parts, numbers, job, first record, step: the l2 term of a layer's weights, added to its gradient.

    blockIdx.y: the record, from the first on. A block leaves the sum of its weights' squares in parts (n,).
    """
    total_of, zero = block_sum(threads), real(0.0)

    def function(w, gradient, parts, numbers, job, first, step):
        shared = cuda.shared.array(threads, real)
        at = fields.HEADER + (first + cuda.blockIdx.y) * fields.RECORD
        start, size = job[at + fields.C], job[at + fields.M] * job[at + fields.LDC]
        factor, total = numbers[step * fields.NUMBERS + fields.DECAY], zero
        for e in range(cuda.blockIdx.x * threads + cuda.threadIdx.x, size, cuda.gridDim.x * threads):
            value = w[start + e]
            gradient[start + e] += factor * value
            total += value * value
        total = total_of(shared, total)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.y * cuda.gridDim.x + cuda.blockIdx.x] = total

    return function, "R R R R I i i", threads
