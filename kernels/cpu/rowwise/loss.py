"""Losses and their gradients with respect to what the last product made, fused with the output activation.

Blocks of rows are transposed, see row_blocks.py; a loss that is a sum over many outputs reads whole vectors in place.
"""

from collections.abc import Callable
from typing import Any, Protocol

from numba import types

from kernels.activations.sigmoid import sigmoid as sigmoid_rule
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Code, Flag, Size, Stride
from kernels.cpu.ir import memory
from kernels.cpu.rowwise.row_blocks import OTHER, SCALE, TOP, TOTAL, VALUE, RowBlock, row_block
from kernels.engine.codes import ALL_OUTPUTS, IDENTITY, SIGMOID, SOFTMAX
from kernels.losses import LOSSES, Loss


class RowLoss(Protocol):
    """The loss of z (rows, columns) and dz, its gradient, overwritten; returns the sum of weight * row loss, unscaled.

    output: the output activation, which counts for squared errors alone (the others take logits). target: (rows,
    columns), rows `ldt` bytes apart; or, where `labels` is 1, for softmax cross-entropy, int64 labels `ldt` bytes
    apart. weight: one per row, or address 0. dz is that of scale * weight * row loss; dz may be z. row_loss and right
    (float64, by `metric`) receive a value per row where not 0.
    """

    def __call__(
        self, output: Code, rows: Size, columns: Size, z: Address, ldz: Stride, labels: Flag, target: Address,
        ldt: Stride, weight: Address, scale: float, dz: Address, lddz: Stride, metric: Code, row_loss: Address,
        right: Address, parameter: float,
    ) -> float: ...  # fmt: skip


def _family(declared: Loss) -> jit.Family:
    """The kernels of a loss.

    Its of_block(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch) takes
    at most a block of rows. It reads SCALE, and writes dz and VALUE, the rows' losses. have_maximum: TOP and OTHER are
    there.
    """
    of_squares = declared.kernel == "squared_error"

    @jit.kernel(like=RowLoss, name=f"loss_{declared.name}", stamp=declared.stamp)
    def loss(real: Any) -> Any:
        f = row_block(real)
        of_block = _OF_BLOCK[declared.kernel](real, f, declared)
        block, elements, doubles, are_right = f.block, f.elements, f.doubles, f.are_right
        lane_row, scratch_bytes, zero, half = f.lane_row, f.scratch_bytes, real(0.0), real(0.5)
        doubled = types.float64  # weights of any size, 1e-40 or 1e38, where they make no sum or product too large

        def function(
            output, rows, columns, z, ldz, labels, target, ldt, weight, scale, dz, lddz, metric, row_loss, right,
            parameter,
        ):  # fmt: skip
            scratch = memory.stack(scratch_bytes)
            s, value = elements(scratch + SCALE * lane_row), elements(scratch + VALUE * lane_row)
            weights = elements(weight)
            have_maximum = right != 0 and metric != ALL_OUTPUTS
            threshold = half if of_squares and output == IDENTITY else zero
            for r in range(block):
                s[r] = real(scale)
            sum_of_losses = 0.0
            for row in range(0, rows, block):
                count, losses = min(block, rows - row), doubles(row_loss + row * 8)
                z_at, t_at, dz_at = z + row * ldz, target + row * ldt, dz + row * lddz
                if weight != 0:
                    for r in range(count):
                        s[r] = real(scale * doubled(weights[row + r]))
                if right != 0:
                    are_right(metric, count, columns, z_at, ldz, t_at, ldt, threshold, scratch, right + row * 8)
                of_block(
                    output,
                    have_maximum,
                    count,
                    columns,
                    z_at,
                    ldz,
                    labels,
                    t_at,
                    ldt,
                    dz_at,
                    lddz,
                    real(parameter),
                    scratch,
                )
                for r in range(count):
                    weighted = (doubled(weights[row + r]) if weight != 0 else 1.0) * value[r]
                    sum_of_losses += weighted
                    if row_loss != 0:
                        losses[r] = weighted
            return sum_of_losses

        return function

    return loss


