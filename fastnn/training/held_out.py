"""The rows that are held out, or given, to validate on."""

from typing import Any

import numpy as np

from fastnn import inputs
from fastnn.inputs.arguments import FitOptions, held_out_rows
from fastnn.inputs.data import Data, in_range
from fastnn.training import row_order
from fastnn.training.evaluation import EvaluateRequest


def split(model: Any, data: Data, options: FitOptions) -> tuple[np.ndarray | None, EvaluateRequest | None]:
    """The numbers of all rows, the first of which are to be held out, None without a split; what to validate on."""
    n, validation_data, fraction = len(data.X), options.validation_data, options.validation_split
    if validation_data is None and not fraction:
        return None, None
    if validation_data is None:
        order = row_order.numbered(n)
        # without the class weights, which weigh in learning alone
        weight = in_range(inputs.row_weights(options.sample_weight, None, data.target, n, dtype=model.dtype), data.loss)
        return order, EvaluateRequest(data.X, data.target, data.loss, order[: held_out_rows(n, fraction)], weight)
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
    return None, EvaluateRequest(X, target, data.loss, weight=in_range(weight, data.loss))
