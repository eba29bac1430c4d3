"""Callbacks: what happens between epochs besides training. Write one by overriding methods of Callback."""

import math
import os
import string
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.files import formats
from fastnn.tables.table import append_csv, write_csv
from kernels.declarations.ranges import check_count, check_number

Logs = Mapping[str, float]


class Callback:
    """The base class. Every method may be overridden, and none of them does anything here.

    Notes
    -----
    `model` is the model in training. `epoch` and `step` count from 0. `logs` maps the name of what was measured to its
    value. A loss that is not finite says that the epoch was lost. If training ends by that, the model has the
    parameters from before the epoch.

    Examples
    --------
    >>> class StopAt(fastnn.Callback):
    ...     def on_epoch_end(self, model, epoch, logs):
    ...         return logs["loss"] < 0.01
    """

    def needs(self) -> tuple[str, ...]:
        """Names that the logs must have. A training whose logs will lack one is refused at its start.

        Returns
        -------
        tuple of str
            Empty here.
        """
        return ()

    def on_train_begin(self, model: Any) -> None:
        """Called once, before the first step.

        Parameters
        ----------
        model : MLP
            The model in training.
        """

    def on_train_end(self, model: Any) -> None:
        """Called once, after the last step, also when training was stopped or interrupted.

        Parameters
        ----------
        model : MLP
            The model in training.
        """

    def on_epoch_end(self, model: Any, epoch: int, logs: Logs) -> bool | None:
        """Called after every epoch and its validation.

        Parameters
        ----------
        model : MLP
            The model in training.
        epoch : int
            The number of the epoch, from 0.
        logs : mapping of str to float
            What was measured in the epoch.

        Returns
        -------
        bool or None
            True ends training.
        """

    def on_slice_end(self, model: Any, step: int, logs: Logs) -> bool | None:
        """Called after every slice of steps, that is several times a second.

        Parameters
        ----------
        model : MLP
            The model in training.
        step : int
            The number of the slice's last step, from 0.
        logs : mapping of str to float
            What was measured in the epoch so far.

        Returns
        -------
        bool or None
            True ends training.
        """


class EarlyStopping(Callback):
    """Stop when the monitored value has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        A name in the logs. Accuracies and r2 are to grow, everything else is to fall. NaN is never an improvement.
    patience : int
        The number of epochs without an improvement after which training ends, at least 1.
    min_delta : float
        A value that is better by more than this is an improvement; at least 0.
    restore_best : bool
        Whether the model gets the parameters of the best epoch when training ends, interrupted or not.

    Attributes
    ----------
    best : float or None
        The best value of the last training. None before the first epoch.
    best_epoch : int or None
        The epoch of the best value, from 0.
    stopped_epoch : int or None
        The epoch after which this callback ended training. None if it did not.

    Raises
    ------
    TypeError, ValueError
        For an argument that does not fit. `fit` raises ValueError where its logs will lack `monitor`.
    """

    def __init__(
        self, monitor: str = "val_loss", patience: int = 10, min_delta: float = 0.0, restore_best: bool = True
    ) -> None:
        _check_monitor(monitor)
        check_count("patience", patience)
        check_number("min_delta", min_delta, 0)
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = restore_best
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._best_cost = math.inf
        self._best_parameters: np.ndarray | None = None
        self._cost_to_beat = math.inf  # lags behind the best cost while improvements are smaller than min_delta
        self._epochs_waited = 0

    def needs(self) -> tuple[str, ...]:
        """The name monitored."""
        return (self.monitor,)

    def on_train_begin(self, model: Any) -> None:
        """Forget the training before."""
        self._forget()

    def on_epoch_end(self, model: Any, epoch: int, logs: Logs) -> bool:
        """Compare this epoch with the best one; True when patience has run out."""
        cost = _cost(self.monitor, logs)
        if cost < self._best_cost and not _finite(model, logs):  # an accuracy is a number even then
            cost = math.inf
        if cost < self._best_cost:
            self._best_cost, self.best, self.best_epoch = cost, float(logs[self.monitor]), epoch
            if self.restore_best:
                self._best_parameters = np.array(model.parameters)
        if cost < self._cost_to_beat - self.min_delta:
            self._cost_to_beat, self._epochs_waited = cost, 0
        else:
            self._epochs_waited += 1
        if self._epochs_waited < self.patience:
            return False
        self.stopped_epoch = epoch
        return True

    def on_train_end(self, model: Any) -> None:
        """Restore the best epoch's parameters."""
        if self._best_parameters is not None:
            model.parameters[...] = self._best_parameters
            self._best_parameters = None