def _softmax_cross_entropy(real: Any, f: RowBlock, declared: Loss) -> Any:
    """-sum_o t log softmax(z): through log-sum-exp, dz = softmax(z) * sum(t) - t.

    The parameter, where it is not 0, is what all outputs share of a row's targets in equal parts: t is then
    (1 - parameter) t + parameter / columns. Of a row whose label is none of the columns the loss is NaN and dz is 0.
    """
    lanes, size, lane_row, square, other_square = f.lanes, f.size, f.lane_row, f.square, f.other_square
    elements, integers, padded = f.elements, f.integers, f.padded
    transpose_in, transpose_out = f.transpose_in, f.transpose_out
    largest, exponentials, log, select, zero = f.largest, f.exponentials, f.maths.log, f.maths.select, real(0.0)
    one, nothing = real(1.0), real(float("nan"))

    @jit.inline
    def smooth(n, width, kept, spread, scratch):
        """The targets that the other square holds become smoothed ones."""
        for j in range(width):
            t = elements(scratch + other_square + j * lane_row)
            for r in range(n):
                t[r] = kept * t[r] + spread

    @jit.inline
    def of_block(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch):
        n, mass = padded(rows), elements(scratch + OTHER * lane_row)
        s, value = elements(scratch + SCALE * lane_row), elements(scratch + VALUE * lane_row)
        top, total = elements(scratch + TOP * lane_row), elements(scratch + TOTAL * lane_row)
        kept, spread = one - parameter, parameter / real(columns)
        if not have_maximum:
            largest(rows, columns, z, ldz, scratch)
        if labels != 0:
            for r in range(rows):
                label = integers(target + r * ldt)[0]
                value[r] = kept * (top[r] - elements(z + r * ldz)[label]) if 0 <= label < columns else nothing
            for j0 in range(0, columns if parameter != zero else 0, lanes):
                width = min(lanes, columns - j0)
                transpose_in(rows, width, z + j0 * size, ldz, scratch + square)
                for j in range(width):
                    logit = elements(scratch + square + j * lane_row)
                    for r in range(n):
                        value[r] += spread * (top[r] - logit[r])
        else:
            for r in range(n):
                mass[r], value[r] = zero, zero
            for j0 in range(0, columns, lanes):
                width = min(lanes, columns - j0)
                transpose_in(rows, width, z + j0 * size, ldz, scratch + square)
                transpose_in(rows, width, target + j0 * size, ldt, scratch + other_square)
                if parameter != zero:
                    smooth(n, width, kept, spread, scratch)
                for j in range(width):
                    logit, t = (
                        elements(scratch + square + j * lane_row),
                        elements(scratch + other_square + j * lane_row),
                    )
                    for r in range(n):
                        mass[r] += t[r]
                        value[r] += t[r] * select(t[r] != zero, top[r] - logit[r], zero)
        exponentials(rows, columns, z, ldz, dz, lddz, scratch)
        if labels != 0:
            for r in range(n):
                value[r] += log(total[r])
                total[r] = s[r] / total[r]
        else:
            for r in range(n):
                value[r] += mass[r] * log(total[r])
                total[r] = mass[r] * s[r] / total[r]
        for j0 in range(0, columns, lanes):
            width = min(lanes, columns - j0)
            if columns > lanes:
                transpose_in(rows, width, dz + j0 * size, lddz, scratch + square)
            if labels == 0:
                transpose_in(rows, width, target + j0 * size, ldt, scratch + other_square)
                if parameter != zero:
                    smooth(n, width, kept, spread, scratch)
            for j in range(width):
                p, t = elements(scratch + square + j * lane_row), elements(scratch + other_square + j * lane_row)
                if labels != 0:
                    for r in range(n):
                        p[r] = p[r] * total[r]
                else:
                    for r in range(n):
                        p[r] = p[r] * total[r] - s[r] * t[r]
            if labels != 0 and parameter != zero:
                for j in range(width):
                    p = elements(scratch + square + j * lane_row)
                    for r in range(n):
                        p[r] -= spread * s[r]
            transpose_out(rows, width, scratch + square, dz + j0 * size, lddz)
        if labels != 0:
            for r in range(rows):
                label, slopes = integers(target + r * ldt)[0], elements(dz + r * lddz)
                if 0 <= label < columns:
                    slopes[label] -= kept * s[r]
                else:
                    for j in range(columns):
                        slopes[j] = zero

    return of_block


