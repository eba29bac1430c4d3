"""When training diverges: finding it, and going back to the last epoch after which everything was finite."""

import math
from collections.abc import Sequence
from typing import Any

from fastnn.training.learner import Learner
from fastnn.training.observers import Epoch, Observer
from fastnn.training.row_order import Orders

WHAT_TO_TRY = "lower the learning_rate, clip the gradient (clip_norm), or scale inputs and targets to smaller numbers"
# The loss is looked at after each slice of steps, the parameters at the end of an epoch and, within it, after this many
# rows. A look reads each parameter once, a row takes six operations of it: at 12 GB/s and 200 GFLOP/s that is 0.1 %.
ROWS_BETWEEN_LOOKS = 1 << 13


class Guard(Observer):
    """Keeps what the parameters were before the epochs that are being made, and goes back to it if they are lost.

    Epochs that are made together are lost together. They are then made again, half as many at a time, until the first
    of those that are not finite is the only one; before it the state is that of an undisturbed training, to the bit.

    learner: what makes the steps. orders: of the rows, of `n_rows` in an epoch. on: without it nothing is kept or lost.
    message: what has happened, once the training has to end. unseen: whether the parameters of a training that goes on
    whatever happens are not finite at its end.
    """

    def __init__(self, learner: Learner, orders: Orders, n_rows: int, on: bool) -> None:
        self.learner, self.orders, self.n_rows, self.on = learner, orders, n_rows, on
        self.message: str | None = None
        self.unseen = False
        self._most = 1 << 16  # epochs that may be made together
        self._copies: list[Any] = []
        self._together = 1
        self._rows = 0  # since the parameters were looked at

    def together(self, left: int) -> int:
        """Once epochs were lost, fewer at a time."""
        return min(left, self._most)

    def epochs_begin(self, together: int) -> None:
        """Keep the parameters before `together` epochs are made, and all that it takes to make several again."""
        if not self.on:
            return
        memory = self.learner.memory
        state = memory.arrays if together > 1 else []
        self._copies = self.learner.engine.keep(state, self._copies if len(self._copies) == 1 + len(state) else None)
        self._together, self._rows = together, 0
        if together > 1:
            self._steps = memory.step, memory.noise.step
            self._drawn = self.orders.state()

    def accepts(self, ended: Sequence[dict[str, float]]) -> bool:
        """Whether loss and parameters are finite after epochs made together; if not, all is as it was kept."""
        return not self._lost(sum(logs["loss"] for logs in ended), len(ended) * self.n_rows)

    def slice_ended(self, epoch: Epoch) -> bool:
        """Whether training is lost within this epoch."""
        rows = epoch.steps * self.learner.batch_size
        return self._together == 1 and self._ends(epoch, rows, ended=False)

    def epoch_ended(self, epoch: Epoch) -> bool:
        """Whether training is lost in this epoch."""
        return self._together == 1 and (self.message is not None or self._ends(epoch, 0))

    def failed(self) -> None:
        """Go back if all is lost within the epoch that was being made."""
        self._lost(0.0, 0)

    def steps_ended(self) -> None:
        """Look at the parameters of a training that has gone on whatever happened."""
        self.unseen = not self.on and not self.learner.engine.finite()

    def _lost(self, loss: float, rows: int, ended: bool = True) -> bool:
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

    def _ends(self, epoch: Epoch, rows: int, ended: bool = True) -> bool:
        """Whether training is lost in this epoch. If so, `message` says how.

        The loss in the logs is not finite then: it is NaN where parameters alone were lost. The model has those of the
        epoch before by now, so that callbacks and readers of the history have nothing else to see it by.
        """
        loss = epoch.logs["loss"]
        if not self._lost(loss, rows, ended):
            return False
        self.message = self._message(epoch.number + 1, loss)
        if math.isfinite(loss):
            epoch.logs["loss"] = math.nan
        return True

    def _go_back(self) -> None:
        memory = self.learner.memory
        self.learner.engine.put_back(self._copies, memory.arrays)
        if self._together > 1:
            memory.step, memory.noise.step = self._steps
            self.orders.put_back(self._drawn)
        self._most = max(1, self._together // 2)

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
