"""When training diverges: finding it, and going back to the last epoch after which everything was finite."""

import math
from typing import Any

import numpy as np

WHAT_TO_TRY = "lower the learning_rate, clip the gradient (clip_norm), or scale inputs and targets to smaller numbers"
# The loss is looked at after each slice of steps, the parameters at the end of an epoch and, within it, after this many
# rows. A look reads each parameter once, a row takes six operations of it: at 12 GB/s and 200 GFLOP/s that is 0.1 %.
ROWS_BETWEEN_LOOKS = 1 << 13


class Guard:
    """Keeps what the parameters were before the epochs that are being made, and goes back to it if they are lost.

    Epochs that are made together are lost together. They are then made again, half as many at a time, until the first
    of those that are not finite is the only one; before it the state is that of an undisturbed training, to the bit.

    learner: what makes the steps. random: what draws the orders of the rows. on: without it nothing is kept or lost.
    most: how many epochs may be made together. message: what has happened, once the training has to end.
    """

    def __init__(self, learner: Any, random: np.random.Generator, on: bool) -> None:
        self.learner, self.random, self.on, self.most = learner, random, on, 1 << 16
        self.message: str | None = None
        self._copies: list[Any] = []
        self._together = 1
        self._rows = 0  # since the parameters were looked at

    def keep(self, order: np.ndarray | None, together: int) -> None:
        """Keep the parameters before `together` epochs are made, and all that it takes to make several again."""
        if not self.on:
            return
        memory = self.learner.memory
        state = memory.arrays if together > 1 else []
        self._copies = self.learner.engine.keep(state, self._copies if len(self._copies) == 1 + len(state) else None)
        self._together, self._order, self._rows = together, order, 0
        if together > 1:
            self._steps = memory.step, memory.noise.step
            self._drawn = None if order is None else (order.copy(), self.random.bit_generator.state)

    def lost(self, loss: float, rows: int, ended: bool = True) -> bool:
        """Whether the loss or the parameters are not finite after `rows` more rows; if so, all is as it was kept.

        ended: whether the epochs have; within one the parameters are not looked at each time.
        """
        self._rows += rows
        if not self.on:
            return False
        if math.isfinite(loss):
            if not ended and self._rows < ROWS_BETWEEN_LOOKS:
                return False
            self._rows = 0
            if self.learner.engine.finite():
                return False
        self._go_back()
        return True

    def ends(self, epoch: int, logs: dict[str, float], rows: int, ended: bool = True) -> bool:
        """Whether training is `lost` in this epoch, counted from 0. If so, `message` says how.

        The loss in the logs is not finite then: it is NaN where parameters alone were lost. The model has those of the
        epoch before by now, so that callbacks and readers of the history have nothing else to see it by.
        """
        loss = logs["loss"]
        if not self.lost(loss, rows, ended):
            return False
        self.message = self._message(epoch + 1, loss)
        if math.isfinite(loss):
            logs["loss"] = math.nan
        return True

    def unseen(self) -> bool:
        """Whether the parameters of a training that goes on whatever happens are not finite at its end."""
        return not self.on and not self.learner.engine.finite()

    def _go_back(self) -> None:
        memory = self.learner.memory
        self.learner.engine.put_back(self._copies, memory.arrays)
        if self._together > 1:
            memory.step, memory.noise.step = self._steps
            if self._order is not None and self._drawn is not None:
                self._order[...], self.random.bit_generator.state = self._drawn
        self.most = max(1, self._together // 2)

    def _message(self, epoch: int, loss: float) -> str:
        """What has happened in this epoch, counted from 1, and what to try. Callbacks may change the parameters yet."""
        said, start = f"training diverged in epoch {epoch}", "the training" if epoch == 1 else "that epoch"
        if not self.learner.engine.finite():
            return f"{said}: the parameters were not finite before {start}; make a new model or load one"
        what = f"the loss is {loss} at step {self.learner.lost_step + 1}"
        if math.isfinite(loss):
            what = f"parameters are not finite after step {self.learner.memory.step}"
        back = f"from the end of epoch {epoch - 1}" if epoch > 1 else f"from before {start}"
        return f"{said}: {what}. The parameters were set back to those {back}; {WHAT_TO_TRY}"
