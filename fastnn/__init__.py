"""fastnn: train and run dense neural networks, from kernels written by hand and compiled by Numba."""

import functools
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "MLP": "model",
    "load": "files.models",
    "Activation": "activations",
    "SGD": "optimizers",
    "Adam": "optimizers",
    "Optimizer": "optimizers",
    "Callback": "callbacks",
    "EarlyStopping": "callbacks",
    "ModelCheckpoint": "callbacks",
    "CSVLogger": "callbacks",
    "History": "history",
    "Loss": "losses",
    "MLPClassifier": "sklearn",
    "MLPRegressor": "sklearn",
    "from_torch": "files.torch",
    "to_onnx": "files.onnx",
    "to_torch": "files.torch",
}
_MODULES = {
    "callbacks": "callbacks",
    "data": "tables.data",
    "initializers": "initializers",
    "losses": "losses",
    "optimizers": "optimizers",
    "recipes": "recipes",
    "schedules": "schedules",
}

if TYPE_CHECKING:
    from fastnn.activations import Activation
    from fastnn.callbacks import Callback, CSVLogger, EarlyStopping, ModelCheckpoint
    from fastnn.files.models import load
    from fastnn.files.onnx import to_onnx
    from fastnn.files.torch import from_torch, to_torch
    from fastnn.history import History
    from fastnn.losses import Loss
    from fastnn.model import MLP
    from fastnn.optimizers import SGD, Adam, Optimizer
    from fastnn.sklearn import MLPClassifier, MLPRegressor

__all__ = [
    "MLP",
    "SGD",
    "Activation",
    "Adam",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "Loss",
    "MLPClassifier",
    "MLPRegressor",
    "ModelCheckpoint",
    "Optimizer",
    "from_torch",
    "load",
    "to_onnx",
    "to_torch",
]


@functools.cache
def _check_kernels() -> None:
    """Raise ImportError if the package `kernels` that Python finds is missing or another's, without importing it."""
    module = sys.modules.get("kernels")
    spec = importlib.util.find_spec("kernels") if module is None else module.__spec__
    source = None if spec is None else getattr(spec.loader, "get_source", lambda name: None)("kernels")
    if getattr(module, "DISTRIBUTION", None) == "fastnn-numba" or 'DISTRIBUTION = "fastnn-numba"' in (source or ""):
        return
    found = "there is none" if spec is None else f"{spec.origin or spec.name} is another's"
    raise ImportError(
        f"fastnn needs its own package `kernels`, and {found}. Hugging Face publishes a package of that name, too: the "
        "two cannot share an environment; after uninstalling it, pip install --force-reinstall fastnn-numba"
    )


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `fastnn --help` needs no compiler."""
    if name in _HOME or name in _MODULES:
        _check_kernels()
    if name in _HOME:
        value = getattr(importlib.import_module(f"fastnn.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        return importlib.import_module(f"fastnn.{_MODULES[name]}")
    if name[:1].isupper():  # an optimiser's class, of which there may be any number
        _check_kernels()
        found = getattr(importlib.import_module("fastnn.optimizers"), name, None)
        if found is not None:
            return found
    raise AttributeError(f"module 'fastnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
