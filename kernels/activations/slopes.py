"""The check of a program's own activation: its slope against central differences of its function, in float64."""

import inspect
from types import FunctionType
from typing import Any

import numpy as np

from kernels.sources import OFFERED

POINTS, STEP = np.linspace(-20.0, 20.0, 401), 2.0**-20
CLOSE = 1e-5  # of differences, relative to 1 and the difference


def check_rule(name: str, what: str, rule: Any) -> None:
    """Raise TypeError unless a rule is a Python function of one argument over numbers and what is offered."""
    parameters = inspect.signature(rule).parameters.values() if isinstance(rule, FunctionType) else []
    if [parameter.default for parameter in parameters] != [inspect.Parameter.empty]:
        raise TypeError(f"{what} of activation {name!r} must be a Python function of one number, got {rule!r}")

    unread = [] if rule.__module__ == OFFERED else [rule]
    for function in unread:
        scope, code = function.__globals__, function.__code__
        read = [(key, scope[key]) for key in code.co_names if key in scope]
        read += [(key, cell.cell_contents) for key, cell in zip(code.co_freevars, function.__closure__ or ())]
        for key, value in read:
            if isinstance(value, FunctionType):
                unread += [value] if value not in unread and value.__module__ != OFFERED else []
            elif not isinstance(value, (int, float, np.integer, np.floating)):
                wanted = "numbers and functions over kernels.maths"
                got = f"{key} is a {type(value).__name__}"
                raise TypeError(f"{what} of activation {name!r} must read {wanted} alone, but {got}")


def check_slope(name: str, function: Any, slope: Any, slope_reads: str) -> None:
    """Raise ValueError unless slope is the derivative of function from -20 to 20.

    Where differences to the left and to the right disagree, as near a kink, and where function is not finite, it may
    be anything.
    """
    counted = 0
    with np.errstate(all="ignore"):
        for z in POINTS:
            y, above, below = (_value(name, "function", function, at) for at in (z, z + STEP, z - STEP))
            right, left, difference = (above - y) / STEP, (y - below) / STEP, (above - below) / (2.0 * STEP)
            allowed = CLOSE * (1.0 + abs(difference))
            if not np.isfinite([y, above, below]).all() or abs(right - left) > allowed:
                continue
            counted += 1
            got = _value(name, "slope", slope, z if slope_reads == "z" else y)
            if not abs(got - difference) <= allowed:
                raise ValueError(
                    f"slope of activation {name!r} must be the derivative of its function, but at z = {z:.6g} it gives "
                    f"{got:.6g} and the difference quotient is {difference:.6g}"
                )
    if not counted:
        raise ValueError(f"function of activation {name!r} must be smooth somewhere from -20 to 20")


def _value(name: str, what: str, rule: Any, at: Any) -> Any:
    try:
        return np.float64(rule(np.float64(at)))
    except Exception as error:
        raise ValueError(f"{what} of activation {name!r} fails at {at:.6g}: {error}") from error
