"""Rows side by side: a block of them is turned, so that loops over rows are vector code however few columns there are.

1000 rows of 10 outputs with labels: 36 ns a row one by one, 70 where the branches that find the largest output are not
learned by heart, and 14 side by side (Intel Xeon with AVX-512).
"""

from types import SimpleNamespace
from typing import Any

from numba import types

from kernels import scalar
from kernels.cpu.compiler import jit
from kernels.cpu.ir import floats, memory, simd

IDENTITY, SIGMOID, SOFTMAX, EXP = 0, 1, 2, 3  # the output activation
NO_METRIC, LARGEST_IS_LABEL, LARGEST_IS_LARGEST, ALL_OUTPUTS = 0, 1, 2, 3  # what makes a row right
VECTORS = 4  # of rows that are done side by side
FEW = 8  # rows below which each is done on its own: one row of 10 outputs 0.2 us, as a vector of rows 0.5
# A row's bits must not depend on how many come with it, so on whether vector or scalar code does it. Of a sum with a
# selected product only vector code makes one fused operation: what is selected here is never a product.

# Numbers that are kept for each of these rows: what its dz is to be multiplied by, its loss, and what the losses need
SCALE, VALUE, TOP, TOTAL, OTHER, LINES = range(6)


def parts(real: Any) -> SimpleNamespace:
    """What the kernels of losses and of outputs have in common. Each function does at most a block of rows.

    Their scratch: LINES numbers a row, line by line, then two squares of as many columns as a vector has lanes, turned:
    a column is a line.
    """
    size = simd.itemsize(real)
    lanes = simd.chosen().lanes(size)
    block = VECTORS * lanes
    line = block * size
    first, second = LINES * line, (LINES + lanes) * line
    turn = simd.transpose_part(real)
    scalars = scalar.functions(real, jit.plain, floats.bits(real))
    elements, integers, doubles = memory.pointer(real), memory.pointer(types.int64), memory.pointer(types.float64)
    exp, sigmoid, select = scalars.exp, scalars.sigmoid, scalars.select
    zero, half = real(0.0), real(0.5)

    @jit.plain
    def whole(rows):
        """So many rows are computed: none is left over for a loop that does one at a time."""
        return (rows + lanes - 1) // lanes * lanes if rows >= FEW else rows

    @jit.inline
    def turn_in(rows, columns, source, ld, target):
        """So many rows' columns as lines; what is past the last row repeats it."""
        if rows < FEW:
            for r in range(rows):
                for j in range(columns):
                    elements(target + j * line)[r] = elements(source + r * ld)[j]
            return
        for r in range(0, rows, lanes):
            turn(min(lanes, rows - r), columns, source + r * ld, ld, target + r * size, line, lanes)

    @jit.inline
    def turn_out(rows, columns, source, target, ld):
        if rows < FEW:
            for r in range(rows):
                for j in range(columns):
                    elements(target + r * ld)[j] = elements(source + j * line)[r]
            return
        for r in range(0, rows, lanes):
            turn(columns, min(lanes, rows - r), source + r * size, line, target + r * ld, ld, columns)

    @jit.inline
    def largest(rows, columns, z, ld, scratch):
        """TOP: each row's largest number; OTHER: the first column that has it."""
        n, top, best = whole(rows), elements(scratch + TOP * line), elements(scratch + OTHER * line)
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            turn_in(rows, width, z + j0 * size, ld, scratch + first)
            if j0 == 0:
                for r in range(n):
                    top[r], best[r] = elements(scratch + first)[r], zero
            for j in range(width):
                number, column = real(j0 + j), elements(scratch + first + j * line)
                for r in range(n):
                    larger = column[r] > top[r]
                    best[r] = select(larger, number, best[r])
                    top[r] = select(larger, column[r], top[r])

    @jit.inline
    def exponentials(rows, columns, z, ldz, p, ldp, scratch):
        """exp(z - TOP), in the scratch where that holds all columns, or else in p; TOTAL: their sum."""
        n, top, total = whole(rows), elements(scratch + TOP * line), elements(scratch + TOTAL * line)
        for r in range(n):
            total[r] = zero
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            if columns > lanes:
                turn_in(rows, width, z + j0 * size, ldz, scratch + first)
            for j in range(width):
                column = elements(scratch + first + j * line)
                for r in range(n):
                    column[r] = exp(column[r] - top[r])
                    total[r] += column[r]
            if columns > lanes:
                turn_out(rows, width, scratch + first, p + j0 * size, ldp)

    @jit.inline
    def outputs(code, rows, columns, z, ldz, y, ldy, scratch):
        """y = the output activation of z; in the scratch as well where that holds all columns."""
        n, total = whole(rows), elements(scratch + TOTAL * line)
        if code == SOFTMAX:
            largest(rows, columns, z, ldz, scratch)
            exponentials(rows, columns, z, ldz, y, ldy, scratch)
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            if code != SOFTMAX:
                turn_in(rows, width, z + j0 * size, ldz, scratch + first)
            elif columns > lanes:
                turn_in(rows, width, y + j0 * size, ldy, scratch + first)
            for j in range(width):
                column = elements(scratch + first + j * line)
                if code == SOFTMAX:
                    for r in range(n):
                        column[r] = column[r] / total[r]
                elif code == SIGMOID:
                    for r in range(n):
                        column[r] = sigmoid(column[r])
                elif code == EXP:
                    for r in range(n):
                        column[r] = exp(column[r])
            turn_out(rows, width, scratch + first, y + j0 * size, ldy)

    @jit.inline
    def are_right(metric, rows, columns, z, ldz, target, ldt, threshold, scratch, right):
        """right (float64 of each row) = 1.0 or 0.0, by the metric."""
        n, best, hits = whole(rows), elements(scratch + OTHER * line), elements(scratch + VALUE * line)
        if metric == ALL_OUTPUTS:
            for r in range(n):
                hits[r] = half + half
            for j0 in range(0, columns, lanes):
                width = min(lanes, columns - j0)
                turn_in(rows, width, z + j0 * size, ldz, scratch + first)
                turn_in(rows, width, target + j0 * size, ldt, scratch + second)
                for j in range(width):
                    column, t = elements(scratch + first + j * line), elements(scratch + second + j * line)
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

    return SimpleNamespace(
        scalar=scalars, lanes=lanes, size=size, block=block, line=line, first=first, second=second,
        scratch_bytes=second + lanes * line, elements=elements, integers=integers, doubles=doubles, whole=whole,
        turn_in=turn_in, turn_out=turn_out, largest=largest, exponentials=exponentials, outputs=outputs,
        are_right=are_right,
    )  # fmt: skip
