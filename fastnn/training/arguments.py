"""The arguments of a training, checked."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import optimizers
from fastnn.callbacks import Callback
from fastnn.optimizers import Optimizer
from fastnn.training.data import Data
from kernels.optimizers.rates import check_rates


def check_flags(shuffle: Any, progress: Any, stop_if_diverged: Any = True) -> None:
    """Raise TypeError if one of these is not what `fit` takes."""
    for name, value in (("shuffle", shuffle), ("stop_if_diverged", stop_if_diverged)):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    if progress is not None and not isinstance(progress, bool):
        raise TypeError(f"progress must be True, False or None, got {progress!r}")


def checked_optimizer(optimizer: Optimizer | str, steps: int) -> Optimizer:
    """The optimiser that was asked for, or a ValueError or TypeError; its rates for `steps` steps are tried."""
    optimizer = optimizers.get(optimizer)
    optimizer.scalars(0, np.ones(1))  # raises where it is declared wrongly
    check_rates(optimizer.learning_rate, steps)
    return optimizer


def checked_callbacks(callbacks: Any) -> list[Callback]:
    """What was passed as callbacks, or a TypeError."""
    if not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks must be a list of callbacks, got {type(callbacks).__name__}")
    callbacks = list(callbacks)
    for callback in callbacks:
        if isinstance(callback, type) or not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(f"callbacks must hold objects with on_epoch_end(model, epoch, logs), got {callback!r}")
    return callbacks


def check_monitors(callbacks: list[Callback], data: Data, validated: bool) -> None:
    """What callbacks need to see in the logs will be there."""
    names = ["loss", "accuracy"] if data.target.metric else ["loss"]
    if validated:
        names += ["val_loss", "val_accuracy" if data.target.metric else "val_r2"]
    names.append("learning_rate")
    for callback in callbacks:
        for name in getattr(callback, "needs", tuple)():
            if name not in names:
                hint = "; it needs validation data" if name.startswith("val_") and not validated else ""
                kind = type(callback).__name__
                raise ValueError(f"callbacks: {kind} must use one of {', '.join(names)}, got {name!r}{hint}")
