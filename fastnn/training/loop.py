"""fit: the loop. Epochs are here; steps are in an engine of kernels, which makes slices of many without coming back."""

import itertools
import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import inputs, optimizers
from fastnn.callbacks import Callback
from fastnn.history import History
from fastnn.losses import loss_for
from fastnn.optimizers import Optimizer
from fastnn.training import evaluation, row_order
from fastnn.training import progress as reports
from fastnn.training.divergence import WHAT_TO_TRY, Guard
from fastnn.training.sharing import Share
from kernels.engine.requests import Batches, Descent, Needs, Objective, TrainRequest
from kernels.layout import aligned_copy, aligned_zeros
from kernels.losses import Loss, LossChoice, loss_and_parameter
from kernels.optimizers.rates import check_rates
from kernels.process import announcing, forks
from kernels.ranges import check_count, check_number

DIVERGED = f"the loss is {{}} after epoch {{}}: {WHAT_TO_TRY}"
LOST = f"parameters are not finite at the end of the training: {WHAT_TO_TRY}"
MANY_ROWS = 1 << 16
SLICE_SECONDS = 0.1  # how long compiled code runs before Ctrl-C, callbacks and the progress bar get their turn


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
    n_train = len(data.X) - _held_out(len(data.X), validation_split)
    optimizer = checked_optimizer(optimizer, epochs * -(-n_train // batch_size))
    callbacks = checked_callbacks(callbacks)
    check_monitors(callbacks, data, validation_data is not None or bool(validation_split))
    order, validation = _split(model, data, validation_data, validation_split, sample_weight)

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
                order = _draw(model, order, n_train, validation_weight)
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


@dataclass(frozen=True)
class Data:
    """What to learn from: X (n, inputs), targets, float64 row weights (n,) or None where all are 1, the loss."""

    X: Any
    target: inputs.Targets
    weight: np.ndarray | None
    loss: LossChoice

    @classmethod
    def checked(
        cls, model: Any, X: Any, y: Any, loss: LossChoice | None, sample_weight: Any = None, class_weight: Any = None
    ) -> "Data":
        """What was passed to a model, or a ValueError or TypeError that says what is wrong with it."""
        inputs.check_raw(model.metadata)
        inputs.check_device(model.device, X=X, y=y, sample_weight=sample_weight)
        X = inputs.matrix(X, model.layers[0], dtype=model.dtype)
        loss = loss_for(model.output, loss)
        target = inputs.targets(y, len(X), model.layers[-1], model.output, loss, dtype=model.dtype)
        weight = inputs.row_weights(sample_weight, class_weight, target, len(X), dtype=model.dtype)
        return cls(X, target, _in_range(weight, loss), loss)

    @property
    def declared(self) -> Loss:
        """What the loss says of itself."""
        return loss_and_parameter(self.loss)[0]

    def needs(self, optimizer: Optimizer | None = None, rows: int = 1, l2: float = 0.0, outputs: bool = False) -> Needs:
        """What an engine's `load` wants to know of training, or without an optimiser of evaluation; rows of a batch."""
        target = self.target.values.dtype if self.target.values.ndim == 2 else None
        gathered = (self.X.dtype, target, None if self.weight is None else self.weight.dtype)
        if optimizer is None:
            return Needs(self.loss, gathered=gathered, rows=rows, outputs=outputs)
        return Needs(self.loss, optimizer.update, gathered, rows, optimizer.clip_norm is not None, l2 > 0, outputs)

    def mass(self, order: np.ndarray | None, batch_size: int) -> np.ndarray:
        """The sum of row weights of each batch of the rows `order`, or of all rows as they lie."""
        n = self.X.shape[0] if order is None else len(order)
        starts = np.arange(0, n, batch_size)
        if self.weight is None:
            return np.minimum(batch_size, n - starts).astype(np.float64)
        if order is None:
            return np.add.reduceat(self.weight, starts)
        mass = np.empty(len(starts))
        many = max(1, MANY_ROWS // batch_size)  # batches at a time: the weights of all rows are not copied
        for n in range(0, len(starts), many):
            rows = order[n * batch_size : (n + many) * batch_size]
            mass[n : n + many] = np.add.reduceat(self.weight[rows], np.arange(0, len(rows), batch_size))
        return mass

    def scales(self, mass: np.ndarray) -> np.ndarray:
        """What each batch's sum of row losses is multiplied by: 0 where all rows of a batch weigh next to nothing."""
        if not self.declared.averaged:
            return np.ones_like(mass)
        return np.divide(1.0, mass, out=np.zeros_like(mass), where=mass >= np.finfo(np.float32).tiny)

    def decay(self, l2: float, mass: np.ndarray) -> np.ndarray:
        """The l2 of each batch."""
        return np.full(len(mass), l2, np.float64)

    def locate(self, batches: Batches) -> tuple["Data", Batches]:
        """Where compiled code finds these batches of these data: others of other data, maybe."""
        return self, batches

    def mean(self, losses: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """The loss of several batches out of those of each, which lie along the last axis."""
        if not self.declared.averaged:
            return losses.sum(-1)
        total = mass.sum(-1, keepdims=True)
        share = np.divide(mass, total, out=np.zeros_like(mass), where=total > 0)  # of one batch it is 1 exactly
        return (losses * share).sum(-1)


def _in_range(weight: np.ndarray | None, loss: LossChoice) -> np.ndarray | None:
    """Row weights none of which, nor any of their sums, is too large or small for float32."""
    if weight is None or not loss_and_parameter(loss)[0].averaged or 2.0**-20 <= weight.max() <= 2.0**32:
        return weight
    return np.ldexp(weight, -np.frexp(weight.max())[1])  # a mean by them is the same to the bit


@dataclass
class Noise:
    """What dropout's bits are drawn by: a network's seed, and how many steps it has made in all its trainings."""

    seed: int
    step: int = 0


@dataclass
class Memory:
    """What an optimiser remembers: its arrays, laid out like the parameters, and how many steps it has made."""

    optimizer: Optimizer
    arrays: list[Any]  # NumPy's, or numba-cuda's once a GPU has them
    noise: Noise  # the network's own
    step: int = 0
    learning_rate: float = 0.0  # of the last step

    @classmethod
    def fresh(cls, model: Any, optimizer: Optimizer) -> "Memory":
        """That of an optimiser before its first step."""
        arrays = [aligned_zeros(len(model.parameters), model.dtype) for _ in optimizer.slots]
        return cls(optimizer, arrays, model.noise)

    def __getstate__(self) -> dict[str, Any]:
        on_host = [array if isinstance(array, np.ndarray) else array.copy_to_host() for array in self.arrays]
        return {**self.__dict__, "arrays": on_host}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.arrays = [aligned_copy(array) for array in self.arrays]


def _are_ours(arrays: Sequence[Any], parameters: np.ndarray) -> bool:
    """Whether compiled code may write to these, each in memory of its own, as those on a GPU are."""
    on_host = [array for array in arrays if isinstance(array, np.ndarray)]
    return all(array.flags.writeable and array.flags.aligned for array in on_host) and not any(
        np.may_share_memory(a, b) for a, b in itertools.combinations([parameters, *on_host], 2)
    )


class Learner:
    """Makes steps on a network, a slice of many at a time."""

    def __init__(self, engine: Any, data: Data, memory: Memory, batch_size: int, l2: float) -> None:
        self.engine, self.data, self.memory, self.l2 = engine, data, memory, l2
        self.batch_size = int(batch_size)  # compiled code is handed no NumPy scalar
        one = self.engine.parameters.shape, self.engine.dtype, self.engine.parameters.strides
        n_slots = len(memory.optimizer.slots)
        alike = [(array.shape, array.dtype, array.strides) for array in memory.arrays] == [one] * n_slots
        if not alike or not _are_ours(memory.arrays, self.engine.parameters):
            raise ValueError(
                f"optimizer_state must hold {n_slots} arrays like the model's parameters, of shape "
                f"{one[0]} and dtype {one[1]}, each in writable memory of its own: set it to None to start anew"
            )
        check_count("optimizer_state.step", memory.step, 0)
        memory.arrays = self.engine.hold(memory.arrays)
        self._slice, self._rows = 1, 0  # steps; what the batches' weights were last counted for
        self._losses = np.zeros(0)  # of the last slice's steps

    @forks.cached
    def _placed(self) -> tuple[Any, Any, Any]:
        """The data where the engine reads them best: asked for by who runs on all of it, not on dense parts."""
        return self.engine.place(self.data.X, self.data.target.values, self.data.weight)

    def placed(
        self, X: Any, target: inputs.Targets, loss: LossChoice, rows: np.ndarray | None, weight: np.ndarray | None
    ) -> tuple[Any, ...]:
        """What `evaluation.measure` takes, with its data where the engine reads it best."""
        same = X is self.data.X and target is self.data.target
        x, values, _ = self._placed if same else self.engine.place(X, target.values)
        return x, target, loss, rows, weight, values

    @property
    def lost_step(self) -> int:
        """The first step of the last slice whose loss is not finite, counted from the training's first, which is 0."""
        return self.memory.step - len(self._losses) + int(np.isfinite(self._losses).argmin())

    def steps(self, n_rows: int) -> int:
        """The number of batches in n_rows rows, the last of which may be smaller."""
        return -(-n_rows // self.batch_size)

    def epoch(self, order: np.ndarray | None) -> Iterator[tuple[int, dict[str, float]]]:
        """Learn from the rows `order`, or from all as they lie, which are then not copied where their dtype is right.

        After each slice: its number of steps, and loss and accuracy so far.
        """
        rows = self.data.X.shape[0] if order is None else len(order)
        self.batch_size = min(self.batch_size, rows)
        if self._rows != rows or self.data.weight is not None:  # else they are those of the epoch before
            self._rows, self._mass = rows, self.data.mass(order, self.batch_size)
            self._scales, self._decay = self.data.scales(self._mass), self.data.decay(self.l2, self._mass)
        mass, scales, decay, losses = self._mass, self._scales, self._decay, np.zeros(len(self._mass))
        right, done = 0.0, 0
        while done < len(mass):
            n = min(self._slice, len(mass) - done)
            first = done * self.batch_size
            n_rows = min(n * self.batch_size, rows - first)
            part = slice(done, done + n)
            batches = Batches(order, first, n_rows, self.batch_size)
            losses[part], hits, _ = self._run(batches, scales[part], decay[part])
            right, done = right + float(hits.sum()), done + n
            logs = {"loss": float(self.data.mean(losses[:done], mass[:done]))}
            if self.data.target.metric:
                logs["accuracy"] = right / (first + n_rows)
            yield n, logs

    def together(self, n_rows: int, most: int) -> int:
        """How many epochs of n_rows rows make a slice, from 1 to `most`."""
        return max(1, min(self._slice // self.steps(n_rows), MANY_ROWS // n_rows, most))

    def epochs(self, next_order: Callable[[], np.ndarray | None], n: int) -> list[dict[str, float]]:
        """So many epochs as `epoch` makes, in one slice. Each one's loss, accuracy and last learning rate.

        next_order: the order of the next epoch, which may be the array of the one before; or None, for each of them.
        """
        orders: list[np.ndarray] = []
        masses: list[np.ndarray] = []
        for _ in range(n):
            order = next_order()
            rows = self.data.X.shape[0] if order is None else len(order)
            self.batch_size = min(self.batch_size, rows)
            orders += [] if order is None else [order.copy()]
            masses += [masses[0] if masses and self.data.weight is None else self.data.mass(order, self.batch_size)]
        order, mass = np.concatenate(orders) if orders else None, np.concatenate(masses)
        batches = Batches(order, 0, rows, self.batch_size, n)
        results = self._run(batches, self.data.scales(mass), self.data.decay(self.l2, mass))
        losses, right, rates = (values.reshape(n, -1) for values in results)
        logs = {"loss": self.data.mean(losses, mass.reshape(n, -1))}
        if self.data.target.metric:
            logs["accuracy"] = right.sum(-1) / rows
        logs["learning_rate"] = rates[:, -1]
        return [dict(zip(logs, values, strict=True)) for values in zip(*(v.tolist() for v in logs.values()))]

    def request(self, batches: Batches, scales: np.ndarray, decay: np.ndarray, rates: np.ndarray) -> TrainRequest:
        """The next steps, on these batches of the data. scales, decay, rates: the learning rates, of each step."""
        memory = self.memory
        data, batches = self.data.locate(batches)
        if data is self.data:
            x, target, weight = self._placed
        else:
            x, target, weight = self.engine.place(data.X, data.target.values, data.weight)
        return TrainRequest(
            x, target, weight, batches, Objective(data.loss, data.target.metric, scales, decay),
            Descent(
                memory.optimizer.update, memory.arrays, memory.optimizer.scalars(memory.step, rates),
                memory.optimizer.clip_norm,
            ),
            noise=(memory.noise.seed, memory.noise.step),
        )  # fmt: skip

    def _run(
        self, batches: Batches, scales: np.ndarray, decay: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
        """A slice of steps: each one's loss, number of right rows, and learning rate."""
        memory, n = self.memory, len(scales)
        rates = memory.optimizer.rates(memory.step, n)
        start = time.perf_counter()
        losses, right = self.engine.train(self.request(batches, scales, decay, rates))
        seconds = time.perf_counter() - start
        if 2 * n > self._slice:  # at most twice as many next time, as many as fit the time
            self._slice = max(1, min(2 * n, int(n * SLICE_SECONDS / max(seconds, 1e-9))))
        memory.step, memory.learning_rate = memory.step + n, float(rates[-1])
        memory.noise.step += n
        self._losses = losses
        return losses, right, rates


_compiling = forks.lock()  # a signal handler may use a model, too


def load_kernels(engine: Any, say: Callable[[str], None], needs: Needs) -> float:
    """Load what the engine runs, and `say` so where it has to be compiled. Returns the seconds that compiling took."""
    announced = False

    def tell() -> None:
        nonlocal announced
        if not announced:
            announced = True
            say("compiling kernels once ...")

    with _compiling:
        start = time.perf_counter()
        with announcing.announced_to(tell):
            engine.load(needs)
    if not announced:
        return 0.0
    seconds = time.perf_counter() - start
    say(f"compiled in {seconds:.1f} s, and cached for later programs")
    return seconds


def _split(
    model: Any, data: Data, validation_data: Any, fraction: float, sample_weight: Any
) -> tuple[np.ndarray | None, tuple[Any, ...] | None]:
    """All rows, still to be drawn from, None without a split, and what `evaluation.measure` takes, if anything."""
    n = len(data.X)
    if validation_data is None and not fraction:
        return None, None
    if validation_data is None:
        order = row_order.numbered(n)
        # without the class weights, which weigh in learning alone
        weight = inputs.row_weights(sample_weight, None, data.target, n, dtype=model.dtype)
        return order, (data.X, data.target, data.loss, order[: _held_out(n, fraction)], _in_range(weight, data.loss))
    if fraction:
        raise ValueError("validation_split must be 0 with validation_data, got both")
    if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
        got = type(validation_data).__name__
        got += f" of {len(validation_data)}" if isinstance(validation_data, (tuple, list)) else ""
        raise TypeError(f"validation_data must be (X, y) or (X, y, weights), got {got}")
    inputs.check_device(model.device, **{f"validation_data[{n}]": array for n, array in enumerate(validation_data)})
    X = inputs.matrix(validation_data[0], model.layers[0], "validation_data[0]", dtype=model.dtype)
    target = inputs.targets(
        validation_data[1], len(X), model.layers[-1], model.output, data.loss, "validation_data[1]", dtype=model.dtype
    )  # fmt: skip
    weights = validation_data[2] if len(validation_data) == 3 else None
    weight = inputs.row_weights(weights, None, target, len(X), "validation_data[2]", dtype=model.dtype)
    return None, (X, target, data.loss, None, _in_range(weight, data.loss))


def _draw(model: Any, order: np.ndarray, n_train: int, weight: np.ndarray | None) -> np.ndarray:
    """Draw the rows held out, which come first in `order`; the others. ValueError where none held out has a weight."""
    held_out, train = order[:-n_train], order[-n_train:]
    row_order.shuffle(model.random, order)
    held_out.sort()
    train.sort()
    if weight is not None and not weight[held_out].any():
        raise ValueError(f"sample_weight must not be 0 for all {len(held_out)} rows that validation_split holds out")
    return train


def _held_out(n: int, fraction: float) -> int:
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


def nothing(*args: Any) -> None:
    """What stands for a method that a callback has not."""