class ModelCheckpoint(Callback):
    """Save the model after every epoch, or after every epoch that is the best so far.

    A model whose parameters, or whose loss in that epoch, are not finite is not saved. A warning says so once.

    Parameters
    ----------
    path : str or path-like
        The file, .npz or .safetensors. {epoch} and the names of the logs are filled in, as in
        "net-{epoch:03d}-{val_loss:.4f}.npz". A path without them is overwritten. Missing folders are made.
    monitor : str
        What `save_best_only` compares, a name in the logs. Accuracies and r2 are to grow, everything else is to fall.
    save_best_only : bool
        Whether only a model that is better than all before it is saved.

    Raises
    ------
    TypeError, ValueError
        For another suffix, a path that cannot be filled in, or a `monitor` that is no name. `fit` raises ValueError
        where its logs will lack a name that is needed, and OSError for a folder that cannot be made.
    """

    def __init__(self, path: str | os.PathLike, monitor: str = "val_loss", save_best_only: bool = False) -> None:
        formats.check_suffix(path)
        _check_monitor(monitor)
        self.path = os.fspath(path)
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(self.path) if field is not None]
        except ValueError as error:
            raise ValueError(f"path {self.path!r} cannot be filled in: {error}") from None
        self.monitor = monitor
        self.save_best_only = save_best_only
        self._filled_in = tuple(field for field in fields if field != "epoch")
        self._best_cost, self._warned = math.inf, False

    def needs(self) -> tuple[str, ...]:
        """The name monitored, if one is, and those that the path is filled in with."""
        return ((self.monitor,) if self.save_best_only else ()) + self._filled_in

    def on_train_begin(self, model: Any) -> None:
        """Forget the training before; make the folder, unless its name depends on the epoch: that may fail now."""
        self._best_cost, self._warned = math.inf, False
        folder = os.path.dirname(self.path)
        if "{" not in folder:
            os.makedirs(folder or ".", exist_ok=True)

    def on_epoch_end(self, model: Any, epoch: int, logs: Logs) -> None:
        """Save the model, or leave it if it is not finite, or if only better ones are to be saved."""
        if not _finite(model, logs):
            if not self._warned:
                self._warned = True
                message = (
                    f"ModelCheckpoint saves nothing after epoch {epoch + 1}: the loss or parameters are not finite"
                )
                warnings.warn(message, RuntimeWarning, stacklevel=_users_level())
            return
        if self.save_best_only:
            cost = _cost(self.monitor, logs)
            if not cost < self._best_cost:
                return
            self._best_cost = cost
        try:
            path = Path(self.path.format(epoch=epoch, **logs))
        except (KeyError, IndexError, ValueError) as error:
            names = ", ".join(f"{{{name}}}" for name in ("epoch", *logs))
            raise ValueError(f"path {self.path!r} can be filled in with {names} only") from error
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)


class CSVLogger(Callback):
    """Write a line of logs per epoch into a CSV file, which each training starts anew.

    A line is in the file as soon as its epoch has ended, whatever happens later, and never half of one. The first line
    has the names, of which the first is "epoch", counted from 0.

    Parameters
    ----------
    path : str or path-like
        The file. `fit` raises OSError at its start where it cannot be written.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = path
        self._columns: list[str] = []

    def on_train_begin(self, model: Any) -> None:
        """Empty the file: a path that cannot be written fails now, not after the first epoch."""
        self._columns = []
        write_csv(self.path, [])

    def on_epoch_end(self, model: Any, epoch: int, logs: Logs) -> None:
        """Add a line, below a line of names if it is the first."""
        rows = [] if self._columns else [["epoch", *logs]]
        self._columns = self._columns or list(logs)
        append_csv(self.path, [*rows, [epoch, *(float(logs[name]) for name in self._columns)]])


def _users_level() -> int:
    """The stacklevel, in a function that calls this one, at which a warning points at what called fastnn."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("fastnn."):
        frame, level = frame.f_back, level + 1
    return level


def _finite(model: Any, logs: Logs) -> bool:
    """Whether the loss and the parameters are finite numbers."""
    return math.isfinite(logs.get("loss", 0.0)) and bool(np.isfinite(model.parameters).all())


def _check_monitor(monitor: object) -> None:
    if not isinstance(monitor, str):
        raise TypeError(f"monitor must be a name in the logs such as 'val_loss', got {monitor!r}")


def _cost(monitor: str, logs: Logs) -> float:
    """The monitored value, negated where it is to grow: the smaller cost is always the better one."""
    if monitor not in logs:
        raise ValueError(f"monitor {monitor!r} is not in the logs of this training, which has {', '.join(logs)}")
    return -float(logs[monitor]) if monitor.endswith(("accuracy", "r2")) else float(logs[monitor])
