"""Steps on a network, a slice of many at a time. They are made in an engine of kernels, which does not come back."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.inputs.data import MANY_ROWS, Data
from fastnn.training.evaluation import EvaluateRequest
from fastnn.training.optimizer_state import Memory, are_ours
from kernels.declarations.ranges import check_count
from kernels.engine.requests import Batches, Descent, Objective, TrainRequest
from kernels.process import forks

SLICE_SECONDS = 0.1  # how long compiled code runs before Ctrl-C, callbacks and the progress bar get their turn


class Learner:
    """Makes steps on a network, a slice of many at a time."""

    def __init__(self, engine: Any, data: Data, memory: Memory, batch_size: int, l2: float) -> None:
        self.engine, self.data, self.memory, self.l2 = engine, data, memory, l2
        self.batch_size = int(batch_size)  # compiled code is handed no NumPy scalar
        one = self.engine.parameters.shape, self.engine.dtype, self.engine.parameters.strides
        n_slots = len(memory.optimizer.slots)
        alike = [(array.shape, array.dtype, array.strides) for array in memory.arrays] == [one] * n_slots
        if not alike or not are_ours(memory.arrays, self.engine.parameters):
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

    def placed(self, request: EvaluateRequest) -> EvaluateRequest:
        """The same request, with its data where the engine reads them best."""
        same = request.X is self.data.X and request.target is self.data.target
        x, values, _ = self._placed if same else self.engine.place(request.X, request.target.values)
        return replace(request, X=x, values=values)

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
        if not self.data.in_place:
            return 1
        return max(1, min(self._slice // self.steps(n_rows), MANY_ROWS // n_rows, most))

    def epochs(self, next_order: Callable[[], np.ndarray | None], n: int) -> list[dict[str, float]]:
        """Make n epochs as `epoch` does, in one slice. Each one's loss, accuracy and last learning rate.

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
