"""What commands refuse: to write over what they read, and data without targets."""

import os
from typing import Any

import numpy as np

from fastnn.tables.data import Dataset
from fastnn.tables.table import DataError, Table, quoted


def not_over(option: str, path: Any, *others: Any) -> None:
    """Raise DataError where `path`, which `option` names, is one of the other files, None for none."""
    for other in others:
        if other is not None and os.path.realpath(path) == os.path.realpath(other):
            raise DataError(f"{option}: {path} is a file that this command reads or writes already")


def targets_of(data: Dataset) -> np.ndarray:
    """The targets. Raises DataError, with what to do about it, where there are none."""
    if data.target is not None:
        return data.target
    if isinstance(data.inputs, Table):
        raise DataError(f"{data.source}: say what to predict: --target COLUMN, one of {quoted(data.names)}")
    if data.source.endswith(".npy"):
        raise DataError(f"{data.source}: name the file of the targets behind it, as in {data.source} y.npy")
    raise DataError(f"{data.source}: there are no targets" + (" (an array y)" if data.source.endswith(".npz") else ""))
