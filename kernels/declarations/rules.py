"""Rules that programs declare: plain functions of numbers, see kernels.maths. What is asked of them, for all alike."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import Any

import numpy as np

from kernels.declarations.sources import OFFERED
from kernels.maths.functions import frozen

STEP = float(np.cbrt(np.finfo(np.float64).eps / 2))  # central differences lose by it as much as by rounding
KINK = 1e-3  # the share of a slope by which those on both sides of a point differ at most where there is no kink
OTHER_STEPS = (0.61, 0.83, 1.37, 1.73)  # shares of it, no ratios of small numbers, at which errors of rounding repeat
OF_SLOPE, OF_LARGEST, OF_VALUE = 1e-6, 1e-8, 1e-9  # what a derivative may be wrong by


def checked(argument: str, rule: Any, takes: str) -> Any:
    """A program's rule as kernels take it: what it reads from outside stays what it is now.

    takes: its parameters, of which the number counts. Raises TypeError, naming the argument, unless it is a Python
    function of these, without defaults, that reads numbers and functions over kernels.maths alone.
    """
    parameters = inspect.signature(rule).parameters.values() if isinstance(rule, FunctionType) else []
    plain = all(each.kind is each.POSITIONAL_OR_KEYWORD and each.default is each.empty for each in parameters)
    if not plain or len(parameters) != takes.count(",") + 1:
        raise TypeError(f"{argument} must be a Python function of ({takes}), got {rule!r}")
    check_reads(argument, rule)
    return frozen(rule)


def check_reads(argument: str, rule: FunctionType) -> None:
    """Raise TypeError, naming the argument, where a rule reads something else than numbers and functions."""
    unread = [rule]
    for function in unread:
        if function.__module__ == OFFERED:
            continue
        scope, code = function.__globals__, function.__code__
        read = [(name, scope[name]) for name in code.co_names if name in scope]
        read += [(name, cell.cell_contents) for name, cell in zip(code.co_freevars, function.__closure__ or ())]
        for name, value in read:
            if isinstance(value, FunctionType):
                unread += [value] if value not in unread else []
            elif not isinstance(value, (int, float, np.integer, np.floating)):
                got = f"{name}, which is a {type(value).__name__}"
                raise TypeError(f"{argument} must read numbers and functions over kernels.maths alone, got {got}")


def check_derivative(
    names: tuple[str, str],
    f: Callable[..., Any],
    df: Callable[..., Any],
    points: Iterable[Mapping[str, float]],
) -> None:
    """Check that df is the derivative of f with respect to the first number of each point, in float64.

    names: of the arguments that f and df are. points: the arguments' names and numbers. Where f has a kink, is not
    finite, or is rounded much, after a cancellation say, df may be anything. Raises ValueError naming the argument and
    the first point where df is wrong.
    """
    f_name, df_name = names
    points = list(points)
    with np.errstate(all="ignore"):
        smooth = [found for point in points if (found := _at(names, f, df, point))]
    if not smooth:
        first, last = (_text(point) for point in (points[0], points[-1]))
        raise ValueError(f"{f_name} must have a slope somewhere between {first} and {last}, got kinks or NaN alone")
    largest = max(abs(difference) for *_, difference in smooth)
    for point, value, slope, difference in smooth:
        size = abs(difference)
        allowed = OF_SLOPE * size + OF_LARGEST * min(largest, 1.0 + size) + OF_VALUE * abs(value)
        if not abs(slope - difference) <= allowed and _is_exact(f_name, f, point, difference, allowed):
            raise ValueError(
                f"{df_name} must be the derivative of {f_name} with respect to {next(iter(point))}: at {_text(point)} "
                f"it is {slope:.8g}, but by central differences {f_name} has the slope {difference:.8g}"
            )


def value_at(argument: str, rule: Callable[..., Any], point: Mapping[str, float], *numbers: float) -> Any:
    """rule(*numbers), by default the point's own. Raises ValueError, naming the argument and the point, if it fails."""
    try:
        return rule(*[np.float64(number) for number in numbers or point.values()])
    except Exception as error:
        raise ValueError(f"{argument} must take any number, but at {_text(point)} it fails: {error}") from error


def _at(
    names: tuple[str, str], f: Callable[..., Any], df: Callable[..., Any], point: Mapping[str, float]
) -> tuple[Mapping[str, float], float, float, float] | None:
    """(point, f, df, the slope of f by central differences), or None where there is none."""
    step = STEP * max(1.0, abs(next(iter(point.values()))))
    below, above, difference = _difference(names[0], f, point, step)
    at, slope = float(value_at(names[0], f, point)), float(value_at(names[1], df, point))
    bend = abs(above - 2.0 * at + below)
    straight = math.isfinite(difference) and bend <= KINK * step * max(abs(difference), abs(slope))
    return (point, at, slope, difference) if straight else None


def _difference(f_name: str, f: Callable[..., Any], point: Mapping[str, float], step: float) -> tuple[float, ...]:
    """(f a step below the point, f a step above it, the slope between them)."""
    x, *others = point.values()
    below, above = (float(value_at(f_name, f, point, z, *others)) for z in (x - step, x + step))
    return below, above, (above - below) / ((x + step) - (x - step))


def _is_exact(
    f_name: str, f: Callable[..., Any], point: Mapping[str, float], difference: float, allowed: float
) -> bool:
    """Whether other steps have the same difference, as they do where f is not rounded by more than its dtype."""
    step = STEP * max(1.0, abs(next(iter(point.values()))))
    others = (_difference(f_name, f, point, share * step)[2] for share in OTHER_STEPS)
    return all(abs(other - difference) <= allowed for other in others)


def _text(point: Mapping[str, float]) -> str:
    return ", ".join(f"{name} = {number:.6g}" for name, number in point.items())
