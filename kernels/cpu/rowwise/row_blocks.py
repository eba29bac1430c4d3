"""A block of rows, transposed: each row is a lane, so that loops over rows are vector code at any number of columns."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from kernels import deferred
from kernels.activations.sigmoid import sigmoid as sigmoid_rule
from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import chosen, itemsize
from kernels.cpu.ir.maths import maths_of
from kernels.deferred import types
from kernels.engine.codes import ALL_OUTPUTS, EXP, LARGEST_IS_LABEL, SIGMOID, SOFTMAX
from kernels.maths.functions import Maths

simd = deferred.module("kernels.cpu.ir.simd")

# A row's bits must not depend on how many come with it, so on whether vector or scalar code does it. Of a sum with a
# selected product only vector code makes one fused operation: what is selected here is never a product.

# Numbers that are kept of each row of a block: what its dz is to be multiplied by, its loss, and what the losses need
SCALE, VALUE, TOP, TOTAL, OTHER, LANE_ROWS = range(6)


@dataclass(frozen=True)
class RowBlock:
    """What the kernels of losses and of outputs have in common. Each function is for at most a block of rows.

    Their scratch: LANE_ROWS lane rows, which hold one number of each row of the block; then two squares, which hold as
    many columns as a vector has lanes, transposed: a column is a lane row.
    """

    maths: Maths  # of the dtype
    lanes: int  # numbers in a vector
    size: int  # bytes of a number
    block: int  # rows
    lane_row: int  # bytes of one lane row
    square: int  # where the squares begin in the scratch, in bytes
    other_square: int
    scratch_bytes: int
    elements: Any  # address -> pointer to numbers of the dtype, to int64, to float64
    integers: Any
    doubles: Any
    padded: Any
    transpose_in: Any
    transpose_out: Any
    largest: Any
    exponentials: Any
    outputs: Any
    are_right: Any


class LossRows(NamedTuple):
    """A block of rows whose loss is wanted, as RowLoss takes them, and the scratch.

    have_maximum: TOP and OTHER are there, and so is the square, where it holds all columns of z.
    """

    rows: int
    columns: int
    z: int
    ldz: int
    target: int
    ldt: int
    labels: int
    dz: int
    lddz: int
    output: int
    parameter: float
    have_maximum: bool
    scratch: int


def row_block(real: Any) -> RowBlock:
    """The block of rows of a dtype, with the functions on it for use inside kernels."""
    size = itemsize(real)
    lanes = chosen().lanes(size)
    block = tuning.BLOCK_VECTORS * lanes
    lane_row = block * size
    square, other_square = LANE_ROWS * lane_row, (LANE_ROWS + lanes) * lane_row
    transpose = simd.transpose_part(real)
    maths = maths_of(real)
    elements, integers, doubles = memory.pointer(real), memory.pointer(types.int64), memory.pointer(types.float64)
    exp, sigmoid, select = maths.exp, maths.rule(sigmoid_rule), maths.select
    zero, half = real(0.0), real(0.5)

    @jit.plain
    def padded(rows):
        """The number of rows that are computed: none is left over for a loop that does one at a time."""
        return (rows + lanes - 1) // lanes * lanes if rows >= tuning.LEAST_LANE_ROWS else rows

    @jit.inline
    def transpose_in(rows, columns, source, ld, target):
        """Columns as lane rows; what is past the last row repeats it."""
        if rows < tuning.LEAST_LANE_ROWS:
            for r in range(rows):
                for j in range(columns):
                    elements(target + j * lane_row)[r] = elements(source + r * ld)[j]
            return
        for r in range(0, rows, lanes):
            transpose(min(lanes, rows - r), columns, source + r * ld, ld, target + r * size, lane_row, lanes)

    @jit.inline
    def transpose_out(rows, columns, source, target, ld):
        """Lane rows as columns."""
        if rows < tuning.LEAST_LANE_ROWS:
            for r in range(rows):
                for j in range(columns):
                    elements(target + r * ld)[j] = elements(source + j * lane_row)[r]
            return
        for r in range(0, rows, lanes):
            transpose(columns, min(lanes, rows - r), source + r * size, lane_row, target + r * ld, ld, columns)

    @jit.inline
    def largest(rows, columns, z, ld, scratch):
        """TOP: each row's largest number; OTHER: the first column that has it."""
        n, top, best = padded(rows), elements(scratch + TOP * lane_row), elements(scratch + OTHER * lane_row)
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            transpose_in(rows, width, z + j0 * size, ld, scratch + square)
            if j0 == 0:
                for r in range(n):
                    top[r], best[r] = elements(scratch + square)[r], zero
            for j in range(width):
                number, column = real(j0 + j), elements(scratch + square + j * lane_row)
                for r in range(n):
                    larger = column[r] > top[r]
                    best[r] = select(larger, number, best[r])
                    top[r] = select(larger, column[r], top[r])

    @jit.inline
    def exponentials(rows, columns, z, ldz, p, ldp, scratch):
        """exp(z - TOP), in the scratch where that holds all columns, or else in p; TOTAL: their sum."""
        n, top, total = padded(rows), elements(scratch + TOP * lane_row), elements(scratch + TOTAL * lane_row)
        for r in range(n):
            total[r] = zero
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            if columns > lanes:
                transpose_in(rows, width, z + j0 * size, ldz, scratch + square)
            for j in range(width):
                column = elements(scratch + square + j * lane_row)
                for r in range(n):
                    column[r] = exp(column[r] - top[r])
                    total[r] += column[r]
            if columns > lanes:
                transpose_out(rows, width, scratch + square, p + j0 * size, ldp)

    @jit.inline
    def outputs(code, rows, columns, z, ldz, y, ldy, scratch):
        """y = the output activation of z; in the scratch as well where that holds all columns."""
        n, total = padded(rows), elements(scratch + TOTAL * lane_row)
        if code == SOFTMAX:
            largest(rows, columns, z, ldz, scratch)
            exponentials(rows, columns, z, ldz, y, ldy, scratch)
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            if code != SOFTMAX:
                transpose_in(rows, width, z + j0 * size, ldz, scratch + square)
            elif columns > lanes:
                transpose_in(rows, width, y + j0 * size, ldy, scratch + square)
            for j in range(width):
                column = elements(scratch + square + j * lane_row)
                if code == SOFTMAX:
                    for r in range(n):
                        column[r] = column[r] / total[r]
                elif code == SIGMOID:
                    for r in range(n):
                        column[r] = sigmoid(column[r])
                elif code == EXP:
                    for r in range(n):
                        column[r] = exp(column[r])
            transpose_out(rows, width, scratch + square, y + j0 * size, ldy)

    @jit.inline
    def are_right(metric, rows, columns, z, ldz, target, ldt, threshold, scratch, right):
        """right (float64 of each row) = 1.0 or 0.0, by the metric."""
        n, best, hits = padded(rows), elements(scratch + OTHER * lane_row), elements(scratch + VALUE * lane_row)
        if metric == ALL_OUTPUTS:
            for r in range(n):
                hits[r] = half + half
            for j0 in range(0, columns, lanes):
                width = min(lanes, columns - j0)
                transpose_in(rows, width, z + j0 * size, ldz, scratch + square)
                transpose_in(rows, width, target + j0 * size, ldt, scratch + other_square)
                for j in range(width):
                    column, t = (
                        elements(scratch + square + j * lane_row),
                        elements(scratch + other_square + j * lane_row),
                    )
                    for r in range(n):
                        hits[r] = select((column[r] > threshold) != (t[r] > half), zero, hits[r])
        else:
            if metric == LARGEST_IS_LABEL:
                for r in range(rows):
                    hits[r] = real(integers(target + r * ldt)[0])
            else:
                largest(rows, columns, target, ldt, scratch)
                for r in range(n):
                    hits[r] = best[r]
            largest(rows, columns, z, ldz, scratch)
            for r in range(n):
                hits[r] = select(best[r] == hits[r], half + half, zero)
        for r in range(rows):
            doubles(right)[r] = hits[r]

    return RowBlock(
        maths=maths,
        lanes=lanes,
        size=size,
        block=block,
        lane_row=lane_row,
        square=square,
        other_square=other_square,
        scratch_bytes=other_square + lanes * lane_row,
        elements=elements,
        integers=integers,
        doubles=doubles,
        padded=padded,
        transpose_in=transpose_in,
        transpose_out=transpose_out,
        largest=largest,
        exponentials=exponentials,
        outputs=outputs,
        are_right=are_right,
    )
