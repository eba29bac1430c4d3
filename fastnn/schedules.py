"""Learning-rate schedules: callables from step numbers to learning rates.

A schedule takes an int64 array of steps and returns a float64 array of the same shape. A step's number is the number of
updates already made, so the first is 0. Any callable that does so can stand where a schedule is expected. `fit` asks it
for the rates of all steps (of the first million, of more) before it begins, and again for those of each slice of steps.

Every schedule here raises TypeError or ValueError for an argument that does not fit.
"""

from dataclasses import dataclass

import numpy as np

from kernels.declarations.ranges import check_count, check_number, is_real
from kernels.optimizers.rates import Schedule, check_rate


@dataclass(frozen=True)
class Constant:
    """The same rate at every step.

    Parameters
    ----------
    rate : float
        The learning rate, above 0.
    """

    rate: float

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0, closed="neither")

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return np.full(np.shape(step), self.rate, dtype=np.float64)


@dataclass(frozen=True)
class StepDecay:
    """A rate that falls by a factor every `every` steps: initial * factor ** (step // every).

    Parameters
    ----------
    initial : float
        The rate of the first steps, above 0.
    factor : float
        What the rate is multiplied by, above 0 and at most 1.
    every : int
        The number of steps with the same rate, at least 1.
    """

    initial: float
    factor: float
    every: int

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0, closed="neither")
        check_number("factor", self.factor, 0, 1, closed="right")
        check_count("every", self.every)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return self.initial * np.power(float(self.factor), np.asarray(step) // self.every)


@dataclass(frozen=True)
class CosineDecay:
    """Half a cosine from one rate to another, which stays from there on.

    Parameters
    ----------
    initial : float
        The rate at step 0, above 0.
    steps : int
        The step at which the rate is `final`, at least 1.
    final : float
        The rate from there on, at least 0.

    References
    ----------
    Loshchilov & Hutter 2017, SGDR, equation 5, without restarts.
    """

    initial: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0, closed="neither")
        check_count("steps", self.steps)
        check_number("final", self.final, 0)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        progress = np.minimum(step, self.steps) / self.steps
        return self.final + 0.5 * (self.initial - self.final) * (1.0 + np.cos(np.pi * progress))


@dataclass(frozen=True)
class InverseScaling:
    """initial / (step + 1) ** power: scikit-learn's "invscaling", counted in steps.

    Parameters
    ----------
    initial : float
        The rate at step 0, above 0.
    power : float
        The exponent, at least 0.
    """

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0, closed="neither")
        check_number("power", self.power, 0)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return self.initial / np.power(np.asarray(step) + 1.0, self.power)


@dataclass(frozen=True)
class WarmUp:
    """Steps whose rates rise linearly, and a schedule that starts after them at its own step 0.

    Step s < steps has the rate schedule(0) * (s + 1) / steps. It is never 0, and the last of these steps has the full
    rate.

    Parameters
    ----------
    schedule : schedule or float
        What follows, a schedule or a constant rate above 0.
    steps : int
        The number of steps that rise, at least 1.
    """

    schedule: Schedule | float
    steps: int

    def __post_init__(self) -> None:
        get(self.schedule, "schedule")
        check_count("steps", self.steps)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        inner = get(self.schedule)(np.maximum(np.asarray(step) - self.steps, 0))
        return inner * np.minimum((np.asarray(step) + 1.0) / self.steps, 1.0)


def get(value: Schedule | float, name: str = "learning_rate") -> Schedule:
    """The schedule that a value stands for.

    Parameters
    ----------
    value : schedule or float
        A callable, which is one already, or a number above 0, which is a constant rate.
    name : str
        The argument that messages name.

    Returns
    -------
    callable
        From an int64 array of steps to a float64 array of rates of the same shape.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    check_rate(name, value)
    return Constant(value) if is_real(value) else value  # type: ignore[return-value]
