"""Models that `fastnn train` saved: read with what prepares their rows, and measured."""

from argparse import Namespace
from typing import Any

import numpy as np

import fastnn
from fastnn.files import formats, reading
from fastnn.losses import LOSSES, loss_for
from fastnn.tables.preprocessing import Preprocessing
from fastnn.tables.table import DataError
from fastnn.tables.targets import Target


def load(args: Namespace) -> tuple[Any, Preprocessing, Target]:
    """The model args.model in the precision args.precision, and what prepares its inputs and its targets.

    Raises DataError or ValueError, naming the file, for one that `fastnn train` has not saved.
    """
    path, options = args.model, {"precision": args.precision} if args.precision else {}
    try:
        model = fastnn.load(path, **options)
    except ValueError as error:
        raise ValueError(str(error).replace("pass precision='float32'", "pass --precision float32")) from error
    if not {"inputs", "target"} <= model.metadata.keys():
        raise DataError(
            f"{path}: does not tell how its inputs were prepared, as `fastnn train` does; use fastnn.load in Python"
        )
    loss = model.metadata.get("loss")
    name = loss[0] if isinstance(loss, list) and loss else loss
    if isinstance(name, str) and name not in LOSSES:
        raise DataError(
            f"{path}: has learnt by the loss {name!r}, which is not known here: use fastnn.load in Python, in a "
            "program that makes it with fastnn.Loss"
        )
    with reading(path, "is damaged, or was not saved by `fastnn train` of this version"):
        preprocessing = Preprocessing.from_dict(formats.entry(model.metadata, "inputs", dict))
        target = Target.from_dict(formats.entry(model.metadata, "target", dict))
        widths = preprocessing.n_inputs, target.n_outputs
        if widths != (model.layers[0], model.layers[-1]):
            raise ValueError(f"it prepares rows for a network from {widths[0]} to {widths[1]} widths, not {model!r}")
        loss_for(model.output, loss)
    del model.metadata["inputs"], model.metadata["target"]  # its rows will be prepared
    return model, preprocessing, target


def measure(model: Any, target: Target, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The model's metrics; for a regression the root of the mean squared error in the target's units, too."""
    metrics = model.evaluate(X, y, loss=model.metadata.get("loss"))
    if not target.classes:
        metrics["rmse"] = float(np.sqrt(np.mean(((model.predict(X) - y) * target.scale) ** 2)))
    return metrics
