"""fastnn: train and run dense neural networks, from kernels written by hand and compiled by Numba."""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "MLP": "model",
    "load": "model",
    "SGD": "optimizers",
    "Adam": "optimizers",
    "Callback": "callbacks",
    "EarlyStopping": "callbacks",
    "ModelCheckpoint": "callbacks",
    "CSVLogger": "callbacks",
    "History": "history",
}
_MODULES = ("callbacks", "data", "initializers", "optimizers", "recipes", "schedules")

if TYPE_CHECKING:
    from fastnn.callbacks import Callback, CSVLogger, EarlyStopping, ModelCheckpoint
    from fastnn.history import History
    from fastnn.model import MLP, load
    from fastnn.optimizers import SGD, Adam

__all__ = ["MLP", "SGD", "Adam", "CSVLogger", "Callback", "EarlyStopping", "History", "ModelCheckpoint", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `fastnn --help` needs no compiler."""
    if name in _HOME:
        value = getattr(importlib.import_module(f"fastnn.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"fastnn.{name}")
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
