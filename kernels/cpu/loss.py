"""Losses and their gradients with respect to what the last product made, fused with the output activation."""

import math
from types import SimpleNamespace
from typing import Any

from numba import types

from .. import scalar
from . import floats, jit, memory

IDENTITY, SIGMOID, SOFTMAX, EXP = 0, 1, 2, 3  # the output activation
NO_METRIC, LARGEST_IS_LABEL, LARGEST_IS_LARGEST, ALL_OUTPUTS = 0, 1, 2, 3  # what makes a row right

# output, rows, columns, z, ldz, target, ldt, weight, scale, dz, lddz, metric, row_loss, right. The loss of z (rows,
# columns) and dz, its gradient, overwritten; returns the sum of weight * row loss, unscaled. output: the output
# activation, which counts for squared errors alone (the others take logits). target: (rows, columns), rows `ldt`
# bytes apart; for softmax cross-entropy with ldt 0, int64 labels. weight: one per row, or address 0. dz is that of
# scale * weight * row loss; dz may be z. row_loss and right (float64, by `metric`) receive a value per row where not 0.
SIGNATURE = "d 3i 2i 2i i d 2i 3i"


@jit.kernel(SIGNATURE)
def softmax_cross_entropy(real: Any) -> Any:
    """-sum_o t log softmax(z): through log-sum-exp, dz = softmax(z) * sum(t) - t."""
    f = _parts(real)
    elements, doubles, integers, exponentials = f.elements, f.doubles, f.integers, f.exponentials
    is_right, largest_value, zero, one = f.is_right, f.largest_value, real(0.0), real(1.0)

    def function(output, rows, columns, z, ldz, target, ldt, weight, scale, dz, lddz, metric, row_loss, right):
        sum_of_losses = 0.0
        for r in range(rows):
            z_row, dz_row, t_row = elements(z + r * ldz), elements(dz + r * lddz), elements(target + r * ldt)
            label = integers(target)[r] if ldt == 0 else 0
            w = elements(weight)[r] if weight != 0 else one
            if right != 0:
                doubles(right)[r] = is_right(metric, columns, z_row, t_row, label, zero)
            s = real(scale) * w
            top = largest_value(columns, z_row)
            if ldt == 0:
                value = top - z_row[label]
                total = exponentials(columns, z_row, top, dz_row)
                factor = s / total
                for j in range(columns):
                    dz_row[j] = dz_row[j] * factor
                dz_row[label] -= s
                value += real(math.log(total))
            else:
                mass, dot = zero, zero
                for j in range(columns):
                    mass += t_row[j]
                    dot += t_row[j] * (z_row[j] - top) if t_row[j] != zero else zero
                total = exponentials(columns, z_row, top, dz_row)
                factor = mass * s / total
                for j in range(columns):
                    dz_row[j] = dz_row[j] * factor - s * t_row[j]
                value = mass * real(math.log(total)) - dot
            sum_of_losses += w * value
            if row_loss != 0:
                doubles(row_loss)[r] = w * value
        return sum_of_losses

    return function


@jit.kernel(SIGNATURE)
def sigmoid_cross_entropy(real: Any) -> Any:
    """The sum over outputs of max(z, 0) - z t + log1p(exp(-|z|)); dz = sigmoid(z) - t."""
    f = _parts(real)
    elements, doubles, is_right, cross_entropy, sigmoid = (
        f.elements, f.doubles, f.is_right, f.scalar.sigmoid_cross_entropy, f.scalar.sigmoid,
    )  # fmt: skip
    zero, one = real(0.0), real(1.0)

    def function(output, rows, columns, z, ldz, target, ldt, weight, scale, dz, lddz, metric, row_loss, right):
        sum_of_losses = 0.0
        for r in range(rows):
            z_row, dz_row, t_row = elements(z + r * ldz), elements(dz + r * lddz), elements(target + r * ldt)
            w = elements(weight)[r] if weight != 0 else one
            if right != 0:
                doubles(right)[r] = is_right(metric, columns, z_row, t_row, 0, zero)
            s, value = real(scale) * w, zero
            for j in range(columns):
                value += cross_entropy(z_row[j], t_row[j])
            for j in range(columns):
                dz_row[j] = s * (sigmoid(z_row[j]) - t_row[j])
            sum_of_losses += w * value
            if row_loss != 0:
                doubles(row_loss)[r] = w * value
        return sum_of_losses

    return function


@jit.kernel(SIGNATURE)
def poisson(real: Any) -> Any:
    """The sum over outputs of t (log(t) - z) - t + exp(z); dz = exp(z) - t."""
    f = _parts(real)
    elements, doubles, exp, zero, one = f.elements, f.doubles, f.scalar.exp, real(0.0), real(1.0)

    def function(output, rows, columns, z, ldz, target, ldt, weight, scale, dz, lddz, metric, row_loss, right):
        sum_of_losses = 0.0
        for r in range(rows):
            z_row, dz_row, t_row = elements(z + r * ldz), elements(dz + r * lddz), elements(target + r * ldt)
            w = elements(weight)[r] if weight != 0 else one
            s, value = real(scale) * w, zero
            for j in range(columns):
                if t_row[j] > zero:
                    value += t_row[j] * (real(math.log(t_row[j])) - z_row[j])
            for j in range(columns):
                dz_row[j] = exp(z_row[j])
            for j in range(columns):
                error = dz_row[j] - t_row[j]
                value += error
                dz_row[j] = s * error
            sum_of_losses += w * value
            if row_loss != 0:
                doubles(row_loss)[r] = w * value
        return sum_of_losses

    return function


