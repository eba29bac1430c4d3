"""What is asked of a loss that a program declares, before it is known by its name."""

import math
from typing import Any

from kernels.declarations.rules import check_derivative, checked, value_at
from kernels.engine.codes import OUTPUTS

# Far from round numbers, where kinks lie, and from each other
_Z = (-2.7183, -1.3217, -0.6193, -0.2357, -0.0471, 0.0529, 0.3183, 0.7323, 1.6177, 3.1419)
_ANY, _ABOVE, _BETWEEN = (-1.7321, -0.4343, 0.5772, 2.2361), (0.0, 0.4343, 1.0, 2.2361), (0.0, 0.1592, 0.5772, 1.0)


def verify(loss: Any) -> None:
    """Raise TypeError or ValueError naming what is wrong with a loss: its functions, its derivative."""
    outputs = loss.outputs
    if not isinstance(outputs, tuple) or not outputs or not set(outputs) <= set(OUTPUTS):
        raise ValueError(f"outputs must be a tuple of {', '.join(OUTPUTS)}, got {outputs!r}")
    for argument, default in (("reads", "z"), ("kernel", ""), ("work", None)):
        if (got := getattr(loss, argument)) != default:
            raise ValueError(f"{argument} must be {default!r}, for others are fastnn's own, got {got!r}")
    _verify_rules(loss)


def _verify_rules(loss: Any) -> None:
    """Raise TypeError or ValueError where f or df is no rule, or df no derivative; freeze them."""
    parameter = loss.parameter
    takes = "z, target" + (f", {parameter.name}" if parameter else "")
    object.__setattr__(loss, "f", checked("f", loss.f, takes))
    if loss.df is not None:
        object.__setattr__(loss, "df", checked("df", loss.df, takes))
    more = {parameter.name: _number(parameter)} if parameter else {}
    points = [{"z": z, "target": target, **more} for target in _targets(loss.targets) for z in _Z]
    if loss.df is not None:
        check_derivative(("f", "df"), loss.f, loss.df, points)
        return
    result = value_at("f", loss.f, points[0])
    if not isinstance(result, tuple) or len(result) != 2:
        raise ValueError(f"df must be given, or f return (loss, its derivative with respect to z), got {result!r}")
    f, df = (lambda *numbers, which=which: loss.f(*numbers)[which] for which in (0, 1))
    check_derivative(("f", "the second value of f"), f, df, points)


def _targets(targets: Any) -> tuple[float, ...]:
    """Some that a loss takes."""
    if targets.only:
        return tuple(targets.only)
    if targets.most < math.inf:
        return tuple(targets.least + share * (targets.most - targets.least) for share in _BETWEEN)
    return _ANY if targets.least == -math.inf else tuple(targets.least + more for more in _ABOVE)


def _number(parameter: Any) -> float:
    """A number that it may be."""
    return float(parameter.default or parameter.least + min(1.0, parameter.most - parameter.least) / 2)
