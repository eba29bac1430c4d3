"""Losses by name: which go with which outputs, and the parameters that some of them have."""

import math
from collections.abc import Sequence
from typing import Any

from kernels.ranges import check_number
from kernels.scalar import Loss

# Of each output its own loss first
OF_OUTPUT = {
    "softmax": ("softmax_cross_entropy", "mean_squared_error", "sum_squared_error"),
    "sigmoid": ("sigmoid_cross_entropy", "mean_squared_error", "sum_squared_error"),
    "identity": ("mean_squared_error", "sum_squared_error", "absolute_error", "huber", "quantile"),
    "exp": ("poisson",),
}
_FORMS = {"huber": "'huber', ('huber', delta)", "quantile": "('quantile', level)"}
# The parameter's name, what it is below (and above 0), its default, which is that of Keras and PyTorch
_PARAMETERS: dict[str, tuple[str, float, float | None]] = {
    "huber": ("delta", math.inf, 1.0),
    "quantile": ("level", 1, None),
}


def loss_for(output: str, loss: Any) -> Loss:
    """The loss of a network with these outputs: their own for None, else `loss`, as `checked_loss` does."""
    names = OF_OUTPUT[output]
    return names[0] if loss is None else checked_loss(loss, names, f" for {output} outputs")


def checked_loss(loss: Any, names: Sequence[str], where: str = "") -> Loss:
    """One of these losses, as a name or ("huber", delta) or ("quantile", level); "huber" is ("huber", 1.0).

    Raises ValueError or TypeError for anything else; `where` ends the list of names in its message.
    """
    name, *given = loss if isinstance(loss, (tuple, list)) and len(loss) == 2 else (loss,)
    if not isinstance(name, str) or name not in names or (given and name not in _PARAMETERS):
        known = ", ".join(_FORMS.get(name, repr(name)) for name in names)
        raise ValueError(f"loss must be one of {known}{where}, got {loss!r}")
    if name not in _PARAMETERS:
        return name
    parameter, limit, default = _PARAMETERS[name]
    value: Any = given[0] if given else default
    if not given and default is None:
        raise ValueError(f"loss must be {_FORMS[name]}, such as ('quantile', 0.9), got {loss!r}")
    check_number(f"loss: {parameter}", value, 0, limit, closed="neither")
    return name, float(value)
