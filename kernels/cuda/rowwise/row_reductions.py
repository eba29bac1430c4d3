"""What kernels that go row by row have in common.

A block takes a row, whose elements its threads read side by side; of short rows, each thread takes one. Which of the
two is decided by a row's length alone, and so is the order of its sums.
"""

import functools
from types import SimpleNamespace
from typing import Any

from kernels.cpu.rowwise.row_blocks import EXP, LARGEST_IS_LARGEST, NO_METRIC, SIGMOID, SOFTMAX
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine.job import numbers_of, row_of
from kernels.cuda.ir.ptx import scalars
from kernels.cuda.rowwise.reduce import block_max, block_sum

ROW_THREADS = 32  # of a block that takes a row
BLOCK_ROWS = 128  # of a block whose threads take a row each
SHORT = 16  # the most columns of such rows. Untuned: no GPU was there


def row_threads(columns: int) -> int:
    """How many threads share a row of so many columns."""
    return 1 if columns <= SHORT else ROW_THREADS


def row_blocks(rows: int, columns: int) -> int:
    """How many blocks so many rows take."""
    return -(-rows // BLOCK_ROWS) if columns <= SHORT else rows


def block_threads(threads: int) -> int:
    """How many threads a block has, so many of which share a row."""
    return BLOCK_ROWS if threads == 1 else threads


@functools.cache
def row_parts(real: Any, threads: int) -> SimpleNamespace:
    """What the kernels here have in common. threads: those that share a row."""
    functions = scalars(real)
    exp, sigmoid, zero, half, one = functions.exp, functions.sigmoid, real(0.0), real(0.5), real(1.0)
    sum_of, max_of = block_sum(threads), block_max(threads)

    @jit.inline
    def row_number():
        return cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x if threads == 1 else cuda.blockIdx.x

    @jit.inline
    def lane():
        return 0 if threads == 1 else cuda.threadIdx.x

    @jit.inline
    def place(order, weight, numbers, job):
        """The row of the data, where its z, dz and target begin, its weight, dz's factor."""
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
        """The first column that has the largest value."""
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

    return SimpleNamespace(
        row_number=row_number, lane=lane, scalar=functions, exp=exp, place=place, finish=finish, sum=sum_of,
        largest_value=largest_value, largest=largest, right=right, activate=activate,
    )  # fmt: skip
