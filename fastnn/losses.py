"""Losses by name: which go with which outputs, how those with a parameter are given, and how one's own are made."""

from collections.abc import Sequence
from typing import Any

from kernels.declarations.ranges import check_number
from kernels.losses import LOSSES, Loss, LossChoice, Parameter, Targets, names_for

__all__ = ["LOSSES", "Loss", "Parameter", "Targets", "checked_loss", "loss_for"]


def loss_for(output: str, loss: Any) -> LossChoice:
    """The loss of a network with these outputs.

    Parameters
    ----------
    output : str
        The output activation.
    loss : str, tuple or None
        As in `checked_loss`; None for the outputs' own.

    Returns
    -------
    str or tuple of str and float
        As `checked_loss` does.

    Raises
    ------
    TypeError, ValueError
        As `checked_loss` does.
    """
    names = names_for(output)
    return checked_loss(names[0] if loss is None else loss, names, f" for {output} outputs")


def checked_loss(loss: Any, names: Sequence[str], where: str = "") -> LossChoice:
    """One of these losses, with its parameter where it has one.

    Parameters
    ----------
    loss : str or tuple
        A name, or a pair (name, parameter). A name alone stands for the default of its parameter, if that has one.
    names : sequence of str
        The names to choose from.
    where : str
        What ends the list of names in the message.

    Returns
    -------
    str or tuple of str and float
        The name of a loss without a parameter, else the name and the parameter.

    Raises
    ------
    TypeError, ValueError
        For a loss that is none of these, and for a parameter that is missing or out of range.
    """
    name, *given = loss if isinstance(loss, (tuple, list)) and len(loss) == 2 else (loss,)
    parameter = LOSSES[name].parameter if name in LOSSES else None
    if not isinstance(name, str) or name not in names or (given and parameter is None):
        unknown = isinstance(name, str) and name not in names and name not in LOSSES
        hint = "; a loss of one's own is known once fastnn.Loss(name, f, df) was made" if unknown else ""
        raise ValueError(f"loss must be one of {', '.join(map(_forms, names))}{where}, got {loss!r}{hint}")
    if parameter is None:
        return name
    value: Any = given[0] if given else parameter.default
    if value is None and not given:
        raise ValueError(f"loss must be {_forms(name)} with {parameter.name} in {parameter.interval}, got {loss!r}")
    closed = "left" if parameter.closed else "neither"
    check_number(f"loss: {parameter.name}", value, parameter.least, parameter.most, closed=closed)
    return name, float(value)


def _forms(name: str) -> str:
    """How a loss is given, as Python writes it."""
    parameter = LOSSES[name].parameter if name in LOSSES else None
    if parameter is None:
        return repr(name)
    with_parameter = f"({name!r}, {parameter.name})"
    return with_parameter if parameter.default is None else f"{name!r}, {with_parameter}"
