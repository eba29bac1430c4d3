"""What kernels that go row by row have in common.

A block takes a row, whose elements its threads read side by side; of short rows, each thread takes one. Which of the
two is decided by a row's length alone, and so is the order of its sums.
"""

import functools
from typing import Any, NamedTuple

from kernels.activations.sigmoid import sigmoid as sigmoid_rule
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import numbers_of, row_of
from kernels.cuda.ir.ptx import maths_of
from kernels.cuda.rowwise.reduce import block_max, block_sum
from kernels.engine.codes import EXP, LARGEST_IS_LARGEST, NO_METRIC, SIGMOID, SOFTMAX
from kernels.maths.functions import Maths


def row_threads(columns: int) -> int:
    """How many threads take a row together."""
    return 1 if columns <= tuning.SHORT_COLUMNS else tuning.ROW_THREADS


def row_blocks(rows: int, columns: int) -> int:
    """How many blocks these rows take."""
    return -(-rows // tuning.BLOCK_ROWS) if columns <= tuning.SHORT_COLUMNS else rows


def block_threads(threads: int) -> int:
    """How many threads a block has. threads: those that take a row together."""
    return tuning.BLOCK_ROWS if threads == 1 else threads


class RowParts(NamedTuple):
    """What kernels that go row by row are made of: functions for use inside them. `at` is where the row begins."""

    row_number: Any  # (): the block's row, or the thread's
    lane: Any  # (): the thread's first column
    place: Any  # (order, weight, numbers, job): the row of the data, where z, dz, target begin, its weight, dz's factor
    finish: Any  # (results, job, loss, right): writes what came out
    sum: Any  # (shared, value): the sum of each thread's value
    largest_value: Any  # (shared, z, at, n)
    largest: Any  # (shared, z, at, n, largest value): the first column that has it
    right: Any  # (shared, z, at, n, target, target's at, metric, threshold): 1 for a row that is right, else 0
    activate: Any  # (output, z, largest value, sum of exp(z - that)): the output activation
    exp: Any
    maths: Maths


@functools.cache
def row_parts(real: Any, threads: int) -> RowParts:
    """See RowParts. threads: those that share a row."""
    maths = maths_of(real)
    exp, sigmoid, zero, half, one = maths.exp, maths.rule(sigmoid_rule), real(0.0), real(0.5), real(1.0)
    sum_of, max_of = block_sum(threads), block_max(threads)

    @jit.inline
    def row_number():
        return cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x if threads == 1 else cuda.blockIdx.x

    @jit.inline
    def lane():
        return 0 if threads == 1 else cuda.threadIdx.x

    @jit.inline
    def place(order, weight, numbers, job):
        i = row_number()
        row = row_of(job, order, i)
        w = weight[row] if job.weighted != 0 else one
        z_at, dz_at = job.z + i * job.z_row, job.dz + i * job.dz_row
        return row, z_at, dz_at, row * job.target_row, w, numbers_of(numbers, job).scale * w

    @jit.inline
    def finish(results, job, loss, right):
        if lane() == 0:
            i = row_number() + (job.step * job.batch if job.keep_rows != 0 else 0)
            results[i] = loss
            if job.metric != NO_METRIC:
                results[job.right + i] = right

    @jit.inline
    def largest_value(shared, z, at, n):
        top = z[at]
        for j in range(lane(), n, threads):
            top = z[at + j] if z[at + j] > top else top
        return max_of(shared, top)

    @jit.inline
    def largest(shared, z, at, n, top):
        first = -real(n)
        for j in range(lane(), n, threads):
            if real(z[at + j]) == top and first == -real(n):
                first = -real(j)
        return -max_of(shared, first)

    @jit.inline
    def right(shared, z, at, n, target, target_at, metric, threshold):
        if metric == LARGEST_IS_LARGEST:
            top = largest_value(shared, z, at, n)
            most = real(target[target_at])
            for j in range(lane(), n, threads):
                most = real(target[target_at + j]) if real(target[target_at + j]) > most else most
            most = max_of(shared, most)
            same = largest(shared, z, at, n, top) == largest(shared, target, target_at, n, most)
            return one if same else zero
        wrong = zero
        for j in range(lane(), n, threads):
            if (z[at + j] > threshold) != (real(target[target_at + j]) > half):
                wrong += one
        return zero if sum_of(shared, wrong) > zero else one

    @jit.inline
    def activate(output, z, top, total):
        if output == SIGMOID:
            return sigmoid(z)
        if output == SOFTMAX:
            return exp(z - top) / total
        if output == EXP:
            return exp(z)
        return z

    return RowParts(
        row_number, lane, place, finish, sum_of, largest_value, largest, right, activate, exp=exp, maths=maths
    )