def _each_output(real: Any, f: RowBlock, declared: Loss) -> Any:
    """The of_block of a loss that has a rule."""
    return _sum_of_outputs(real, f, f.maths.rule(declared.rule), declared.mean)


def _sum_of_outputs(real: Any, f: RowBlock, of_output: Any, mean: bool) -> Any:
    """The of_block of a loss that is a sum or mean over outputs.

    of_output: (z, t, the loss's parameter) -> (the output's loss, its slope). Whole vectors of outputs are read in
    place: only their sums, one a lane, are transposed.
    """
    lanes, size, block, lane_row, square, other_square = f.lanes, f.size, f.block, f.lane_row, f.square, f.other_square
    elements, padded, zero, one = f.elements, f.padded, real(0.0), real(1.0)
    transpose_in, transpose_out = f.transpose_in, f.transpose_out

    @jit.inline
    def of_block(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch):
        n, share = padded(rows), one / real(columns) if mean else one
        s, value = elements(scratch + SCALE * lane_row), elements(scratch + VALUE * lane_row)
        whole_vectors = columns // lanes * lanes
        # not constants, or LLVM would unroll what it can vectorise
        used, one_vector = min(block, whole_vectors), min(lanes, whole_vectors)
        losses, slopes = elements(scratch + other_square), elements(scratch + other_square + lane_row)
        for r in range(n):
            value[r] = zero
        for r in range(rows if whole_vectors > 0 else 0):
            sums, scale = elements(scratch + square + r * lanes * size), share * s[r]
            for j in range(used):
                losses[j] = zero
            for j0 in range(0, whole_vectors, block):
                logit, t = elements(z + r * ldz + j0 * size), elements(target + r * ldt + j0 * size)
                to, count = elements(dz + r * lddz + j0 * size), min(block, whole_vectors - j0)
                for j in range(count):
                    loss, slope = of_output(logit[j], t[j], parameter)
                    losses[j] += share * loss
                    slopes[j] = scale * slope
                for j in range(count):  # to, which may be z
                    to[j] = slopes[j]
            for j in range(one_vector):
                sums[j] = losses[j]
            for j0 in range(lanes, used, lanes):
                more = elements(scratch + other_square + j0 * size)
                for j in range(one_vector):
                    sums[j] += more[j]
        if whole_vectors > 0:
            transpose_in(rows, lanes, scratch + square, lanes * size, scratch + other_square)
            for j in range(lanes):
                sums = elements(scratch + other_square + j * lane_row)
                for r in range(n):
                    value[r] += sums[r]
        for j0 in range(whole_vectors, columns, lanes):
            width = columns - j0
            transpose_in(rows, width, z + j0 * size, ldz, scratch + square)
            transpose_in(rows, width, target + j0 * size, ldt, scratch + other_square)
            for j in range(width):
                logit, t = elements(scratch + square + j * lane_row), elements(scratch + other_square + j * lane_row)
                for r in range(n):
                    loss, slope = of_output(logit[r], t[r], parameter)
                    value[r] += share * loss
                    logit[r] = share * s[r] * slope
            transpose_out(rows, width, scratch + square, dz + j0 * size, lddz)

    return of_block


