"""Optimiser steps over a block of a flat buffer."""

from typing import Any

from .. import scalar
from . import jit, memory


@jit.kernel("d 3i 6i i d")
def update(real: Any) -> Any:
    """One step on w (rows, columns), in place; returns the sum of w^2 before it where l2 is not 0.

    `code` as in scalar.UPDATES. w, first and second (the optimiser's state) have rows `ldw` bytes apart, the gradient g
    rows `ldg` apart. scalars: eight float64, [rate, momentum, nesterov] for SGD, [rate, beta1, beta2, epsilon, 1 / (1 -
    beta1^t), 1 / (1 - beta2^t)] for Adam. l2 * w is added to the gradient.
    """
    f = scalar.functions(real, jit.inline, memory.float_bits(real))
    elements, doubles = memory.pointer(real), memory.pointer(jit.REAL["float64"])
    one_sgd, one_adam = f.sgd, f.adam

    @jit.inline
    def sum_of_squares(n, w):
        s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(0, n - 7, 8):
            s0 += w[j] * w[j]
            s1 += w[j + 1] * w[j + 1]
            s2 += w[j + 2] * w[j + 2]
            s3 += w[j + 3] * w[j + 3]
            s4 += w[j + 4] * w[j + 4]
            s5 += w[j + 5] * w[j + 5]
            s6 += w[j + 6] * w[j + 6]
            s7 += w[j + 7] * w[j + 7]
        for j in range(n // 8 * 8, n):
            s0 += w[j] * w[j]
        return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))

    @jit.inline
    def gradient_descent(n, w, g, rate, decay):
        for j in range(n):
            w[j] = w[j] - rate * (g[j] + decay * w[j])

    @jit.inline
    def momentum_descent(n, w, g, velocity, rate, momentum, nesterov, decay):
        for j in range(n):
            w[j], velocity[j] = one_sgd(w[j], g[j] + decay * w[j], velocity[j], rate, momentum, nesterov)

    @jit.inline
    def adam(n, w, g, m, v, rate, beta1, share1, beta2, share2, epsilon, correction1, correction2, decay):
        for j in range(n):
            w[j], m[j], v[j] = one_adam(
                w[j], g[j] + decay * w[j], m[j], v[j], rate, beta1, share1, beta2, share2, epsilon, correction1,
                correction2,
            )  # fmt: skip

    def function(code, rows, columns, w, ldw, g, ldg, first, second, scalars, l2):
        p, decay, squares = doubles(scalars), real(l2), 0.0
        for r in range(rows):
            w_row, g_row = elements(w + r * ldw), elements(g + r * ldg)
            first_row, second_row = elements(first + r * ldw), elements(second + r * ldw)
            if l2 != 0.0:
                squares += sum_of_squares(columns, w_row)
            if code == 1:
                adam(
                    columns, w_row, g_row, first_row, second_row, real(p[0]), real(p[1]), real(1.0 - p[1]), real(p[2]),
                    real(1.0 - p[2]), real(p[3]), real(p[4]), real(p[5]), decay,
                )  # fmt: skip
            elif first == 0:
                gradient_descent(columns, w_row, g_row, real(p[0]), decay)
            else:
                momentum_descent(columns, w_row, g_row, first_row, real(p[0]), real(p[1]), p[2] != 0.0, decay)
        return squares

    return function
