"""Optimisers: what to do with a gradient, as plain values. Their state lives in the model.

Compiled code reads an optimiser as the name of its `kernel` and, for each step, one row of `scalars`; `slots` says how
many state values it keeps for each parameter.

Each clips by the global norm if told to: where the norm of the whole gradient, of all weights and biases and with the
l2 term, is more than `clip_norm`, it is multiplied by clip_norm / norm (Pascanu et al. 2013, algorithm 1; Keras calls
it global_clipnorm). A gradient that holds NaN or infinity does not pass for a short one: it holds NaN afterwards.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fastnn import schedules
from fastnn.schedules import Schedule
from kernels.ranges import check_number

N_SCALARS = 8
# Of a training, so many steps of a schedule are looked at before the first is made, so many at a time. Those of
# fastnn.schedules take 15 to 140 ms for all of them, a thousandth of what a million of the briefest steps take.
CHECKED_STEPS, CHECKED_AT_ONCE = 1 << 20, 1 << 16


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent with momentum, as in scikit-learn and Keras.

    v = momentum * v - learning_rate * g; then w += v, or with Nesterov's momentum w += momentum * v - learning_rate * g
    (Sutskever et al. 2013, section 2, in the form that stores the look-ahead weights). Without momentum `nesterov`
    changes nothing.

    learning_rate: a number > 0 or a schedule of the step. momentum: in [0, 1]. clip_norm: None or a number > 0, the
    largest norm of the gradient, see above.
    """

    learning_rate: float | Schedule = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    clip_norm: float | None = None

    kernel: ClassVar[str] = "sgd"

    def __post_init__(self) -> None:
        schedules.get(self.learning_rate)
        check_number("momentum", self.momentum, 0, 1)
        if not isinstance(self.nesterov, (bool, np.bool_)):
            raise TypeError(f"nesterov must be True or False, got {self.nesterov!r}")
        check_clip_norm(self.clip_norm)

    @property
    def slots(self) -> int:
        """State values per parameter: the velocity, if there is momentum."""
        return 1 if self.momentum else 0

    def scalars(self, first_step: int, n_steps: int) -> np.ndarray:
        """What an update needs at steps first_step, first_step + 1, ...: (n_steps, 8) float64.

        Columns: learning rate, momentum, nesterov (0 or 1), zeros. Steps count from 0.
        """
        table = np.zeros((n_steps, N_SCALARS))
        table[:, 0] = _learning_rates(self.learning_rate, first_step, n_steps)
        table[:, 1] = self.momentum
        table[:, 2] = self.nesterov
        return table


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, algorithm 1).

    m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2;
    w -= learning_rate * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon), where t counts steps from 1.

    learning_rate: a number > 0 or a schedule of the step. beta1, beta2: in [0, 1). epsilon: > 0. clip_norm: None or a
    number > 0, the largest norm of the gradient, see above.
    """

    learning_rate: float | Schedule = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None

    kernel: ClassVar[str] = "adam"
    slots: ClassVar[int] = 2  # m and v

    def __post_init__(self) -> None:
        schedules.get(self.learning_rate)
        check_number("beta1", self.beta1, 0, 1, closed="left")
        check_number("beta2", self.beta2, 0, 1, closed="left")
        check_number("epsilon", self.epsilon, 0, closed="neither")
        check_clip_norm(self.clip_norm)

    def scalars(self, first_step: int, n_steps: int) -> np.ndarray:
        """What an update needs at steps first_step, first_step + 1, ...: (n_steps, 8) float64.

        Columns: learning rate, beta1, beta2, epsilon, 1 / (1 - beta1^t), 1 / (1 - beta2^t), zeros, where t = step + 1
        and steps count from 0.
        """
        t = np.arange(first_step + 1, first_step + n_steps + 1)
        table = np.zeros((n_steps, N_SCALARS))
        table[:, 0] = _learning_rates(self.learning_rate, first_step, n_steps)
        table[:, 1:4] = self.beta1, self.beta2, self.epsilon
        table[:, 4] = 1.0 / (1.0 - float(self.beta1) ** t)
        table[:, 5] = 1.0 / (1.0 - float(self.beta2) ** t)
        return table


Optimizer = SGD | Adam


def check_clip_norm(value: float | None) -> None:
    """Clipping is off, or to a finite number > 0."""
    if value is not None:
        check_number("clip_norm", value, 0, closed="neither")


_BY_NAME: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}


def get(value: Optimizer | str) -> Optimizer:
    """The optimiser that `value` stands for: an instance is one already, a name gives the one with its defaults."""
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, str) and value in _BY_NAME:
        return _BY_NAME[value]()
    names = ", ".join(map(repr, _BY_NAME))
    raise ValueError(f"optimizer must be one of {names} or an instance such as Adam(1e-3), got {value!r}")


def check_rates(optimizer: Optimizer, steps: int) -> None:
    """Raise ValueError where the schedule of a training of so many steps is wrong, in its first million of steps."""
    if callable(optimizer.learning_rate):
        steps = min(steps, CHECKED_STEPS)
        for first in range(0, steps, CHECKED_AT_ONCE):
            _learning_rates(optimizer.learning_rate, first, min(CHECKED_AT_ONCE, steps - first))


def _learning_rates(learning_rate: float | Schedule, first_step: int, n_steps: int) -> float | np.ndarray:
    """The rate of each step; what a schedule returns is checked here, since anybody may write one."""
    if not callable(learning_rate):
        return learning_rate
    rates = np.asarray(learning_rate(np.arange(first_step, first_step + n_steps)))
    if rates.dtype.kind not in "iuf":
        raise TypeError(f"learning_rate must return numbers, got dtype {rates.dtype}")
    if rates.shape != (n_steps,):
        raise ValueError(f"learning_rate must return one rate per step, shape ({n_steps},), got shape {rates.shape}")
    right = (rates >= 0) & (rates < np.inf)
    if not right.all():
        i = int(right.argmin())
        raise ValueError(f"learning_rate must return finite rates >= 0, got {rates[i]} at step {first_step + i}")
    return rates
