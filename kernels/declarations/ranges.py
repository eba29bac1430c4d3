"""Checks of the numbers that people pass."""

import math
import numbers
from dataclasses import dataclass
from typing import TypeGuard


def is_real(value: object) -> TypeGuard[float]:
    """Whether this is a real number; a bool is none."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


@dataclass(frozen=True)
class Range:
    """What finite numbers an argument may be; closed: which ends belong to it, "both", "left", "right" or "neither"."""

    low: float
    high: float = math.inf
    closed: str = "both"

    @property
    def interval(self) -> str:
        """The range, as mathematics writes it."""
        left, right = self.closed in ("both", "left"), self.closed in ("both", "right") and self.high != math.inf
        return f"{'[' if left else '('}{self.low}, {self.high}{']' if right else ')'}"

    def takes(self, value: float) -> bool:
        """Whether a number is in the range."""
        inside = self.low < value < self.high
        return (
            inside
            or (value == self.low and self.closed in ("both", "left"))
            or (value == self.high != math.inf and self.closed in ("both", "right"))
        )

    def __call__(self, name: str, value: object) -> None:
        """Check that the argument `name` is such a number: TypeError if it is none, ValueError outside of the range."""
        if type(value) is not float and not is_real(value):  # numbers.Real is slow to ask
            raise TypeError(f"{name} must be a finite number in {self.interval}, got {value!r}")
        if not self.takes(value):
            raise ValueError(f"{name} must be a finite number in {self.interval}, got {value!r}")


def check_number(name: str, value: object, low: float, high: float = math.inf, closed: str = "both") -> None:
    """Check that the argument `name` is a number in a range, as that does."""
    Range(low, high, closed)(name, value)


def check_count(name: str, value: object, low: int = 1) -> None:
    """Check that the argument `name` is an integer >= `low`: TypeError if it is no integer, ValueError if too small."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer >= {low}, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be an integer >= {low}, got {value!r}")
