"""What the phases of a training step have to do: operations and bytes, counted from sizes alone.

Additions, multiplications, divisions and roots are operations, a multiply-add two of them; comparisons, choices and
work on bits are none, nor is what a loss does once a row. Bytes count each operand once, as if caches held it from its
first use to its last. Sizes are the network's own, without padding.
"""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np

from kernels.activations import ACTIVATIONS
from kernels.cpu.engine.layers.layer import kernels_of
from kernels.cpu.measure.timed_engine import TimedEngine
from kernels.engine.requests import TrainRequest
from kernels.losses import LossChoice, loss_and_parameter
from kernels.maths.functions import Bits, Maths, functions


def step_counts(engine: TimedEngine, request: TrainRequest) -> dict[tuple[int, str], tuple[int, int]]:
    """(operations, bytes) of each (layer, phase) of a requested step, after such a step; layers count from 0.

    The phases are those of `stamps.PHASES`.
    """
    x, target, weight, order = request.x, request.target, request.weight, request.batches.order
    rows, objective, descent = request.batches.size, request.objective, request.descent
    size, layout, dtype = engine.dtype.itemsize, engine.layout, engine.dtype.name
    n_inputs, n_outputs, last = layout.widths[0], layout.widths[-1], len(layout.stages) - 1
    schedule = engine.schedule
    decays, groups = bool(np.any(objective.l2)), max(schedule.gradient_groups, 1)
    result: dict[tuple[int, str], tuple[int, int]] = {}
    if engine.gathers_x:
        number = 0 if order is None else order.itemsize
        result[0, "gather"] = 0, rows * (n_inputs * (x.itemsize + size) + number)
    for n, stage in enumerate(engine.network.stages):
        o = stage.outputs
        n_weights, n_parameters = stage.w_rows * o, (stage.w_rows + stage.layer.bias) * o
        for phase, (operations, elements) in kernels_of(stage.layer).work(stage, rows, groups).items():
            if n > 0 or phase != "dx":
                result[n, phase] = operations, size * elements
        for phase, (operations, operands) in _of_activation(engine, n).items():
            result[n, phase] = rows * o * operations, operands * size * rows * o
        if n in schedule.transposed:
            result[n, "transpose"] = 0, 2 * size * n_weights
        if schedule.gradient_groups:
            result[n, "sum"] = (groups - 1) * n_parameters, size * (groups + 1) * n_parameters
        each = 2 + operations_of(descent.update.rule, dtype)  # g + l2 * w, then the step
        decayed = n_weights if decays and stage.layer.decays else 0
        result[n, "update"] = n_parameters * each + 2 * decayed, size * n_parameters * (3 + 2 * len(descent.state))
    if descent.clip_norm is not None:  # the norm, of what few steps scale
        n_parameters = sum((stage.w_rows + stage.layer.bias) * stage.outputs for stage in engine.network.stages)
        result[0, "clip"] = 2 * n_parameters, size * n_parameters
    # z, dz and the row's loss; whether it is right; target and weight, each as the caller has it and as the batch does
    a_row = (
        2 * size * n_outputs + 8 + (8 if objective.metric else 0) + (0 if weight is None else weight.itemsize + size)
    )
    a_row += target.itemsize + 8 if target.ndim == 1 else n_outputs * (target.itemsize + size)
    result[last, "loss"] = (
        rows * n_outputs * _operations_of_loss(dtype, objective.loss, engine.network.output, target.ndim == 1),
        rows * a_row,
    )
    return result


def _of_activation(engine: TimedEngine, n: int) -> dict[str, tuple[int, int]]:
    """(operations, operands) of each output of layer n, by phase: of its activation, and of dropout after it."""
    dtype, stage = engine.dtype.name, engine.network.stages[n]
    declared = ACTIVATIONS[stage.layer.activation]
    activation, derivative = [], []
    if engine.activates(n):  # else it is part of the product
        activation.append((operations_of(declared.function, dtype), 2))
    if not declared.is_identity:
        derivative.append((1 + operations_of(declared.slope, dtype), 3))
    if stage.dropout:  # where it draws bits and scales
        activation.append((1, 2))
        derivative.append((1, 2))
    found = {"activation": activation, "derivative": derivative}
    return {phase: (sum(a for a, _ in parts), sum(b for _, b in parts)) for phase, parts in found.items() if parts}


def _operations_of_loss(dtype: str, loss: LossChoice, output: str, labels: bool) -> int:
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
