"""What is asked of a loss that a program declares, before it is known by its name."""

import keyword
import math
from typing import Any

from kernels.declarations.ranges import is_real
from kernels.declarations.rules import check_derivative, checked, value_at
from kernels.engine.codes import OUTPUTS

# Far from round numbers, where kinks lie, and from each other
_Z = (
    -19.0919, -7.3137, -2.7183, -1.3217, -0.6193, -0.2357, -0.0471, 0.0529, 0.3183, 0.7323, 1.6177, 3.1419, 7.3137,
    19.0919,
)  # fmt: skip
_ANY, _BEYOND, _BETWEEN = (-1.7321, -0.4343, 0.5772, 2.2361), (0.4343, 1.0, 2.2361), (0.1592, 0.5772)
_ARGUMENTS = ("z", "target", "weight", "dz")  # of the function of a loss, besides its parameter
_BASELINES = ("mean", "median", "quantile")


def verify(loss: Any) -> None:
    """Raise TypeError or ValueError naming what is wrong with a loss: its options, its functions, its derivative."""
    outputs, baseline = loss.outputs, loss.baseline
    if not isinstance(outputs, tuple) or not outputs or not set(outputs) <= set(OUTPUTS):
        raise ValueError(f"outputs must be a tuple of {', '.join(OUTPUTS)}, got {outputs!r}")
    for argument, default in (("reads", "z"), ("kernel", ""), ("work", None), ("default_of", "")):
        if (got := getattr(loss, argument)) != default:
            raise ValueError(f"{argument} must be {default!r}, for others are fastnn's own, got {got!r}")
    for argument in ("mean", "averaged"):
        if not isinstance(got := getattr(loss, argument), bool):
            raise TypeError(f"{argument} must be True or False, got {got!r}")
    if baseline not in _BASELINES:
        raise ValueError(f"baseline must be one of {', '.join(map(repr, _BASELINES))}, got {baseline!r}")
    _verify_targets(loss.targets)
    if loss.parameter is not None:
        _verify_parameter(loss.parameter)
    elif baseline == "quantile":
        raise ValueError("baseline must be 'mean' or 'median' where there is no parameter, got 'quantile'")
    _verify_rules(loss)


def _verify_targets(targets: Any) -> None:
    if not hasattr(targets, "only"):
        raise TypeError(f"targets must be fastnn.losses.Targets(least, most, only=...), got {targets!r}")
    _verify_range("targets", targets.least, targets.most)
    if not isinstance(targets.only, tuple) or not all(is_real(number) for number in targets.only):
        raise TypeError(f"targets must have a tuple of numbers as only, got {targets.only!r}")
    if targets.labels:
        raise ValueError("targets must have labels=False, for losses of labels are fastnn's own, got labels=True")


def _verify_parameter(parameter: Any) -> None:
    if not hasattr(parameter, "default"):
        raise TypeError(f"parameter must be fastnn.losses.Parameter(name, least, most), got {parameter!r}")
    name, default = parameter.name, parameter.default
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name) or name.startswith("_"):
        raise ValueError(f"parameter must have an identifier as its name, without _ before it, got {name!r}")
    if name in _ARGUMENTS:
        raise ValueError(f"parameter must have another name than {', '.join(_ARGUMENTS)}, got {name!r}")
    _verify_range("parameter", parameter.least, parameter.most)
    if default is not None:
        parameter.range("parameter: default", default)


def _verify_range(argument: str, least: Any, most: Any) -> None:
    if not is_real(least) or not is_real(most) or not least < most:
        raise ValueError(f"{argument} must lie between two numbers, least < most, got {least!r} and {most!r}")


def _verify_rules(loss: Any) -> None:
    """Raise TypeError or ValueError where f or df is no rule, or df no derivative; freeze them."""
    parameter = loss.parameter
    takes = "z, target" + (f", {parameter.name}" if parameter else "")
    object.__setattr__(loss, "f", checked("f", loss.f, takes))
    if loss.df is not None:
        object.__setattr__(loss, "df", checked("df", loss.df, takes))
    given = [{parameter.name: number} for number in _numbers(parameter)] if parameter else [{}]
    points = [{"z": z, "target": t} | more for more in given for t in _targets(loss.targets) for z in _Z]
    if loss.df is not None:
        check_derivative(("f", "df"), loss.f, loss.df, points)
        return
    result = value_at("f", loss.f, points[0])
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"df must be given, or f return (loss, its derivative with respect to z), got {result!r}")
    f, df = (lambda *numbers, which=which: loss.f(*numbers)[which] for which in (0, 1))
    check_derivative(("f", "the second value of f"), f, df, points)


def _targets(targets: Any) -> tuple[float, ...]:
    """Some that a loss takes, the ends of their range among them."""
    ends = [end for end in (targets.least, targets.most) if math.isfinite(end)]
    return tuple(targets.only) or (*ends, *_inside(targets.least, targets.most))


def _numbers(parameter: Any) -> tuple[float, ...]:
    """Some that it may be, its default first."""
    default = () if parameter.default is None else (float(parameter.default),)
    return *default, *_inside(parameter.least, parameter.most)


def _inside(least: float, most: float) -> tuple[float, ...]:
    """Some numbers between two, which may be infinite."""
    if math.isfinite(least) and math.isfinite(most):
        return tuple(least + share * (most - least) for share in _BETWEEN)
    if math.isfinite(least):
        return tuple(least + more for more in _BEYOND)
    return tuple(most - less for less in _BEYOND) if math.isfinite(most) else _ANY
