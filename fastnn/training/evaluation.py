"""How good a network is on given rows: its loss, and its accuracy or coefficient of determination."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import inputs
from kernels.losses import LossChoice, loss_and_parameter

NEARLY_EQUAL = 2.0**-30  # differences from the mean, relative to it, that rounding may have made


@dataclass(frozen=True, eq=False)
class EvaluateRequest:
    """What to measure a network on: all rows of checked input, or `rows`, the numbers of some.

    weight: float64 (n,), what each row counts in all that is measured; None where all count alike. X may be what the
    engine's `place` made of it; `values` is then what it made of the target's.
    """

    X: Any
    target: inputs.Targets
    loss: LossChoice
    rows: np.ndarray | None = None
    weight: np.ndarray | None = None
    values: Any = None


def measure(model: Any, request: EvaluateRequest) -> dict[str, float]:
    """{"loss", "accuracy"}, or {"loss", "r2"} where there are no classes."""
    X, target, loss, rows, weight = request.X, request.target, request.loss, request.rows, request.weight
    values = target.values if request.values is None else request.values
    n = len(X) if rows is None else len(rows)
    counted = slice(None) if rows is None else rows
    mass = n if weight is None else float(weight[counted].sum())
    total, right, residual, spread = 0.0, 0.0, np.zeros(model.layers[-1]), np.zeros(model.layers[-1])
    mean = 0.0
    if target.metric is None:
        numbers = inputs.on_host(target.values)
        mean = sum(_sum(numbers[part], weight, part) for part in _parts(model, n, rows)) / mass
    for part in _parts(model, n, rows):
        out, x, y = None, X, values
        order = None if isinstance(part, slice) else part
        if order is None:  # read where they lie
            x, y = X[part], values[part]
        if target.metric is None:
            out = np.empty((len(x) if order is None else len(order), model.layers[-1]), model.dtype)
        losses, hits = model.engine().forward(
            x, order=order, out=out, target=y, weight=weight if order is not None or weight is None else weight[part],
            loss=loss, metric=target.metric, among=n,
        )  # fmt: skip
        total += float(losses.sum())
        right += float(_sum(hits, weight, part)) if target.metric else 0.0
        if out is not None:
            y = numbers[part].astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):  # a network that diverges has an R2 of -inf or NaN
                residual += _sum((out - y) ** 2, weight, part)
            spread += _sum((y - mean) ** 2, weight, part)
    result = {"loss": total / mass if loss_and_parameter(loss)[0].averaged else total}
    if target.metric:
        return result | {"accuracy": right / mass}
    near = np.sqrt(spread / mass) <= NEARLY_EQUAL * np.abs(mean)
    if near.any():
        spread[near & _unvarying(numbers[counted], None if weight is None else weight[counted])] = 0.0
    return result | {"r2": r2(residual, spread)}


def _unvarying(y: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Which outputs have the same target in all rows that count: their mean may be rounded, and differ from them."""
    y = y if weight is None else y[weight > 0]
    return np.all(y == y[:1], axis=0)


def _sum(values: np.ndarray, weight: np.ndarray | None, part: slice | np.ndarray) -> Any:
    """The sum over the rows `part`, each times its weight."""
    return values.sum(0, dtype=np.float64) if weight is None else weight[part] @ values


def _parts(model: Any, n: int, rows: np.ndarray | None) -> Iterator[slice | np.ndarray]:
    """The rows to measure, some at a time."""
    return (block if rows is None else rows[block] for block in model.blocks(n))


def r2(residual: np.ndarray, spread: np.ndarray) -> float:
    """The coefficient of determination, averaged over outputs, as scikit-learn's r2_score.

    residual: sums of squared errors (outputs,), by weight. spread: those of the differences from the mean.
    """
    constant = spread == 0
    score = 1.0 - residual / np.where(constant, 1.0, spread)
    score = np.where(constant, np.where(residual == 0, 1.0, 0.0), score)
    return float(np.mean(score))
