"""Losses and their gradients with respect to what the last product made, fused with the output activation."""

import math
from typing import Any

from numba import types

from .. import scalar
from . import jit, memory

IDENTITY, SIGMOID, SOFTMAX = 0, 1, 2  # the output activation
NO_METRIC, LARGEST_IS_LABEL, LARGEST_IS_LARGEST, ALL_OUTPUTS = 0, 1, 2, 3  # what makes a row right


@jit.kernel("d 2i 2i 2i 2i i d 2i 3i")
def loss(real: Any) -> Any:
    """The loss of z (rows, columns) and dz, its gradient, overwritten; returns the sum of weight * row loss, unscaled.

    code as in scalar.LOSSES; output: the output activation, which counts for squared errors alone (cross-entropies take
    logits). target: for softmax cross-entropy with ldt 0, int64 labels; otherwise (rows, columns), rows `ldt`
    bytes apart. weight: one per row, or 0 for none. dz is of scale * weight * row loss. row_loss (float64) and right
    (float64, by `metric`) receive one value per row where they are not 0. dz may be z.
    """
    f = scalar.functions(real, jit.inline, memory.float_bits(real))
    elements, doubles, integers = memory.pointer(real), memory.pointer(types.float64), memory.pointer(types.int64)
    exp, sigmoid, binary_cross_entropy = f.exp, f.sigmoid, f.sigmoid_cross_entropy
    zero, one, two, half = real(0.0), real(1.0), real(2.0), real(0.5)

    @jit.inline
    def largest(columns, z):
        best = 0
        for j in range(1, columns):
            if z[j] > z[best]:
                best = j
        return best

    @jit.inline
    def softmax_row(columns, z, p):
        """p = exp(z - max z); returns the max and the sum."""
        top = z[largest(columns, z)]
        for j in range(columns):
            p[j] = exp(z[j] - top)
        total = zero
        for j in range(columns):
            total += p[j]
        return top, total

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

    def function(code, output, rows, columns, z, ldz, target, ldt, weight, scale, dz, lddz, metric, row_loss, right):
        sum_of_losses = 0.0
        for r in range(rows):
            z_row, dz_row, t_row = elements(z + r * ldz), elements(dz + r * lddz), elements(target + r * ldt)
            label = integers(target)[r] if code == 0 and ldt == 0 else 0
            w = elements(weight)[r] if weight != 0 else one
            if right != 0:
                doubles(right)[r] = is_right(
                    metric, columns, z_row, t_row, label, half if output == IDENTITY and code != 1 else zero
                )
            s = real(scale) * w
            value = 0.0
            if code == 0:
                if ldt == 0:
                    chosen = z_row[label]
                    top, total = softmax_row(columns, z_row, dz_row)
                    value = math.log(total) + (top - chosen)
                    factor = s / total
                    for j in range(columns):
                        dz_row[j] = dz_row[j] * factor
                    dz_row[label] -= s
                else:
                    top = z_row[largest(columns, z_row)]
                    mass, dot = zero, zero
                    for j in range(columns):
                        mass += t_row[j]
                        dot += t_row[j] * (z_row[j] - top) if t_row[j] != zero else zero
                    top, total = softmax_row(columns, z_row, dz_row)
                    value = mass * math.log(total) - dot
                    factor = mass * s / total
                    for j in range(columns):
                        dz_row[j] = dz_row[j] * factor - s * t_row[j]
            elif code == 1:
                total = zero
                for j in range(columns):
                    total += binary_cross_entropy(z_row[j], t_row[j])
                for j in range(columns):
                    dz_row[j] = s * (sigmoid(z_row[j]) - t_row[j])
                value = total
            else:
                factor = two * s / real(columns) if code == 2 else two * s
                if output == SIGMOID:
                    for j in range(columns):
                        dz_row[j] = sigmoid(z_row[j])
                elif output == SOFTMAX:
                    top, total = softmax_row(columns, z_row, dz_row)
                    for j in range(columns):
                        dz_row[j] = dz_row[j] / total
                else:
                    for j in range(columns):
                        dz_row[j] = z_row[j]
                total, dot = zero, zero
                for j in range(columns):
                    y = dz_row[j]
                    error = y - t_row[j]
                    total += error * error
                    dot += factor * error * y
                value = total / real(columns) if code == 2 else total
                for j in range(columns):
                    y = dz_row[j]
                    slope = y * (one - y) if output == SIGMOID else one
                    dz_row[j] = (
                        y * (factor * (y - t_row[j]) - dot) if output == SOFTMAX else factor * (y - t_row[j]) * slope
                    )
            sum_of_losses += w * value
            if row_loss != 0:
                doubles(row_loss)[r] = w * value
        return sum_of_losses

    return function


@jit.kernel("v 7i")
def output(real: Any) -> Any:
    """y (rows, columns) = the output activation of z, overwritten; y may be z."""
    f = scalar.functions(real, jit.inline, memory.float_bits(real))
    elements = memory.pointer(real)
    exp, sigmoid = f.exp, f.sigmoid

    def function(code, rows, columns, z, ldz, y, ldy):
        for r in range(rows):
            z_row, y_row = elements(z + r * ldz), elements(y + r * ldy)
            if code == SIGMOID:
                for j in range(columns):
                    y_row[j] = sigmoid(z_row[j])
            elif code == SOFTMAX:
                top = z_row[0]
                for j in range(1, columns):
                    if z_row[j] > top:
                        top = z_row[j]
                for j in range(columns):
                    y_row[j] = exp(z_row[j] - top)
                total = real(0.0)
                for j in range(columns):
                    total += y_row[j]
                for j in range(columns):
                    y_row[j] = y_row[j] / total
            else:
                for j in range(columns):
                    y_row[j] = z_row[j]

    return function
