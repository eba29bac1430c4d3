"""The maths that rules are written in.

A rule is a plain Python function of scalars: an activation, its slope, the loss of an output, an optimiser's update of
one element. It is written over the functions of this module, `abs`, arithmetic, comparisons and other rules. Kernels
compile its text for their dtype and target (`functions.Maths.rule`): every number in it, and every one that it reads
from a global variable, is then of that dtype. A rule without branches, with `select` in their place, becomes vector
code. Called from Python a rule computes in NumPy's float64, on arrays too.
"""

import math
from typing import Any

import numpy as np

_LEAST_EXPONENT = -746.0
_erf = np.vectorize(math.erf, otypes=[np.float64])


def select(condition: Any, a: Any, b: Any) -> Any:
    """a where the condition holds, else b; both are computed."""
    return np.where(condition, a, b)


def exp(x: Any) -> Any:
    """e^x."""
    return np.exp(x)


def expm1(x: Any) -> Any:
    """e^x - 1, accurate where it is small too."""
    return np.expm1(x)


def exp_is_zero(x: Any) -> Any:
    """Whether x is so far below zero that exp(x) is 0; at minus infinity it is."""
    return np.less(x, _LEAST_EXPONENT)


def log(x: Any) -> Any:
    """The natural logarithm of x."""
    return np.log(x)


def log1p(x: Any) -> Any:
    """log(1 + x), without rounding 1 + x."""
    return np.log1p(x)


def tanh(x: Any) -> Any:
    """The hyperbolic tangent of x."""
    return np.tanh(x)


def erf(x: Any) -> Any:
    """The error function, 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return _erf(x)


def sqrt(x: Any) -> Any:
    """The square root of x."""
    return np.sqrt(x)
