"""Learning-rate schedules: callables from step numbers to learning rates.

A schedule takes an int64 array of steps (the number of updates already made, so the first is 0) and returns a
float64 array of the same shape. Any callable that does so can stand where a schedule is expected. `fit` asks it for the
rates of all steps (of the first million, of more) before it begins, and again for those of each slice of steps.
"""

from dataclasses import dataclass

import numpy as np

from kernels.optimizers.rates import Schedule, check_rate
from kernels.ranges import check_count, check_number, is_real


@dataclass(frozen=True)
class Constant:
    """The same rate at every step."""

    rate: float

    def __post_init__(self) -> None:
        check_number("rate", self.rate, 0, closed="neither")

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return np.full(np.shape(step), self.rate, dtype=np.float64)


@dataclass(frozen=True)
class StepDecay:
    """initial * factor ** (step // every): the rate falls by `factor` every `every` steps."""

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
    """Half a cosine from `initial` at step 0 to `final` at step `steps`, and `final` from there on.

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
    """initial / (step + 1) ** power: scikit-learn's "invscaling", counted in steps."""

    initial: float
    power: float = 0.5

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0, closed="neither")
        check_number("power", self.power, 0)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        return self.initial / np.power(np.asarray(step) + 1.0, self.power)


@dataclass(frozen=True)
class WarmUp:
    """`steps` steps that rise linearly to the first rate of `schedule`, which then starts at its own step 0.

    Step s < steps has the rate schedule(0) * (s + 1) / steps: never 0, and the full rate on the last of them.
    `schedule` is a schedule or a constant rate.
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
    """The schedule that `value` stands for: a callable is one already, a number > 0 is a constant rate.

    Raises TypeError or ValueError, naming the argument `name`, for anything else.
    """
    check_rate(name, value)
    return Constant(value) if is_real(value) else value  # type: ignore[return-value]
