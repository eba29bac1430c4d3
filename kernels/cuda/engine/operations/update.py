"""What is done with a gradient: the sums of dz's rows, those of its parts, weight decay, optimiser steps."""

from typing import Any

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine import job as fields
from kernels.cuda.ir.ptx import scalars
from kernels.cuda.rowwise.reduce import block_sum

# w, g, first, second, numbers, job. One step on w (W_ROWS, W_COLUMNS), in place. w, first and second (the
# optimiser's state) have rows LDW apart, the gradient g rows LDG apart: the sum of G_PARTS parts that lie G_SPACING
# apart, in their order, if there is more than one. A thread per element.
SIGNATURE = "R R R R R I"
PARTS = 64  # blocks, and partial sums, of one layer's decay


@jit.inline
def _gradient(g, at, job):
    total = g[at]
    for part in range(1, job[fields.G_PARTS]):
        total += g[part * job[fields.G_SPACING] + at]
    return total


@jit.kernel
def sgd(real: Any) -> Any:
    """numbers: rate, momentum, nesterov. first: the velocity where SLOTS is not 0."""
    update = scalars(real).sgd
    zero = real(0.0)

    def function(w, g, first, second, numbers, job):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j, p = e // job[fields.W_COLUMNS], e % job[fields.W_COLUMNS], job[fields.STEP] * fields.NUMBERS
        if i < job[fields.W_ROWS]:
            at, slope = i * job[fields.LDW] + j, _gradient(g, i * job[fields.LDG] + j, job)
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
    update = scalars(real).adam

    def function(w, g, first, second, numbers, job):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j, p = e // job[fields.W_COLUMNS], e % job[fields.W_COLUMNS], job[fields.STEP] * fields.NUMBERS
        if i < job[fields.W_ROWS]:
            at, slope = i * job[fields.LDW] + j, _gradient(g, i * job[fields.LDG] + j, job)
            new, m, v = update(
                w[at], slope, first[at], second[at], numbers[p], numbers[p + 1], numbers[p + 6],
                numbers[p + 2], numbers[p + 7], numbers[p + 3], numbers[p + 4], numbers[p + 5],
            )  # fmt: skip
            w[at] = new
            first[at] = m
            second[at] = v

    return function, SIGNATURE, jit.THREADS


updates = {"sgd": sgd, "adam": adam}


@jit.kernel
def column_sums(real: Any, columns: int, lanes: int) -> Any:
    """dz, gradient, job, first record: db of a layer, the sums of its dz's columns, at the record's DB.

    blockIdx.x: `columns` columns each, summed by `lanes` threads; blockIdx.y: the record, from the first on;
    blockIdx.z: the part of the rows.
    """
    threads, zero = columns * lanes, real(0.0)

    def function(dz, gradient, job, first):
        shared = cuda.shared.array(threads, real)
        at = fields.HEADER + (first + cuda.blockIdx.y) * fields.RECORD
        thread = cuda.threadIdx.x
        lane, j = thread // columns, cuda.blockIdx.x * columns + thread % columns
        total = zero
        if j < job[at + fields.N]:
            first_row = cuda.blockIdx.z * job[at + fields.CHUNK]
            last = min(fields.rows_of(job), first_row + job[at + fields.CHUNK])
            for i in range(first_row + lane, last, lanes):
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
            gradient[cuda.blockIdx.z * job[at + fields.SPACING] + job[at + fields.DB] + j] = shared[thread]

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

    return function, "R R i i i i i", jit.THREADS


@jit.kernel
def decay(real: Any, threads: int) -> Any:
    """w, gradient, parts, numbers, job, first record: the l2 term of a layer's weights, added to its gradient.

    blockIdx.y: the record, from the first on. A block leaves the sum of its weights' squares in parts (n,).
    """
    total_of, zero = block_sum(threads), real(0.0)

    def function(w, gradient, parts, numbers, job, first):
        shared = cuda.shared.array(threads, real)
        at = fields.HEADER + (first + cuda.blockIdx.y) * fields.RECORD
        start, size = job[at + fields.C], job[at + fields.M] * job[at + fields.LDC]
        factor, total = numbers[job[fields.STEP] * fields.NUMBERS + fields.DECAY], zero
        for e in range(cuda.blockIdx.x * threads + cuda.threadIdx.x, size, cuda.gridDim.x * threads):
            value = w[start + e]
            gradient[start + e] += factor * value
            total += value * value
        total = total_of(shared, total)
        if cuda.threadIdx.x == 0:
            parts[cuda.blockIdx.y * cuda.gridDim.x + cuda.blockIdx.x] = total

    return function, "R R R R I i", threads
