"""What a network is to learn: labels, one-hot rows, several labels or numbers, checked and made ready."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.inputs.arrays import array, bounds, check_finite, on_host
from kernels.losses import LossChoice, loss_and_parameter


@dataclass(frozen=True)
class Targets:
    """Targets as the engine reads them.

    values: labels (n,), integers in this machine's byte order, or numbers (n, outputs). metric: what accuracy counts,
    see METRICS in kernels.engine.codes; None where there is no accuracy. labels: the labels (n,) if those were given.
    """

    values: Any
    metric: str | None
    labels: Any


def targets(
    y: Any, n_rows: int, n_outputs: int, output: str, loss: LossChoice, name: str = "y", *, dtype: str = "float64"
) -> Targets:
    """y for a network with these outputs: labels, one-hot rows or probabilities, several labels, or numbers.

    dtype: what numbers are to be converted to, and must be finite in.
    """
    values = array(y, name)
    if values.ndim not in (1, 2) or len(values) != n_rows:
        raise ValueError(f"{name} must have {n_rows} rows, one for each row of X, got shape {values.shape}")
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "iub" and n_outputs > 1:
        values = values.reshape(len(values))
    classes = output in ("softmax", "sigmoid")
    if values.ndim == 1 and n_outputs > 1:
        return _from_labels(values, n_outputs, classes, loss, name)
    if values.ndim == 1:
        values = values.reshape(len(values), 1)
    if values.shape[1] != n_outputs:
        raise ValueError(f"{name} must have {n_outputs} columns, one for each output, got shape {values.shape}")
    check_finite(values, name, dtype)
    if not classes:
        check_numbers(values, loss, name)
        return Targets(values, None, None)
    _check_shares(values, output, name)
    labels = values.reshape(len(values)) if n_outputs == 1 and values.dtype.kind in "iub" else None
    return Targets(values, "largest" if output == "softmax" else "outputs", labels)


def _check_shares(values: Any, output: str, name: str) -> None:
    """Raise ValueError for numbers (n, outputs) outside of [0, 1]."""
    low, high = bounds(values) if len(values) else (0, 0)
    if low < 0 or high > 1:
        got = f"numbers from {low} to {high}"
        if isinstance(values, np.ndarray):
            bad = np.argwhere((values < 0) | (values > 1))[0]
            got = f"{values[tuple(bad)]} at [{bad[0]}, {bad[1]}]"
        raise ValueError(f"{name} must lie in [0, 1] for {output} outputs, got {got}")


def check_numbers(values: Any, loss: LossChoice, name: str = "y") -> None:
    """Raise ValueError for numbers (n, outputs) that the loss does not take."""
    declared, _ = loss_and_parameter(loss)
    targets, got = declared.targets, ""
    if targets.only:
        got = targets.other(on_host(values))
    elif targets.must and len(values):
        low, high = bounds(values)
        got = f"{low}" if low < targets.least else f"{high}" if high > targets.most else ""
    if got:
        raise ValueError(f"{name} must {targets.must} for loss {declared.name!r}, got {got}")


def _from_labels(values: Any, n_outputs: int, classes: bool, loss: LossChoice, name: str) -> Targets:
    if not classes:
        raise ValueError(f"{name} must have {n_outputs} columns, one for each output, got shape {values.shape}")
    if values.dtype.kind not in "iub":
        raise TypeError(f"{name} must hold integer labels or have {n_outputs} columns, got dtype {values.dtype}")
    low, high = bounds(values) if len(values) else (0, 0)
    if low < 0 or high >= n_outputs:
        got = f"labels from {low} to {high}"
        if isinstance(values, np.ndarray):
            bad = int(np.flatnonzero((values < 0) | (values >= n_outputs))[0])
            got = f"{values[bad]} at [{bad}]"
        raise ValueError(f"{name} must hold labels from 0 to {n_outputs - 1}, got {got}")
    takes_labels = loss_and_parameter(loss)[0].targets.labels
    if not isinstance(values, np.ndarray):
        if takes_labels:
            return Targets(values, "label", values)
        values = values.read()
    # As an index, NumPy takes booleans for a mask
    labels = values.astype(np.uint8 if values.dtype == bool else values.dtype.newbyteorder("="), copy=False)
    if takes_labels:
        return Targets(labels, "label", labels)
    one_hot = np.zeros((len(labels), n_outputs), np.uint8)
    one_hot[np.arange(len(labels)), labels] = 1
    return Targets(one_hot, "largest", labels)