def _squared_error(name: str, mean: bool) -> jit.Family:
    @jit.kernel(SIGNATURE, name)
    def squared_error(real: Any) -> Any:
        """The mean or sum over outputs of (y - t)^2, y = the output activation of z; dz through its derivative."""
        f = _parts(real)
        elements, doubles, exponentials, is_right = f.elements, f.doubles, f.exponentials, f.is_right
        largest_value, sigmoid = f.largest_value, f.scalar.sigmoid
        zero, half, one, two = real(0.0), real(0.5), real(1.0), real(2.0)

        def function(output, rows, columns, z, ldz, target, ldt, weight, scale, dz, lddz, metric, row_loss, right):
            sum_of_losses = 0.0
            for r in range(rows):
                z_row, dz_row, t_row = elements(z + r * ldz), elements(dz + r * lddz), elements(target + r * ldt)
                w = elements(weight)[r] if weight != 0 else one
                if right != 0:
                    threshold = half if output == IDENTITY else zero
                    doubles(right)[r] = is_right(metric, columns, z_row, t_row, 0, threshold)
                factor = two * real(scale) * w
                if mean:
                    factor = factor / real(columns)
                if output == SIGMOID:
                    for j in range(columns):
                        dz_row[j] = sigmoid(z_row[j])
                elif output == SOFTMAX:
                    total = exponentials(columns, z_row, largest_value(columns, z_row), dz_row)
                    for j in range(columns):
                        dz_row[j] = dz_row[j] / total
                else:
                    for j in range(columns):
                        dz_row[j] = z_row[j]
                value, dot = zero, zero
                for j in range(columns):
                    error = dz_row[j] - t_row[j]
                    value += error * error
                    dot += factor * error * dz_row[j]
                if mean:
                    value = value / real(columns)
                if output == SOFTMAX:
                    for j in range(columns):
                        dz_row[j] = dz_row[j] * (factor * (dz_row[j] - t_row[j]) - dot)
                elif output == SIGMOID:
                    for j in range(columns):
                        dz_row[j] = factor * (dz_row[j] - t_row[j]) * (dz_row[j] * (one - dz_row[j]))
                else:
                    for j in range(columns):
                        dz_row[j] = factor * (dz_row[j] - t_row[j])
                sum_of_losses += w * value
                if row_loss != 0:
                    doubles(row_loss)[r] = w * value
            return sum_of_losses

        return function

    return squared_error


losses = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "mean_squared_error": _squared_error("mean_squared_error", mean=True),
    "sum_squared_error": _squared_error("sum_squared_error", mean=False),
    "poisson": poisson,
}


@jit.kernel("v 7i")
def output(real: Any) -> Any:
    """y (rows, columns) = the output activation of z: code, rows, columns, z, ldz, y, ldy; overwritten; y may be z."""
    f = _parts(real)
    elements, exponentials, largest_value = f.elements, f.exponentials, f.largest_value
    exp, sigmoid = f.scalar.exp, f.scalar.sigmoid

    def function(code, rows, columns, z, ldz, y, ldy):
        for r in range(rows):
            z_row, y_row = elements(z + r * ldz), elements(y + r * ldy)
            if code == SIGMOID:
                for j in range(columns):
                    y_row[j] = sigmoid(z_row[j])
            elif code == EXP:
                for j in range(columns):
                    y_row[j] = exp(z_row[j])
            elif code == SOFTMAX:
                total = exponentials(columns, z_row, largest_value(columns, z_row), y_row)
                for j in range(columns):
                    y_row[j] = y_row[j] / total
            else:
                for j in range(columns):
                    y_row[j] = z_row[j]

    return function


def _parts(real: Any) -> SimpleNamespace:
    """What the kernels here have in common."""
    scalars = scalar.functions(real, jit.inline, floats.bits(real))
    exp, zero, half = scalars.exp, real(0.0), real(0.5)

    @jit.inline
    def largest(columns, z):
        best = 0
        for j in range(1, columns):
            if z[j] > z[best]:
                best = j
        return best

    @jit.inline
    def largest_value(columns, z):
        top = z[0]
        for j in range(1, columns):
            top = z[j] if z[j] > top else top
        return top

    @jit.inline
    def exponentials(columns, z, top, p):
        """p = exp(z - top); returns the sum."""
        for j in range(columns):
            p[j] = exp(z[j] - top)
        total = zero
        for j in range(columns):
            total += p[j]
        return total

    @jit.inline
    def is_right(metric, columns, z, target, label, threshold):
        if metric == LARGEST_IS_LABEL:
            return 1.0 if largest(columns, z) == label else 0.0
        if metric == LARGEST_IS_LARGEST:
            return 1.0 if largest(columns, z) == largest(columns, target) else 0.0
        right = 1.0
        for j in range(columns):
            if (z[j] > threshold) != (target[j] > half):
                right = 0.0
        return right

    return SimpleNamespace(
        scalar=scalars, elements=memory.pointer(real), doubles=memory.pointer(types.float64),
        integers=memory.pointer(types.int64), largest_value=largest_value, exponentials=exponentials, is_right=is_right,
    )  # fmt: skip
