"""Losses of the softmax of a row, whose outputs all depend on each other."""

from typing import Any

from kernels.cpu.compiler import jit
from kernels.cpu.rowwise.row_blocks import OTHER, SCALE, TOP, TOTAL, VALUE, RowBlock
from kernels.losses import Loss


def softmax_cross_entropy(real: Any, f: RowBlock, declared: Loss) -> Any:
    """-sum_o t log softmax(z): through log-sum-exp, dz = softmax(z) * sum(t) - t.

    The parameter is what all outputs share of a row's targets in equal parts: t is (1 - parameter) t + parameter /
    columns. Of a row whose label is none of the columns the loss is NaN and dz is 0.
    """
    lanes, size, lane_row, square, other_square = f.lanes, f.size, f.lane_row, f.square, f.other_square
    elements, integers, padded = f.elements, f.integers, f.padded
    transpose_in, transpose_out = f.transpose_in, f.transpose_out
    largest, exponentials, log, select = f.largest, f.exponentials, f.maths.log, f.maths.select
    zero, one, nothing = real(0.0), real(1.0), real(float("nan"))

    @jit.inline
    def losses_of_labels(b):
        """VALUE: the losses, without the logarithms of the sums."""
        top, value = elements(b.scratch + TOP * lane_row), elements(b.scratch + VALUE * lane_row)
        kept, spread = one - b.parameter, b.parameter / real(b.columns)
        for r in range(b.rows):
            label = integers(b.target + r * b.ldt)[0]
            value[r] = kept * (top[r] - elements(b.z + r * b.ldz)[label]) if 0 <= label < b.columns else nothing
        for j0 in range(0, b.columns if b.parameter != zero else 0, lanes):
            width = min(lanes, b.columns - j0)
            if b.columns > lanes:
                transpose_in(b.rows, width, b.z + j0 * size, b.ldz, b.scratch + square)
            for j in range(width):
                logit = elements(b.scratch + square + j * lane_row)
                for r in range(padded(b.rows)):
                    value[r] += spread * (top[r] - logit[r])

    @jit.inline
    def losses_of_targets(b):
        """The same; and OTHER: the sums of targets."""
        n, mass = padded(b.rows), elements(b.scratch + OTHER * lane_row)
        top, value = elements(b.scratch + TOP * lane_row), elements(b.scratch + VALUE * lane_row)
        kept, spread = one - b.parameter, b.parameter / real(b.columns)
        for r in range(n):
            mass[r], value[r] = zero, zero
        for j0 in range(0, b.columns, lanes):
            width = min(lanes, b.columns - j0)
            transpose_in(b.rows, width, b.z + j0 * size, b.ldz, b.scratch + square)
            transpose_in(b.rows, width, b.target + j0 * size, b.ldt, b.scratch + other_square)
            for j in range(width):
                logit = elements(b.scratch + square + j * lane_row)
                t = elements(b.scratch + other_square + j * lane_row)
                for r in range(n):
                    share = kept * t[r] + spread
                    mass[r] += share
                    value[r] += share * select(share != zero, top[r] - logit[r], zero)

    @jit.inline
    def add_logarithms(b):
        """VALUE: the losses. TOTAL: what each exponential is multiplied by."""
        n, mass = padded(b.rows), elements(b.scratch + OTHER * lane_row)
        s, value = elements(b.scratch + SCALE * lane_row), elements(b.scratch + VALUE * lane_row)
        total = elements(b.scratch + TOTAL * lane_row)
        if b.labels != 0:
            for r in range(n):
                value[r] += log(total[r])
                total[r] = s[r] / total[r]
        else:
            for r in range(n):
                value[r] += mass[r] * log(total[r])
                total[r] = mass[r] * s[r] / total[r]

    @jit.inline
    def make_slopes(b, width):
        """The square: slopes in the place of exponentials; of labels but for their own columns."""
        n, kept, spread = padded(b.rows), one - b.parameter, b.parameter / real(b.columns)
        s, total = elements(b.scratch + SCALE * lane_row), elements(b.scratch + TOTAL * lane_row)
        for j in range(width):
            p, t = elements(b.scratch + square + j * lane_row), elements(b.scratch + other_square + j * lane_row)
            if b.labels != 0:
                for r in range(n):
                    p[r] = p[r] * total[r]
            else:
                for r in range(n):
                    p[r] = p[r] * total[r] - s[r] * (kept * t[r] + spread)
        if b.labels != 0 and b.parameter != zero:
            for j in range(width):
                p = elements(b.scratch + square + j * lane_row)
                for r in range(n):
                    p[r] -= spread * s[r]

    @jit.inline
    def subtract_labels(b):
        """The slopes of the labels' own columns; zeros where a label is none of them."""
        s, kept = elements(b.scratch + SCALE * lane_row), one - b.parameter
        for r in range(b.rows):
            label, slopes = integers(b.target + r * b.ldt)[0], elements(b.dz + r * b.lddz)
            if 0 <= label < b.columns:
                slopes[label] -= kept * s[r]
            else:
                for j in range(b.columns):
                    slopes[j] = zero

    @jit.inline
    def of_block(b):
        if not b.have_maximum:
            largest(b.rows, b.columns, b.z, b.ldz, b.scratch)
        if b.labels != 0:
            losses_of_labels(b)
        else:
            losses_of_targets(b)
        exponentials(b.rows, b.columns, b.z, b.ldz, b.dz, b.lddz, b.scratch)
        add_logarithms(b)
        for j0 in range(0, b.columns, lanes):
            width = min(lanes, b.columns - j0)
            if b.columns > lanes:
                transpose_in(b.rows, width, b.dz + j0 * size, b.lddz, b.scratch + square)
            if b.labels == 0:
                transpose_in(b.rows, width, b.target + j0 * size, b.ldt, b.scratch + other_square)
            make_slopes(b, width)
            transpose_out(b.rows, width, b.scratch + square, b.dz + j0 * size, b.lddz)
        if b.labels != 0:
            subtract_labels(b)

    return of_block


