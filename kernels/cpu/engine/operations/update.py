"""Optimiser steps over a block of a flat buffer."""

import functools
from collections.abc import Callable
from typing import Any, Protocol

from kernels import deferred
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, I, Matrix, O
from kernels.cpu.ir import memory
from kernels.cpu.ir.maths import maths_of
from kernels.declarations.sources import rule_hash
from kernels.deferred import types
from kernels.optimizers.adam import adam
from kernels.optimizers.declaration import Update, known_updates
from kernels.optimizers.sgd import sgd

adam_avx512 = deferred.module("kernels.cpu.ir.adam_avx512")
masked_rows = deferred.module("kernels.cpu.ir.masked_rows")

# Code by hand for rows of parameters, by the rule that it is of. Each makes a function (rows, columns, w, ldw, g, ldg,
# the slots' addresses, the scalars, l2) for a dtype, or None where this machine is better off without
BY_HAND: dict[Callable[..., Any], Callable[[Any], Any]] = {
    sgd: lambda real: masked_rows.rows_of_sgd(real),
    adam: lambda real: adam_avx512.rows_of_adam(real),
}


class Step(Protocol):
    """One step on w, in place; returns the sum of w^2 before it where l2 is not 0.

    g: the gradient, to which l2 * w is added. slots: int64, the bytes from w to each of the optimiser's arrays, which
    have rows as far apart as those of w. scalars: float64, the update's.
    """

    def __call__(self, w: Matrix[I, O], g: Matrix[I, O], slots: Address, scalars: Address, l2: float) -> float: ...


def kernels_of(update: Update) -> jit.Family:
    """The kernels of an update, which have the name of its rule."""
    return _kernels_of(update.name, update.rule, len(update.slots), len(update.names))


@functools.cache
def _kernels_of(name: str, rule: Any, n_slots: int, n_scalars: int) -> jit.Family:
    @jit.kernel(like=Step, name=name, stamp=f"{rule_hash(rule)}{n_slots}")
    def make(real: Any) -> Any:
        by_hand = BY_HAND.get(rule, _none)(real)
        rows_step = _unpacking(real, by_hand or _one_by_one(real, rule, n_slots, n_scalars), n_slots, n_scalars)
        squares = sum_of_squares(real)

        def function(w, g, slots, scalars, l2):
            total = 0.0
            if l2 != 0.0:
                for r in range(w.rows):
                    total += squares(w.columns, w[r])
            rows_step(w.rows, w.columns, w.address, w.stride, g.address, g.stride, slots, scalars, real(l2))
            return total

        return function

    return make


def _none(real: Any) -> None:
    return None


def _function(text: str, **scope: Any) -> Any:
    """The function `rows_step` of this text, for use inside kernels."""
    exec(text, scope)
    return jit.inline(scope["rows_step"])


def _unpacking(real: Any, step: Any, n_slots: int, n_scalars: int) -> Any:
    """step, called with where the slots and the scalars are, in place of each of them."""
    slots = "".join(f"w + slots[{k}], " for k in range(n_slots))
    scalars = "".join(f"real(scalars[{k}]), " for k in range(n_scalars))
    return _function(
        f"""
def rows_step(rows, columns, w, ldw, g, ldg, slots_at, scalars_at, l2):
    slots, scalars = integers(slots_at), doubles(scalars_at)
    step(rows, columns, w, ldw, g, ldg, {slots}{scalars}l2)
""",
        step=step, real=real, integers=memory.pointer(types.int64), doubles=memory.pointer(types.float64),
    )  # fmt: skip


def _one_by_one(real: Any, rule: Callable[..., Any], n_slots: int, n_scalars: int) -> Any:
    """The rule on rows of parameters, one element after the other: LLVM makes vector code of it."""
    arrays = ["w", "g", *(f"s{k}" for k in range(n_slots))]
    strides = ["ldw", "ldg", *["ldw"] * n_slots]
    written = [name for name in arrays if name != "g"]
    slots, scalars = "".join(f"{name}, " for name in arrays[2:]), "".join(f"c{k}, " for k in range(n_scalars))
    rows = "; ".join(f"{name}_row = {name} + r * {stride}" for name, stride in zip(arrays, strides))
    kept = "".join(f"read_{name}({name}_row, j), " for name in arrays[2:])
    writes = "; ".join(f"write_{name}({name}_row, j, new_{name})" for name in written)
    access = {
        f"{kind}_{name}": function
        for name, pair in zip(arrays, memory.apart(real, len(arrays)))
        for kind, function in zip(("read", "write"), pair)
    }
    return _function(
        f"""
def rows_step(rows, columns, w, ldw, g, ldg, {slots}{scalars}l2):
    for r in range(rows):
        {rows}
        for j in range(columns):
            x = read_w(w_row, j)
            {"".join(f"new_{name}, " for name in written)} = rule(x, read_g(g_row, j) + l2 * x, {kept}{scalars})
            {writes}
""",
        rule=maths_of(real).rule(rule), **access,
    )  # fmt: skip


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


def declared() -> None:
    """Make the families of all that is known: callers that are loaded from the cache look for them by name."""
    for update in known_updates():
        kernels_of(update)


declared()
