"""The arguments of a training, checked."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import optimizers
from fastnn.callbacks import Callback
from fastnn.inputs.data import Data
from fastnn.optimizers import Optimizer
from kernels.losses import LossChoice
from kernels.optimizers.rates import check_rates
from kernels.ranges import check_count, check_number


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """The arguments of MLP.fit, but for the data."""

    epochs: int
    batch_size: int
    optimizer: Optimizer | str
    loss: LossChoice | None
    l2: float
    shuffle: bool
    validation_data: tuple[Any, ...] | None
    validation_split: float
    sample_weight: Any
    class_weight: Any
    callbacks: Iterable[Callback]
    progress: bool | None
    stop_if_diverged: bool

    def checked(self, data: Data) -> tuple[Optimizer, list[Callback]]:
        """The optimiser and the callbacks, or a ValueError or TypeError that says which argument is wrong."""
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)
        check_flags(self.shuffle, self.progress, self.stop_if_diverged)
        check_number("l2", self.l2, 0)
        check_number("validation_split", self.validation_split, 0, 1, closed="left")
        n_train = len(data.X) - held_out_rows(len(data.X), self.validation_split)
        optimizer = checked_optimizer(self.optimizer, self.epochs * -(-n_train // self.batch_size))
        callbacks = checked_callbacks(self.callbacks)
        check_monitors(callbacks, data, self.validation_data is not None or bool(self.validation_split))
        return optimizer, callbacks


def held_out_rows(n: int, fraction: float) -> int:
    """How many of n rows are held out."""
    held_out = round(n * fraction)
    if fraction and not 0 < held_out < n:
        raise ValueError(f"validation_split must leave rows on both sides, got {fraction} of {n} rows")
    return held_out


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
