"""What is learnt from: data, targets, row weights and the loss, and what each batch of them counts."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn import inputs
from fastnn.losses import loss_for
from fastnn.optimizers import Optimizer
from kernels.engine.requests import Batches, Needs
from kernels.losses import Loss, LossChoice, loss_and_parameter

MANY_ROWS = 1 << 16


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
        return cls(X, target, in_range(weight, loss), loss)

    @property
    def declared(self) -> Loss:
        """What the loss says of itself."""
        return loss_and_parameter(self.loss)[0]

    @property
    def in_place(self) -> bool:
        """Whether compiled code finds all rows where they lie, and not in copies of some of them."""
        return True

    def needs(
        self,
        optimizer: Optimizer | None = None,
        rows: int = 1,
        l2: float = 0.0,
        outputs: bool = False,
        gradients: bool = False,
    ) -> Needs:
        """What an engine's `load` wants to know of training, or without an optimiser of evaluation; rows of a batch."""
        target = self.target.values.dtype if self.target.values.ndim == 2 else None
        gathered = (self.X.dtype, target, None if self.weight is None else self.weight.dtype)
        rows = int(rows)  # a schedule is handed no NumPy scalar
        if optimizer is None:
            return Needs(loss=self.loss, gathered=gathered, rows=rows, outputs=outputs, gradients=gradients)
        return Needs(
            loss=self.loss, update=optimizer.update, gathered=gathered, rows=rows,
            clips=optimizer.clip_norm is not None, decays=l2 > 0, outputs=outputs,
        )  # fmt: skip

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


def in_range(weight: np.ndarray | None, loss: LossChoice) -> np.ndarray | None:
    """Row weights none of which, nor any of their sums, is too large or small for float32."""
    if weight is None or not loss_and_parameter(loss)[0].averaged or 2.0**-20 <= weight.max() <= 2.0**32:
        return weight
    return np.ldexp(weight, -np.frexp(weight.max())[1])  # a mean by them is the same to the bit
