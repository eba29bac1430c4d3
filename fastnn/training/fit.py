"""What MLP.fit and MLP.train_on_batch do."""

import math
import time
import warnings
from typing import Any

import numpy as np

from fastnn.history import History
from fastnn.inputs.arguments import FitOptions, checked_optimizer, held_out_rows
from fastnn.inputs.data import Data
from fastnn.optimizers import Optimizer
from fastnn.training import evaluation, row_order
from fastnn.training import progress as reports
from fastnn.training.divergence import WHAT_TO_TRY, Guard
from fastnn.training.held_out import split
from fastnn.training.learner import Learner
from fastnn.training.loop import Ending, run
from fastnn.training.observers import Callbacks, Epoch, Observer, Observers, Validation
from fastnn.training.optimizer_state import Memory
from fastnn.training.row_order import Orders
from kernels.losses import LossChoice
from kernels.ranges import check_number

DIVERGED = f"the loss is {{}} after epoch {{}}: {WHAT_TO_TRY}"
LOST = f"parameters are not finite at the end of the training: {WHAT_TO_TRY}"


def fit(model: Any, X: Any, y: Any, options: FitOptions) -> History:
    """See MLP.fit."""
    data = Data.checked(model, X, y, options.loss, options.sample_weight, options.class_weight)
    optimizer, callbacks = options.checked(data)
    rows, validation = split(model, data, options)
    n_train = len(data.X) - held_out_rows(len(data.X), options.validation_split)
    batch_size = min(options.batch_size, n_train)
    history = History(device=model.device)
    outputs = validation is not None and data.target.metric is None  # R2 is worked out of them
    needs = data.needs(optimizer, batch_size, options.l2, outputs)
    history.compile_seconds = model.prepare(_nothing if options.progress is False else reports.line, needs)
    memory = Memory.fresh(model, optimizer)
    learner = Learner(model.engine(), data, memory, options.batch_size, options.l2)
    history.threads = learner.engine.training_threads(batch_size)
    shuffled = bool(options.shuffle) and options.batch_size < n_train
    if shuffled and rows is None:
        rows = row_order.numbered(n_train)
    orders = Orders(model.random, rows, shuffled)
    guard = Guard(learner, orders, n_train, options.stop_if_diverged)
    validations = []
    if validation is not None:
        placed = learner.placed(validation)
        unknown = dict.fromkeys(("loss", "accuracy" if data.target.metric else "r2"), math.nan)
        validations.append(Validation(lambda: unknown if guard.message else evaluation.measure(model, placed)))
    record = _Record(history, options.stop_if_diverged)
    with reports.Progress(options.progress, options.epochs, learner.steps(n_train)) as report:
        told = [Callbacks(model, callbacks, memory)] if callbacks else []
        start = _Start(model, orders, len(data.X) - n_train, validation)
        observers = Observers(guard, *validations, record, report, *told, start)
        ending = run(learner, orders.next, n_train, options.epochs, observers)
    if guard.unseen and not history.diverged:
        warnings.warn(LOST, RuntimeWarning, stacklevel=3)
    history.diverged |= guard.unseen or guard.message is not None
    if guard.message:
        warnings.warn(guard.message, RuntimeWarning, stacklevel=3)
    history.interrupted = ending is Ending.INTERRUPTED
    if history.interrupted:
        warnings.warn("Training interrupted by user.", stacklevel=3)
    return history


class _Record(Observer):
    """Keeps a history, and says where the loss of a training that goes on whatever happens is lost."""

    def __init__(self, history: History, stop_if_diverged: bool) -> None:
        self.history, self.goes_on, self.start = history, not stop_if_diverged, time.perf_counter()

    def epoch_ended(self, epoch: Epoch) -> None:
        """Add an epoch."""
        loss, history = epoch.logs["loss"], self.history
        history.append(epoch.logs)
        if self.goes_on and not math.isfinite(loss):
            history.diverged = True
            if np.isfinite(history.loss[-2:-1]).all():  # the user's line is beyond Observers, run, and both fit
                warnings.warn(DIVERGED.format(loss, epoch.number + 1), RuntimeWarning, stacklevel=6)

    def train_end(self) -> None:
        """Note how long it took."""
        self.history.seconds = time.perf_counter() - self.start


class _Start(Observer):
    """What a training changes before its first step, once callbacks have had their turn: rows are held out."""

    def __init__(self, model: Any, orders: Orders, n: int, validation: evaluation.EvaluateRequest | None) -> None:
        self.model, self.orders, self.n, self.validation = model, orders, n, validation

    def train_begin(self) -> None:
        """Draw the rows. Raises ValueError where none held out has a weight."""
        self.model.optimizer_state = None  # that of train_on_batch
        if self.n and self.validation is not None:
            held_out, weight = self.orders.hold_out(self.n), self.validation.weight
            if weight is not None and not weight[held_out].any():
                raise ValueError(f"sample_weight must not be 0 for all {self.n} rows that validation_split holds out")


def train_on_batch(
    model: Any, X: Any, y: Any, optimizer: Optimizer | str, loss: LossChoice | None, l2: float, sample_weight: Any
) -> dict[str, float]:
    """See MLP.train_on_batch."""
    data = Data.checked(model, X, y, loss, sample_weight)
    check_number("l2", l2, 0)
    optimizer = checked_optimizer(optimizer, 1)
    if model.optimizer_state is None or model.optimizer_state.optimizer != optimizer:
        model.optimizer_state = Memory.fresh(model, optimizer)
    n = len(data.X)
    engine = model.engine(data.needs(optimizer, n, l2))
    ((_, logs),) = Learner(engine, data, model.optimizer_state, n, l2).epoch(None)
    return logs


def _nothing(text: str) -> None:
    """Say nothing."""