def squared_error_of_softmax(real: Any, f: RowBlock, mean: bool) -> Any:
    """The mean or sum over outputs of (y - t)^2, y = softmax(z); dz through softmax's Jacobian, diag(y) - y y^T."""
    lanes, size, lane_row, square, other_square = f.lanes, f.size, f.lane_row, f.square, f.other_square
    elements, padded, outputs = f.elements, f.padded, f.outputs
    transpose_in, transpose_out = f.transpose_in, f.transpose_out
    zero, one, two = real(0.0), real(1.0), real(2.0)

    @jit.inline
    def add_losses(b, share, width):
        """VALUE: the losses. OTHER: the sums of error * y."""
        value, dot = elements(b.scratch + VALUE * lane_row), elements(b.scratch + OTHER * lane_row)
        for j in range(width):
            y, t = elements(b.scratch + square + j * lane_row), elements(b.scratch + other_square + j * lane_row)
            for r in range(padded(b.rows)):
                error = y[r] - t[r]
                value[r] += share * error * error
                dot[r] += error * y[r]

    @jit.inline
    def make_slopes(b, share, width):
        """The slopes in the place of y."""
        s, dot = elements(b.scratch + SCALE * lane_row), elements(b.scratch + OTHER * lane_row)
        for j in range(width):
            y, t = elements(b.scratch + square + j * lane_row), elements(b.scratch + other_square + j * lane_row)
            for r in range(padded(b.rows)):
                y[r] = two * share * s[r] * y[r] * (y[r] - t[r] - dot[r])

    @jit.inline
    def of_block(b):
        share = one / real(b.columns) if mean else one
        value, dot = elements(b.scratch + VALUE * lane_row), elements(b.scratch + OTHER * lane_row)
        outputs(b.output, b.rows, b.columns, b.z, b.ldz, b.dz, b.lddz, b.scratch)
        for r in range(padded(b.rows)):
            value[r], dot[r] = zero, zero
        for forward in (True, False):
            for j0 in range(0, b.columns, lanes):
                width = min(lanes, b.columns - j0)
                if b.columns > lanes:
                    transpose_in(b.rows, width, b.dz + j0 * size, b.lddz, b.scratch + square)
                if b.columns > lanes or forward:
                    transpose_in(b.rows, width, b.target + j0 * size, b.ldt, b.scratch + other_square)
                if forward:
                    add_losses(b, share, width)
                else:
                    make_slopes(b, share, width)
                    transpose_out(b.rows, width, b.scratch + square, b.dz + j0 * size, b.lddz)

    return of_block
