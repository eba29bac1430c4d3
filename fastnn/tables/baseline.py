"""The best answer that looks at no input, which a model has to beat: the most frequent class, or one number."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastnn.tables.preprocessing import BLOCK_ROWS
from fastnn.tables.targets import Target
from kernels import reference
from kernels.losses import LossChoice, loss_and_parameter


@dataclass(frozen=True)
class Measured:
    """A model's metrics on some rows.

    rows: which ones they are. y: their targets as `Target.encode` gives them; None where nobody knows which they are.
    """

    rows: str
    metrics: dict[str, float]
    y: np.ndarray | None = None


def warn_if_worse(measured: Sequence[Measured], target: Target, loss: LossChoice, *, stopped_early: bool) -> None:
    """Warn, once, of a model that is worse than always giving the answer that is best for the rows learnt from.

    measured: the rows learnt from and, if there are any, those held out. loss: what the model learnt to make small.
    """
    seen = measured[0].y
    assert seen is not None
    advice = ["more --epochs or another --learning-rate", "--l2 0.001, --dropout 0.2 or narrower --layers"]
    if not stopped_early:
        advice[1] = f"--early-stopping 10, {advice[1]}"
    for one, what in zip(measured, advice, strict=False):
        name, answer, theirs = _best(one.y, seen, target, loss)
        value = one.metrics.get(name, theirs)
        if (value > theirs) if name == "loss" else (value < theirs):
            warnings.warn(
                f"on {one.rows} the model is worse than always saying {answer}: {name} {value:.4g} against "
                f"{theirs:.4g}; try {what}",
                stacklevel=2,
            )
            return


def _best(y: np.ndarray | None, seen: np.ndarray, target: Target, loss: LossChoice) -> tuple[str, str, float]:
    """A metric, the one answer that is best for the targets `seen`, and the metric of that answer on y."""
    if target.classes:
        most = int(np.bincount(seen).argmax())
        # of rows that nobody knows nothing can be said
        return "accuracy", repr(target.class_names[most]), 0.0 if y is None else float(np.mean(y == most))
    declared, parameter = loss_and_parameter(loss)
    level = {"mean": None, "median": 0.5, "quantile": parameter}[declared.baseline]
    if y is None:
        return "r2", "their mean", 0.0 if level is None else -np.inf
    answer = "the mean" if level is None else "the median" if level == 0.5 else f"the {level:g} quantile"
    constant = seen.mean(axis=0, dtype=np.float64) if level is None else np.quantile(seen, level, axis=0)
    total = 0.0
    for start in range(0, len(y), BLOCK_ROWS):
        part = y[start : start + BLOCK_ROWS]
        value, _ = reference.loss_and_gradient(loss, np.broadcast_to(constant, part.shape), part)
        total += value * len(part) / len(y) if declared.averaged else value
    return "loss", answer, total
