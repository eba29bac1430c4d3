"""What the phases of a training step have to do: operations and bytes, counted from sizes alone.

Additions, multiplications, divisions and roots are operations, a multiply-add two of them; comparisons, choices and
work on bits are none, nor is what a loss does once a row. Bytes count each operand once, as if caches held it from its
first use to its last. Sizes are the network's own, without padding.
"""

import inspect
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np

from kernels.activations import ACTIVATIONS
from kernels.cpu.measure.timed_engine import TimedEngine
from kernels.losses import LossChoice, loss_and_parameter
from kernels.maths.functions import Bits, Maths, functions
from kernels.optimizers.declaration import Update


def step_counts(
    engine: TimedEngine,
    x: np.ndarray,
    target: np.ndarray,
    *,
    rows: int,
    order: np.ndarray | None,
    weight: np.ndarray | None,
    loss: LossChoice,
    metric: str | None,
    update: Update,
    state: list[np.ndarray],
    l2: float,
    clips: bool,
) -> dict[tuple[int, str], tuple[int, int]]:
    """(operations, bytes) of each (layer, phase) of a step on `rows` rows, after a step; layers count from 0.

    The arguments are those of `Engine.train`, the phases those of `stamps.PHASES`.
    """
    size, layout, dtype = engine.dtype.itemsize, engine.layout, engine.dtype.name
    n_inputs, n_outputs, last = layout.widths[0], layout.widths[-1], len(layout.widths) - 2
    schedule = engine.schedule
    groups = max(schedule.gradient_groups, 1)
    result: dict[tuple[int, str], tuple[int, int]] = {}
    if engine.gathers_x:
        number = 0 if order is None else order.itemsize
        result[0, "gather"] = 0, rows * (n_inputs * (x.itemsize + size) + number)
    for n, (i, o) in enumerate(pairwise(layout.widths)):
        w, b = i * o, o if layout.bias else 0
        product = 2 * rows * w, size * (rows * (i + o) + w)
        result[n, "forward"] = product[0], product[1] + size * b
        for phase, (operations, operands) in _of_activation(engine, n).items():
            result[n, phase] = rows * o * operations, operands * size * rows * o
        if n > 0:
            result[n, "dx"] = product
        if n in schedule.transposed:
            result[n, "transpose"] = 0, 2 * size * w
        result[n, "dw"] = product[0] + rows * b, size * (rows * (i + o) + groups * (w + b))
        if schedule.gradient_groups:
            result[n, "sum"] = (groups - 1) * (w + b), size * (groups + 1) * (w + b)
        each = 2 + operations_of(update.rule, dtype)  # g + l2 * w, then the step
        result[n, "update"] = (w + b) * each + (2 * w if l2 else 0), size * (w + b) * (3 + 2 * len(state))
    if clips:  # the norm, of what few steps scale
        n_parameters = sum(i * o + (o if layout.bias else 0) for i, o in pairwise(layout.widths))
        result[0, "clip"] = 2 * n_parameters, size * n_parameters
    # z, dz and the row's loss; whether it is right; target and weight, each as the caller has it and as the batch does
    a_row = 2 * size * n_outputs + 8 + (8 if metric else 0) + (0 if weight is None else weight.itemsize + size)
    a_row += target.itemsize + 8 if target.ndim == 1 else n_outputs * (target.itemsize + size)
    result[last, "loss"] = rows * n_outputs * _of_loss(dtype, loss, engine.output, target.ndim == 1), rows * a_row
    return result


def _of_activation(engine: TimedEngine, n: int) -> dict[str, tuple[int, int]]:
    """(operations, operands) of each output of layer n, by phase: of its activation, and of dropout after it."""
    dtype, last = engine.dtype.name, len(engine.layout.widths) - 2
    chosen = engine.activations[n] if n < last else ACTIVATIONS["identity"]
    activation, derivative = [], []
    if chosen.floor is None:  # else it is part of the product
        activation.append((operations_of(chosen.function, dtype), 2))
    if not chosen.is_identity:
        derivative.append((1 + operations_of(chosen.slope, dtype), 3))
    if n < len(engine.dropout) and engine.dropout[n]:  # where it draws bits and scales
        activation.append((1, 2))
        derivative.append((1, 2))
    found = {"activation": activation, "derivative": derivative}
    return {phase: (sum(a for a, _ in parts), sum(b for _, b in parts)) for phase, parts in found.items() if parts}


def _of_loss(dtype: str, loss: LossChoice, output: str, labels: bool) -> int:
    """Operations of a loss and its gradient for each output."""
    declared, parameter = loss_and_parameter(loss)
    by_row = declared.work(output, labels, parameter) if declared.work else None
    if by_row is not None:
        return operations_of(by_row, dtype)
    # the rule, and an output's share, of a mean, in the row's loss and in the gradient
    operations = operations_of(declared.rule, dtype) + (4 if declared.mean else 2)
    activation = ACTIVATIONS["identity" if declared.reads == "z" else output]
    if not activation.is_identity:
        operations += operations_of(activation.function, dtype) + operations_of(activation.slope, dtype) + 1
    return operations


@cache
def _counting(dtype: str) -> Maths:
    count = _Number()
    free = count.free
    return functions(dtype, lambda f: f, Bits(free, free, free, free, count.operation))


@cache
def operations_of(rule: Callable[..., Any], dtype: str) -> int:
    """How many operations a rule makes, found by running it on numbers that count them."""
    function = _counting(dtype).rule(rule)
    _Number.operations = 0
    try:
        function(*[_Number()] * len(inspect.signature(function).parameters))
    except (TypeError, AttributeError) as error:  # a program's, which may do what numbers alone can
        raise ValueError(f"the operations of {rule.__name__} cannot be counted: {error}") from error
    return _Number.operations


class _Number:
    """Stands for any number, and counts the operations on it."""

    operations: ClassVar[int] = 0
    __array_ufunc__ = None  # NumPy's numbers leave arithmetic with it to it
    __hash__ = None  # type: ignore[assignment]

    def operation(self, *others: Any) -> "_Number":
        _Number.operations += 1
        return self

    def free(self, *others: Any) -> "_Number":
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = operation
    __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __and__ = free
    __eq__ = __ne__ = free  # type: ignore[assignment]
