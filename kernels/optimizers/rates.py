"""Learning rates: a number, or a schedule, which is a callable from step numbers to rates."""

from collections.abc import Callable

import numpy as np

from kernels.declarations.ranges import check_number, is_real

Schedule = Callable[[np.ndarray], np.ndarray]
# Steps of a training's schedule that are looked at before the first step is made, and those at a time. The schedules of
# fastnn.schedules take 15 to 140 ms for all of them, a thousandth of what a million of the briefest steps take.
CHECKED_STEPS, CHECKED_AT_ONCE = 1 << 20, 1 << 16


def check_rate(name: str, value: object) -> None:
    """A number > 0, or a callable. Raises TypeError or ValueError, naming the argument, for anything else."""
    if is_real(value):
        check_number(name, value, 0, closed="neither")
    elif not callable(value) or isinstance(value, type):
        raise TypeError(f"{name} must be a number or a schedule such as CosineDecay(0.1, steps=1000), got {value!r}")


def rates_of(learning_rate: float | Schedule, first_step: int, n_steps: int) -> np.ndarray:
    """The rates (n_steps,), float64, of these steps, which count from 0.

    Raises TypeError or ValueError for what a schedule returns that is none: anybody may write one.
    """
    if not callable(learning_rate):
        return np.full(n_steps, learning_rate, np.float64)
    rates = np.asarray(learning_rate(np.arange(first_step, first_step + n_steps)))
    if rates.dtype.kind not in "iuf":
        raise TypeError(f"learning_rate must return numbers, got dtype {rates.dtype}")
    if rates.shape != (n_steps,):
        raise ValueError(f"learning_rate must return one rate per step, shape ({n_steps},), got shape {rates.shape}")
    right = (rates >= 0) & (rates < np.inf)
    if not right.all():
        i = int(right.argmin())
        raise ValueError(f"learning_rate must return finite rates >= 0, got {rates[i]} at step {first_step + i}")
    return rates.astype(np.float64, copy=False)


def check_rates(learning_rate: float | Schedule, steps: int) -> None:
    """Raise ValueError where a training's schedule is wrong in one of its steps; the first million are looked at."""
    if callable(learning_rate):
        steps = min(steps, CHECKED_STEPS)
        for first in range(0, steps, CHECKED_AT_ONCE):
            rates_of(learning_rate, first, min(CHECKED_AT_ONCE, steps - first))
