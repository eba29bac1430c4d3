"""fit: the loop. Epochs are here; steps are in kernels.cpu.network, which runs slices of many without Python."""

import time
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import inputs, optimizers
from fastnn.callbacks import Callback
from fastnn.history import History
from fastnn.progress import Progress
from fastnn.schedules import check_count, check_number
from kernels.cpu import jit
from kernels.layout import aligned_zeros

SLICE_SECONDS = 0.1  # how long compiled code runs before Ctrl-C, callbacks and the progress bar get their turn


def fit(
    model: Any,
    X: Any,
    y: Any,
    epochs: int,
    batch_size: int,
    optimizer: optimizers.Optimizer | str,
    loss: str | None,
    l2: float,
    shuffle: bool,
    validation_data: tuple[Any, Any] | None,
    validation_split: float,
    sample_weight: Any,
    class_weight: Any,
    callbacks: Iterable[Callback],
    progress: bool | None,
) -> History:
    """See MLP.fit."""
    X = inputs.matrix(X, model.layers[0])
    loss = model.loss_name(loss)
    target = inputs.targets(y, len(X), model.layers[-1], model.output, loss)
    weight = inputs.row_weights(sample_weight, class_weight, target, len(X))
    check_count("epochs", epochs)
    check_count("batch_size", batch_size)
    check_number("l2", l2, 0)
    check_number("validation_split", validation_split, 0, 1, closed="left")
    optimizer = optimizers.get(optimizer)
    optimizer.scalars(0, 1)
    callbacks = list(callbacks)
    for callback in callbacks:
        if not callable(getattr(callback, "on_epoch_end", None)):
            raise TypeError(f"callbacks must hold objects with on_epoch_end(model, epoch, logs), got {callback!r}")

    rows, validation = _validation(model, X, target, loss, len(X), validation_data, validation_split)
    history = History(device=model.device)
    with Progress(progress, epochs) as say:
        engine, history.compile_seconds = _compile(model, loss, optimizer, say)
        history.threads = engine.threads_for(min(batch_size, len(rows)))
        state = [aligned_zeros(engine.layout.size, engine.dtype) for _ in range(optimizer.slots)]
        steps = -(-len(rows) // batch_size)
        start = time.perf_counter()
        slice_steps, step = 1, 0
        for callback in callbacks:
            _tell(callback, "on_train_begin", model)
        try:
            for epoch in range(epochs):
                order = model.random.permutation(rows) if shuffle else rows
                mass = _batch_weights(weight, order, batch_size, steps)
                scales = np.ones(steps) if loss == "sum_squared_error" else _reciprocal(mass)
                losses, right, stop, done = np.zeros(steps), 0.0, False, 0
                while done < steps and not stop:
                    n = min(slice_steps, steps - done)
                    first = done * batch_size
                    begun = time.perf_counter()
                    losses[done : done + n], hits = engine.train(
                        X,
                        target.values,
                        order=order,
                        weight=weight,
                        first=first,
                        total=min(n * batch_size, len(rows) - first),
                        batch_size=batch_size,
                        steps=n,
                        scales=scales[done : done + n],
                        loss=loss,
                        metric=target.metric,
                        update=optimizer.kernel,
                        state=state,
                        scalars=optimizer.scalars(step, n),
                        l2=l2,
                    )
                    taken = time.perf_counter() - begun
                    if n == slice_steps:  # at most twice as many next time, as many as fit the time
                        slice_steps = max(1, min(2 * n, int(n * SLICE_SECONDS / max(taken, 1e-9))))
                    right += hits.sum()
                    done, step = done + n, step + n
                    so_far = {"loss": _epoch_loss(losses[:done], mass[:done], loss)}
                    stop = any([_tell(callback, "on_slice_end", model, step - 1, so_far) for callback in callbacks])
                logs = {"loss": _epoch_loss(losses[:done], mass[:done], loss)}
                if target.metric:
                    logs["accuracy"] = right / min(done * batch_size, len(rows))
                if validation is not None:
                    logs |= {f"val_{name}": value for name, value in model.measure(*validation).items()}
                logs["learning_rate"] = float(optimizer.scalars(step - 1, 1)[0, 0])
                history.append(logs)
                say.epoch(epoch, logs)
                stop |= any([_tell(callback, "on_epoch_end", model, epoch, logs) for callback in callbacks])
                if stop:
                    break
        except KeyboardInterrupt:
            history.interrupted = True
            warnings.warn("Training interrupted by user.", stacklevel=3)
        finally:
            history.seconds = time.perf_counter() - start
            for callback in callbacks:
                _tell(callback, "on_train_end", model)
    return history


def _compile(model: Any, loss: str, optimizer: optimizers.Optimizer, say: Progress) -> tuple[Any, float]:
    """The engine with its kernels loaded, and the seconds that compiling took: 0 where all were cached."""
    announced = False

    def announce() -> None:
        nonlocal announced
        if not announced:
            say.say("compiling kernels once ...")
        announced = True

    start = time.perf_counter()
    jit.announce = announce
    try:
        engine = model.engine()
        engine.load(loss, optimizer.kernel)
    finally:
        jit.announce = None
    if not announced:
        return engine, 0.0
    seconds = time.perf_counter() - start
    say.say(f"compiled in {seconds:.1f} s; the next program starts without")
    return engine, seconds


def _validation(
    model: Any, X: np.ndarray, target: inputs.Targets, loss: str, n: int, data: Any, fraction: float
) -> tuple[np.ndarray, tuple[Any, ...] | None]:
    """The rows to train on, and what `model.measure` takes for the validation, if any."""
    if data is None and not fraction:
        return np.arange(n), None
    if data is not None and fraction:
        raise ValueError("validation_data and validation_split exclude each other, got both")
    if data is None:
        held_out = round(n * fraction)
        if not 0 < held_out < n:
            raise ValueError(f"validation_split must leave rows on both sides, got {fraction} of {n} rows")
        order = model.random.permutation(n)
        return np.sort(order[held_out:]), (X, target, loss, np.sort(order[:held_out]))
    if not isinstance(data, (tuple, list)) or len(data) != 2:
        raise TypeError(f"validation_data must be a pair (X, y), got {type(data).__name__}")
    X_val = inputs.matrix(data[0], model.layers[0], "validation_data[0]")
    y_val = inputs.targets(data[1], len(X_val), model.layers[-1], model.output, loss, "validation_data[1]")
    return np.arange(n), (X_val, y_val, loss, None)


def _batch_weights(weight: np.ndarray | None, order: np.ndarray, batch_size: int, steps: int) -> np.ndarray:
    """The sum of row weights of each batch."""
    starts = np.arange(steps) * batch_size
    if weight is None:
        return np.minimum(batch_size, len(order) - starts).astype(np.float64)
    return np.add.reduceat(weight[order], starts)


def _reciprocal(mass: np.ndarray) -> np.ndarray:
    """1 / mass; a batch whose rows all weigh nothing changes nothing."""
    return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass > 0)


def _epoch_loss(losses: np.ndarray, mass: np.ndarray, loss: str) -> float:
    if loss == "sum_squared_error":
        return float(losses.sum())
    return float((losses * mass).sum() / mass.sum()) if mass.sum() > 0 else 0.0


def _tell(callback: Any, event: str, *args: Any) -> bool:
    """Call an event's method where the callback has it; whether it asked to stop."""
    method = getattr(callback, event, None)
    return bool(method(*args)) if method is not None else False
