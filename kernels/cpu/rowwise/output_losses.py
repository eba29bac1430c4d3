"""Losses that are sums or means over the outputs of a row, each of which has its own by a rule."""

from typing import Any

from kernels.activations.sigmoid import sigmoid as sigmoid_rule
from kernels.cpu.compiler import jit
from kernels.cpu.rowwise.row_blocks import SCALE, VALUE, RowBlock
from kernels.cpu.rowwise.softmax_losses import squared_error_of_softmax
from kernels.engine.codes import SIGMOID, SOFTMAX
from kernels.losses import Loss


def each_output(real: Any, f: RowBlock, declared: Loss) -> Any:
    """The of_block of a loss that has a rule."""
    return _sum_of_outputs(real, f, f.maths.rule(declared.rule), declared.mean)


def squared_error(real: Any, f: RowBlock, declared: Loss) -> Any:
    """The mean or sum over outputs of (y - t)^2, y = the output activation of z; dz through its derivative."""
    one, of_identity, sigmoid = real(1.0), f.maths.rule(declared.rule), f.maths.rule(sigmoid_rule)

    @jit.plain
    def of_sigmoid(z, t, parameter):
        y = sigmoid(z)
        loss, slope = of_identity(y, t, parameter)
        return loss, slope * (y * (one - y))

    identity = _sum_of_outputs(real, f, of_identity, declared.mean)
    logistic = _sum_of_outputs(real, f, of_sigmoid, declared.mean)
    softmax = squared_error_of_softmax(real, f, declared.mean)

    @jit.inline
    def of_block(b):
        if b.output == SOFTMAX:
            softmax(b)
        elif b.output == SIGMOID:
            logistic(b)
        else:
            identity(b)

    return of_block


def _sum_of_outputs(real: Any, f: RowBlock, of_output: Any, mean: bool) -> Any:
    """The of_block of a loss that is a sum or mean over outputs.

    of_output: (z, t, the loss's parameter) -> (the output's loss, its slope). Whole vectors of outputs are read in
    place: only their sums, one a lane, are transposed.
    """
    lanes, size, block, lane_row, square, other_square = f.lanes, f.size, f.block, f.lane_row, f.square, f.other_square
    elements, padded, zero, one = f.elements, f.padded, real(0.0), real(1.0)
    transpose_in, transpose_out = f.transpose_in, f.transpose_out

    @jit.inline
    def in_place(b, whole_vectors, share):
        """dz of each row's whole vectors. The square: the sums of their losses, a vector for each row."""
        # not constants, or LLVM would unroll what it can vectorise
        used, one_vector = min(block, whole_vectors), min(lanes, whole_vectors)
        s = elements(b.scratch + SCALE * lane_row)
        losses, slopes = elements(b.scratch + other_square), elements(b.scratch + other_square + lane_row)
        for r in range(b.rows):
            sums, scale = elements(b.scratch + square + r * lanes * size), share * s[r]
            for j in range(used):
                losses[j] = zero
            for j0 in range(0, whole_vectors, block):
                logit, t = elements(b.z + r * b.ldz + j0 * size), elements(b.target + r * b.ldt + j0 * size)
                to, count = elements(b.dz + r * b.lddz + j0 * size), min(block, whole_vectors - j0)
                for j in range(count):
                    loss, slope = of_output(logit[j], t[j], b.parameter)
                    losses[j] += share * loss
                    slopes[j] = scale * slope
                for j in range(count):  # to, which may be z
                    to[j] = slopes[j]
            for j in range(one_vector):
                sums[j] = losses[j]
            for j0 in range(lanes, used, lanes):
                more = elements(b.scratch + other_square + j0 * size)
                for j in range(one_vector):
                    sums[j] += more[j]

    @jit.inline
    def add_sums(b):
        """VALUE: with the sums that the square holds."""
        value = elements(b.scratch + VALUE * lane_row)
        transpose_in(b.rows, lanes, b.scratch + square, lanes * size, b.scratch + other_square)
        for j in range(lanes):
            sums = elements(b.scratch + other_square + j * lane_row)
            for r in range(padded(b.rows)):
                value[r] += sums[r]

    @jit.inline
    def transposed(b, j0, share):
        """VALUE: with the losses of the columns from j0 on, fewer than a vector, and their dz."""
        n, width = padded(b.rows), b.columns - j0
        s, value = elements(b.scratch + SCALE * lane_row), elements(b.scratch + VALUE * lane_row)
        transpose_in(b.rows, width, b.z + j0 * size, b.ldz, b.scratch + square)
        transpose_in(b.rows, width, b.target + j0 * size, b.ldt, b.scratch + other_square)
        for j in range(width):
            logit = elements(b.scratch + square + j * lane_row)
            t = elements(b.scratch + other_square + j * lane_row)
            for r in range(n):
                loss, slope = of_output(logit[r], t[r], b.parameter)
                value[r] += share * loss
                logit[r] = share * s[r] * slope
        transpose_out(b.rows, width, b.scratch + square, b.dz + j0 * size, b.lddz)

    @jit.inline
    def of_block(b):
        share, value = one / real(b.columns) if mean else one, elements(b.scratch + VALUE * lane_row)
        whole_vectors = b.columns // lanes * lanes
        for r in range(padded(b.rows)):
            value[r] = zero
        if whole_vectors > 0:
            in_place(b, whole_vectors, share)
            add_sums(b)
        if whole_vectors < b.columns:
            transposed(b, whole_vectors, share)

    return of_block
