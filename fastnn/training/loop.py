"""fit: the loop. Epochs are here; steps are in an engine of kernels, which makes slices of many without coming back."""

import math
import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.callbacks import Callback
from fastnn.history import History
from fastnn.optimizers import Optimizer
from fastnn.training import evaluation, row_order
from fastnn.training import progress as reports
from fastnn.training.arguments import check_flags, check_monitors, checked_callbacks, checked_optimizer
from fastnn.training.data import Data
from fastnn.training.divergence import WHAT_TO_TRY, Guard
from fastnn.training.held_out import draw, held_out_rows, split
from fastnn.training.learner import Learner
from fastnn.training.optimizer_state import Memory
from fastnn.training.sharing import Share
from kernels.losses import LossChoice
from kernels.ranges import check_count, check_number

DIVERGED = f"the loss is {{}} after epoch {{}}: {WHAT_TO_TRY}"
LOST = f"parameters are not finite at the end of the training: {WHAT_TO_TRY}"


def fit(
    model: Any,
    X: Any,
    y: Any,
    epochs: int,
    batch_size: int,
    optimizer: Optimizer | str,
    loss: LossChoice | None,
    l2: float,
    shuffle: bool,
    validation_data: tuple[Any, ...] | None,
    validation_split: float,
    sample_weight: Any,
    class_weight: Any,
    callbacks: Iterable[Callback],
    progress: bool | None,
    stop_if_diverged: bool,
) -> History:
    """See MLP.fit."""
    data = Data.checked(model, X, y, loss, sample_weight, class_weight)
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    check_flags(shuffle, progress, stop_if_diverged)
    check_number("l2", l2, 0)
    check_number("validation_split", validation_split, 0, 1, closed="left")
    n_train = len(data.X) - held_out_rows(len(data.X), validation_split)
    optimizer = checked_optimizer(optimizer, epochs * -(-n_train // batch_size))
    callbacks = checked_callbacks(callbacks)
    check_monitors(callbacks, data, validation_data is not None or bool(validation_split))
    order, validation = split(model, data, validation_data, validation_split, sample_weight)

    def tell(event: str, *args: Any) -> bool:
        return any([getattr(callback, event, nothing)(model, *args) for callback in callbacks])

    history = History(device=model.device)
    say = nothing if progress is False else reports.line
    outputs = validation is not None and data.target.metric is None  # R2 is worked out of them
    history.compile_seconds = model.prepare(say, data.needs(optimizer, min(batch_size, n_train), l2, outputs))
    memory = Memory.fresh(model, optimizer)
    learner = Learner(model.engine(), data, memory, batch_size, l2)
    validation_weight = None
    if validation is not None:
        validation_weight, validation = validation[-1], learner.placed(*validation)
    unknown = dict.fromkeys(("loss", "accuracy" if data.target.metric else "r2"), math.nan)
    history.threads = learner.engine.training_threads(min(batch_size, n_train))
    shuffled = shuffle and batch_size < n_train
    if shuffled and order is None:
        order = row_order.numbered(n_train)
    watched = callbacks or validation is not None  # else epochs that fit into a slice are made together
    guard = Guard(learner, model.random, stop_if_diverged)
    epoch, stop = 0, False

    def next_order() -> np.ndarray | None:
        if shuffled and order is not None:
            row_order.shuffle(model.random, order)
        return order

    start = time.perf_counter()
    report = reports.Progress(progress, epochs, learner.steps(n_train))
    with report, learner.engine.training(), Share(learner.engine) as share:
        try:
            tell("on_train_begin")
            model.optimizer_state = None  # that of train_on_batch
            if validation_split and order is not None:
                order = draw(model, order, n_train, validation_weight)
            while epoch < epochs and not stop:
                together = 1 if watched else min(guard.most, learner.together(n_train, epochs - epoch))
                guard.keep(order if shuffled else None, together)
                if together > 1:
                    ended = learner.epochs(next_order, together)
                    share.take()
                    if guard.lost(sum(logs["loss"] for logs in ended), together * n_train):
                        continue  # with fewer of them
                    report.slice(epoch, together * learner.steps(n_train), ended[-1])
                else:
                    for n_steps, logs in learner.epoch(next_order()):
                        share.take()
                        report.slice(epoch, n_steps, logs)
                        history.diverged = guard.ends(epoch, logs, n_steps * learner.batch_size, ended=False)
                        stop = tell("on_slice_end", memory.step - 1, dict(logs)) or history.diverged
                        if stop:
                            break
                    history.diverged = history.diverged or guard.ends(epoch, logs, 0)
                    if validation is not None:
                        measured = unknown if history.diverged else evaluation.measure(model, *validation)
                        logs |= {f"val_{name}": value for name, value in measured.items()}
                    ended = [{**logs, "learning_rate": memory.learning_rate}]
                    stop |= history.diverged
                for logs in ended:
                    history.append(logs)
                    report.epoch(epoch, logs)
                    if not stop_if_diverged and not math.isfinite(logs["loss"]):
                        history.diverged = True
                        if np.isfinite(history.loss[-2:-1]).all():
                            warnings.warn(DIVERGED.format(logs["loss"], epoch + 1), RuntimeWarning, stacklevel=3)
                    stop |= tell("on_epoch_end", epoch, logs)
                    epoch += 1
            unseen = guard.unseen()
        except BaseException as error:
            guard.lost(0.0, 0)  # within an epoch that does not count
            if not isinstance(error, KeyboardInterrupt):
                raise
            history.interrupted, unseen = True, guard.unseen()
        finally:
            history.seconds = time.perf_counter() - start
            tell("on_train_end")
    if unseen and not history.diverged:
        warnings.warn(LOST, RuntimeWarning, stacklevel=3)
    history.diverged |= unseen
    if guard.message:
        warnings.warn(guard.message, RuntimeWarning, stacklevel=3)
    if history.interrupted:
        warnings.warn("Training interrupted by user.", stacklevel=3)
    return history


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


def nothing(*args: Any) -> None:
    """What stands for a method that a callback has not."""
