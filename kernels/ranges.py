"""Checks of the numbers that people pass."""

import math
import numbers
from typing import TypeGuard


def is_real(value: object) -> TypeGuard[float]:
    """Whether this is a real number; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_number(name: str, value: object, low: float, high: float = math.inf, closed: str = "both") -> None:
    """Check that the argument `name` is a finite real number between `low` and `high`.

    `closed` says which ends belong to the interval: "both", "left", "right" or "neither". Raises TypeError for what
    is no number (a bool is none), ValueError for a number outside the interval.
    """
    left, right = closed in ("both", "left"), closed in ("both", "right") and high != math.inf
    expected = f"{name} must be a finite number in {'[' if left else '('}{low}, {high}{']' if right else ')'}"
    if not is_real(value):
        raise TypeError(f"{expected}, got {value!r}")
    if not ((value >= low if left else value > low) and (value <= high if right else value < high)):
        raise ValueError(f"{expected}, got {value!r}")


def check_count(name: str, value: object, low: int = 1) -> None:
    """Check that the argument `name` is an integer >= `low`: TypeError if it is no integer, ValueError if too small."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer >= {low}, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")
