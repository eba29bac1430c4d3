"""What engines are asked for, on every device: what to load, and which steps to make."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kernels.losses import LossChoice
from kernels.optimizers.declaration import Update


@dataclass(frozen=True)
class Needs:
    """What the jobs to come will be about, so that what they run can be compiled before. A key of what is loaded.

    update: the optimiser's, None where no steps are made. gathered: the dtypes of data, of targets (None for labels)
    and of weights. rows: of a batch. clips: whether steps have a clip_norm. decays: whether they have an l2. outputs:
    whether those are asked for. gradients: whether gradients without steps are.
    """

    loss: LossChoice | None = None
    update: Update | None = None
    gathered: tuple[np.dtype | None, ...] = ()
    rows: int = 1
    clips: bool = False
    decays: bool = False
    outputs: bool = False
    gradients: bool = False
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(tuple(vars(self).values())))

    def __hash__(self) -> int:
        return self._hash  # made once, for `predict` looks for it with every row


@dataclass(eq=False, slots=True)
class Batches:
    """Batches of `size` rows, the last of a pass maybe smaller, of the rows order[first : first + total].

    order: codes.ROW_NUMBER, or None for the rows as they are. passes: how many times the `total` rows are gone over;
    they follow each other in the order, or without one are the same.
    """

    order: np.ndarray | None
    first: int
    total: int
    size: int
    passes: int = 1

    @property
    def steps(self) -> int:
        """How many batches there are in all passes."""
        return self.passes * -(-self.total // self.size)


@dataclass(eq=False, slots=True)
class Objective:
    """What steps make smaller.

    metric: one of codes.METRICS. scales: float64 (steps,), what each step's sum of weighted row losses is multiplied
    by. l2: for all steps, or one each; the losses hold its term.
    """

    loss: LossChoice
    metric: str | None
    scales: np.ndarray
    l2: float | np.ndarray = 0.0


@dataclass(eq=False, slots=True)
class Descent:
    """How steps change the parameters.

    state: the optimiser's arrays, like the parameters, one for each of the update's slots. scalars: float64 (steps, n),
    the update's, in C order. clip_norm: the largest norm of the whole gradient that an update takes as it is. hook:
    (address of a C function `void f(int64)`, its argument), called before each update; not on every device.
    """

    update: Update
    state: Sequence[Any]
    scalars: np.ndarray
    clip_norm: float | None = None
    hook: tuple[int, int] | None = None


@dataclass(eq=False, slots=True)
class TrainRequest:
    """Steps on batches of some rows.

    x: data (n, I). target: integer labels (n,) for softmax cross-entropy, else (n, O). weight: float64 (n,) or None.
    All three may be the host's, of any strides, or what an engine's `place` has made of them. noise: (dropout's seed,
    below 2^63, the number of the first step), or None: then nothing is dropped.
    """

    x: Any
    target: Any
    weight: Any
    batches: Batches
    objective: Objective
    descent: Descent
    noise: tuple[int, int] | None = None
