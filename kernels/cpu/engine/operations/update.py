"""Optimiser steps over a block of a flat buffer."""

from typing import Any, Protocol

from kernels import scalar
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, I, Matrix, O
from kernels.cpu.ir import memory
from kernels.cpu.ir.adam_avx512 import rows_of_adam
from kernels.cpu.ir.masked_rows import rows_of_sgd
from kernels.cpu.ir.maths import maths_of


class Update(Protocol):
    """One step on w, in place; returns the sum of w^2 before it where l2 is not 0.

    g: the gradient, to which l2 * w is added. first, second: the optimiser's state, with rows as far apart as those of
    w. scalars: eight float64, see each kernel.
    """

    def __call__(
        self, w: Matrix[I, O], g: Matrix[I, O], first: Address, second: Address, scalars: Address, l2: float
    ) -> float: ...


@jit.kernel(like=Update)
def sgd(real: Any) -> Any:
    """scalars: rate, momentum, nesterov. first: the velocity, or address 0 without momentum."""
    step = maths_of(real).rule(scalar.sgd)
    elements, doubles = memory.pointer(real), memory.pointer(jit.REAL["float64"])
    squares = sum_of_squares(real)

    @jit.inline
    def one_by_one(rows, columns, w, ldw, g, ldg, rate, decay):
        for r in range(rows):
            w_row, g_row = elements(w + r * ldw), elements(g + r * ldg)
            for j in range(columns):
                w_row[j] = w_row[j] - rate * (g_row[j] + decay * w_row[j])

    step_on_rows = rows_of_sgd(real) or one_by_one

    def function(w, g, first, second, scalars, l2):
        p, decay, total = doubles(scalars), real(l2), 0.0
        rate, momentum, nesterov = real(p[0]), real(p[1]), p[2] != 0.0
        if l2 != 0.0:
            for r in range(w.rows):
                total += squares(w.columns, w[r])
        if first == 0:
            step_on_rows(w.rows, w.columns, w.address, w.stride, g.address, g.stride, rate, decay)
            return total
        for r in range(w.rows):
            w_row, g_row, v_row = w[r], g[r], elements(first + r * w.stride)
            for j in range(w.columns):
                w_row[j], v_row[j] = step(
                    w_row[j], g_row[j] + decay * w_row[j], v_row[j], rate, momentum, nesterov
                )  # fmt: skip
        return total

    return function


@jit.kernel(like=Update)
def adam(real: Any) -> Any:
    """scalars: rate, beta1, beta2, epsilon, 1 / (1 - beta1^t), 1 / (1 - beta2^t). first, second: m and v."""
    step = maths_of(real).rule(scalar.adam)
    elements, doubles = memory.pointer(real), memory.pointer(jit.REAL["float64"])
    squares = sum_of_squares(real)

    @jit.inline
    def one_by_one(
        rows, columns, w, ldw, g, ldg, first, second, rate, beta1, share1, beta2, share2, epsilon, correction1,
        correction2, decay,
    ):  # fmt: skip
        for r in range(rows):
            w_row, g_row = elements(w + r * ldw), elements(g + r * ldg)
            m_row, v_row = elements(first + r * ldw), elements(second + r * ldw)
            for j in range(columns):
                w_row[j], m_row[j], v_row[j] = step(
                    w_row[j], g_row[j] + decay * w_row[j], m_row[j], v_row[j], rate, beta1, share1, beta2, share2,
                    epsilon, correction1, correction2,
                )  # fmt: skip

    step_on_rows = rows_of_adam(real) or one_by_one

    def function(w, g, first, second, scalars, l2):
        p, total = doubles(scalars), 0.0
        if l2 != 0.0:
            for r in range(w.rows):
                total += squares(w.columns, w[r])
        step_on_rows(
            w.rows, w.columns, w.address, w.stride, g.address, g.stride, first, second, real(p[0]), real(p[1]),
            real(1.0 - p[1]), real(p[2]), real(1.0 - p[2]), real(p[3]), real(p[4]), real(p[5]), real(l2),
        )  # fmt: skip
        return total

    return function


def sum_of_squares(wide: Any) -> Any:
    """A function (n, address as a pointer) -> the sum of n elements' squares, in float64; each square is `wide`."""

    @jit.plain
    def square(value):
        return wide(value) * wide(value)

    @jit.plain
    def sum_of_squares(n, w):
        # eight sums side by side: one would wait for each addition, and fast-math may not reorder it
        s0, s1, s2, s3, s4, s5, s6, s7 = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for j in range(0, n - 7, 8):
            s0 += square(w[j])
            s1 += square(w[j + 1])
            s2 += square(w[j + 2])
            s3 += square(w[j + 3])
            s4 += square(w[j + 4])
            s5 += square(w[j + 5])
            s6 += square(w[j + 6])
            s7 += square(w[j + 7])
        for j in range(n // 8 * 8, n):
            s0 += square(w[j])
        return ((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))

    return sum_of_squares


updates = {"sgd": sgd, "adam": adam}