def _squared_error(real: Any, f: RowBlock, declared: Loss) -> Any:
    """The mean or sum over outputs of (y - t)^2, y = the output activation of z; dz through its derivative."""
    one, of_identity, sigmoid = real(1.0), f.maths.rule(declared.rule), f.maths.rule(sigmoid_rule)

    @jit.plain
    def of_sigmoid(z, t, parameter):
        y = sigmoid(z)
        loss, slope = of_identity(y, t, parameter)
        return loss, slope * (y * (one - y))

    identity = _sum_of_outputs(real, f, of_identity, declared.mean)
    logistic = _sum_of_outputs(real, f, of_sigmoid, declared.mean)
    softmax = _squared_error_of_softmax(real, f, declared.mean)

    @jit.inline
    def of_block(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch):
        if output == SOFTMAX:
            softmax(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch)
        elif output == SIGMOID:
            logistic(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch)
        else:
            identity(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch)

    return of_block


def _squared_error_of_softmax(real: Any, f: RowBlock, mean: bool) -> Any:
    lanes, size, lane_row, square, other_square = f.lanes, f.size, f.lane_row, f.square, f.other_square
    elements, padded, outputs = f.elements, f.padded, f.outputs
    transpose_in, transpose_out = f.transpose_in, f.transpose_out
    zero, one, two = real(0.0), real(1.0), real(2.0)

    @jit.inline
    def of_block(output, have_maximum, rows, columns, z, ldz, labels, target, ldt, dz, lddz, parameter, scratch):
        n, share, dot = padded(rows), one / real(columns) if mean else one, elements(scratch + OTHER * lane_row)
        s, value = elements(scratch + SCALE * lane_row), elements(scratch + VALUE * lane_row)
        outputs(output, rows, columns, z, ldz, dz, lddz, scratch)
        for r in range(n):
            value[r], dot[r] = zero, zero
        for forward in (True, False):
            for j0 in range(0, columns, lanes):
                width = min(lanes, columns - j0)
                if columns > lanes:
                    transpose_in(rows, width, dz + j0 * size, lddz, scratch + square)
                if columns > lanes or forward:
                    transpose_in(rows, width, target + j0 * size, ldt, scratch + other_square)
                for j in range(width):
                    y, t = elements(scratch + square + j * lane_row), elements(scratch + other_square + j * lane_row)
                    if forward:
                        for r in range(n):
                            error = y[r] - t[r]
                            value[r] += share * error * error
                            dot[r] += error * y[r]
                    else:
                        for r in range(n):
                            y[r] = two * share * s[r] * y[r] * (y[r] - t[r] - dot[r])
                if not forward:
                    transpose_out(rows, width, scratch + square, dz + j0 * size, lddz)

    return of_block


_OF_BLOCK: dict[str, Callable[[Any, RowBlock, Loss], Any]] = {  # by Loss.kernel
    "": _each_output,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "squared_error": _squared_error,
}

losses: dict[str, jit.Family] = {}  # by name, also those that programs declare later


def _follow(name: str, declared: Loss) -> None:
    losses[name] = _family(declared)


LOSSES.follow(_follow)


class OutputActivation(Protocol):
    """y (rows, columns) = the output activation of z, overwritten; y may be z."""

    def __call__(
        self, code: Code, rows: Size, columns: Size, z: Address, ldz: Stride, y: Address, ldy: Stride
    ) -> None: ...


@jit.kernel(like=OutputActivation)
def output(real: Any) -> Any:
    """The output activations, by their codes in row_blocks.py."""
    f = row_block(real)
    block, outputs, scratch_bytes = f.block, f.outputs, f.scratch_bytes

    def function(code, rows, columns, z, ldz, y, ldy):
        scratch = memory.stack(scratch_bytes)
        for row in range(0, rows, block):
            outputs(code, min(block, rows - row), columns, z + row * ldz, ldz, y + row * ldy, ldy, scratch)

    return function
