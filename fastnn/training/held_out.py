"""The rows that are held out, or given, to validate on."""

from typing import Any

import numpy as np

from fastnn import inputs
from fastnn.training import row_order
from fastnn.training.data import Data, in_range


def split(
    model: Any, data: Data, validation_data: Any, fraction: float, sample_weight: Any
) -> tuple[np.ndarray | None, tuple[Any, ...] | None]:
    """All rows, still to be drawn from, None without a split, and what `evaluation.measure` takes, if anything."""
    n = len(data.X)
    if validation_data is None and not fraction:
        return None, None
    if validation_data is None:
        order = row_order.numbered(n)
        # without the class weights, which weigh in learning alone
        weight = inputs.row_weights(sample_weight, None, data.target, n, dtype=model.dtype)
        return order, (data.X, data.target, data.loss, order[: held_out_rows(n, fraction)], in_range(weight, data.loss))
    if fraction:
        raise ValueError("validation_split must be 0 with validation_data, got both")
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        got = type(validation_data).__name__
        got += f" of {len(validation_data)}" if isinstance(validation_data, (tuple, list)) else ""
        raise TypeError(f"validation_data must be (X, y) or (X, y, weights), got {got}")
    inputs.check_device(model.device, **{f"validation_data[{n}]": array for n, array in enumerate(validation_data)})
    X = inputs.matrix(validation_data[0], model.layers[0], "validation_data[0]", dtype=model.dtype)
    target = inputs.targets(
        validation_data[1], len(X), model.layers[-1], model.output, data.loss, "validation_data[1]", dtype=model.dtype
    )  # fmt: skip
    weights = validation_data[2] if len(validation_data) == 3 else None
    weight = inputs.row_weights(weights, None, target, len(X), "validation_data[2]", dtype=model.dtype)
    return None, (X, target, data.loss, None, in_range(weight, data.loss))


def draw(model: Any, order: np.ndarray, n_train: int, weight: np.ndarray | None) -> np.ndarray:
    """Draw the rows held out, which come first in `order`; the others. ValueError where none held out has a weight."""
    held_out, train = order[:-n_train], order[-n_train:]
    row_order.shuffle(model.random, order)
    held_out.sort()
    train.sort()
    if weight is not None and not weight[held_out].any():
        raise ValueError(f"sample_weight must not be 0 for all {len(held_out)} rows that validation_split holds out")
    return train


def held_out_rows(n: int, fraction: float) -> int:
    """How many of n rows are held out."""
    held_out = round(n * fraction)
    if fraction and not 0 < held_out < n:
        raise ValueError(f"validation_split must leave rows on both sides, got {fraction} of {n} rows")
    return held_out
