"""What is asked of a loss that a program declares, before it is known by its name."""

import importlib.util
import keyword
import math
import sys
from collections.abc import Iterator
from types import FunctionType
from typing import Any

import numpy as np

from kernels.engine.codes import OUTPUTS

_STEP = float(np.cbrt(np.finfo(np.float64).eps / 2))  # central differences lose by it as much as by rounding
_KINK = 1e-3  # the share of a slope by which those on both sides of a point differ at most where there is no kink
_ALLOWED = 1e-6, 1e-8, 1e-9  # of the slope, of the largest slope, of the loss
# Far from round numbers, where kinks lie, and from each other
_Z = (-2.7183, -1.3217, -0.6193, -0.2357, -0.0471, 0.0529, 0.3183, 0.7323, 1.6177, 3.1419)
_ANY, _ABOVE, _BETWEEN = (-1.7321, -0.4343, 0.5772, 2.2361), (0.0, 0.4343, 1.0, 2.2361), (0.0, 0.1592, 0.5772, 1.0)


def verify(loss: Any) -> None:
    """Raise TypeError or ValueError naming what is wrong with a loss: its name, its functions, its derivative."""
    name, outputs, parameter = loss.name, loss.outputs, loss.parameter
    if isinstance(name, str) and name.isidentifier():
        kernels_own = name in vars(sys.modules["kernels"]) or importlib.util.find_spec(f"kernels.{name}")
        if kernels_own or keyword.iskeyword(name):
            whose = "kernels'" if kernels_own else "Python's"
            raise ValueError(f"name must be a new one, but {name!r} is {whose} own")
    if not isinstance(outputs, tuple) or not outputs or not set(outputs) <= set(OUTPUTS):
        raise ValueError(f"outputs must be a tuple of {', '.join(OUTPUTS)}, got {outputs!r}")
    arguments = "z, target" + (f", {parameter.name}" if parameter else "")
    for which, function in (("f", loss.f), ("df", loss.df)):
        if function is None and which == "df":
            continue
        if not isinstance(function, FunctionType) or function.__code__.co_argcount != arguments.count(",") + 1:
            raise TypeError(f"{which} must be a Python function of ({arguments}), got {function!r}")
    _verify_derivative(loss)


def _verify_derivative(loss: Any) -> None:
    """Raise ValueError at a point where f has a slope, by central differences in float64, and it is another one."""
    with np.errstate(all="ignore"):
        points = list(_points(loss))
    if not points:
        raise ValueError(f"f must have a slope somewhere between z = {_Z[0]} and {_Z[-1]}, got kinks or NaN alone")
    largest = max(abs(difference) for *_, difference in points)
    of_slope, of_largest, of_loss = _ALLOWED
    for z, target, value, slope, difference in points:
        allowed = of_slope * abs(difference) + of_largest * largest + of_loss * abs(value)
        if not abs(slope - difference) <= allowed:
            which = "df" if loss.df else "the second value of f"
            raise ValueError(
                f"{which} must be the derivative of f with respect to z: at z = {z}, target = {target} it is "
                f"{slope:.8g}, but by central differences f has the slope {difference:.8g}"
            )


def _points(loss: Any) -> Iterator[tuple[float, float, float, float, float]]:
    """(z, target, loss, what is said of its slope, its slope by central differences) where it has one."""
    targets, parameter = loss.targets, 0.0
    if loss.parameter is not None:
        least, most = loss.parameter.least, loss.parameter.most
        parameter = loss.parameter.default or least + min(1.0, most - least) / 2
    if targets.only:
        tried = targets.only
    elif targets.most < math.inf:
        tried = tuple(targets.least + share * (targets.most - targets.least) for share in _BETWEEN)
    else:
        tried = _ANY if targets.least == -math.inf else tuple(targets.least + more for more in _ABOVE)
    for target in tried:
        for z in _Z:
            step = _STEP * max(1.0, abs(z))
            (below, _), (at, slope), (above, _) = (_both(loss, x, target, parameter) for x in (z - step, z, z + step))
            difference = (above - below) / ((z + step) - (z - step))
            bend = abs(above - 2.0 * at + below)
            if math.isfinite(difference) and bend <= _KINK * step * max(abs(difference), abs(slope)):
                yield z, target, at, slope, difference


def _both(loss: Any, z: float, target: float, parameter: float) -> tuple[float, float]:
    result = loss.rule(np.float64(z), np.float64(target), parameter)
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"df must be given, or f return (loss, its derivative with respect to z), got {result!r}")
    return float(result[0]), float(result[1])
