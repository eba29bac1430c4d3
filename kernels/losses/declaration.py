"""What a loss says of itself: its kernels, functions, checks, choices, counts, tests and documents come from that."""

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from kernels.declarations.ranges import Range
from kernels.declarations.registry import Registry
from kernels.declarations.sources import rule_hash
from kernels.losses.verification import verify
from kernels.process import forks

LossChoice = str | tuple[str, float]  # a loss as engines are told of it: its name, or its name and its parameter


@dataclass(frozen=True)
class Parameter:
    """A number that a loss has.

    Parameters
    ----------
    name : str
        An identifier, other than the function's arguments z, target, weight and dz.
    least, most : float
        The ends of its range, to which `most` does not belong; they may be infinite.
    default : float, optional
        What it is where nothing is given.
    closed : bool
        Whether `least` itself is in the range.
    """

    name: str
    least: float
    most: float
    default: float | None = None
    closed: bool = False

    @forks.cached
    def range(self) -> Range:
        """What numbers it may be."""
        return Range(self.least, self.most, "left" if self.closed else "neither")

    @property
    def interval(self) -> str:
        """The range, as mathematics writes it."""
        return self.range.interval


@dataclass(frozen=True)
class Targets:
    """The targets that a loss takes.

    Parameters
    ----------
    least, most : float
        The ends of their range, which belong to it.
    only : tuple of float
        The numbers that it takes and no others, where there are any.
    labels : bool
        Whether it takes labels of outputs as well, as fastnn's own may.
    """

    least: float = -math.inf
    most: float = math.inf
    only: tuple[float, ...] = ()
    labels: bool = False

    @property
    def must(self) -> str:
        """What they must do, as messages say it; nothing of any numbers."""
        if self.only:
            return f"hold {' or '.join(f'{number:g}' for number in self.only)}"
        if self.most < math.inf:
            return f"lie in [{self.least:g}, {self.most:g}]"
        return f"be >= {self.least:g}" if self.least > -math.inf else ""

    def other(self, values: np.ndarray) -> str:
        """The first number that is none of `only`, in words, or "" where there is none."""
        wrong = ~np.isin(values, self.only)
        return f"{values[wrong][0]} at {np.argwhere(wrong)[0].tolist()}" if wrong.any() else ""


@dataclass(frozen=True, eq=False)
class Loss:
    """A loss of a network's rows: once it is made, fit, evaluate, the estimators and kernels know it by its name.

    Parameters
    ----------
    name : str
        An identifier. A program's own loss of the same name is replaced.
    f : function
        A rule, see kernels.maths: f(z, target), the loss of one output, z the last layer's product. A loss that has a
        parameter passes it as a third argument. What it reads from outside stays what it is when the loss is made.
    df : function, optional
        df(z, target), in the same way: its derivative with respect to z. Without it, f returns both.
    mean : bool
        Whether a row's loss is the mean over outputs, or else their sum.
    averaged : bool
        Whether the loss is the mean over rows by weight, or else their sum.
    targets : Targets
        Which it takes.
    parameter : Parameter, optional
        A number that it has.
    outputs : tuple of str
        The output activations it goes with.
    default_of : str
        That of them of which it is the default, for fastnn's own.
    reads : str
        What f is given and targets are compared with, "z", or "y", the output activation of z, as fastnn's own may.
    kernel : str
        The hand-written kernel that stands in the place of a rule's, "" for none.
    work : function, optional
        work(output, labels, parameter): for such a kernel, a rule with what it does for each output, whose operations
        are counted; None where it does what f says.
    baseline : str
        Which one number is the best or a good answer for all rows: the targets' "mean", their "median", or the
        "quantile" that the parameter is.
    reference : function, optional
        reference(z, t): losses and derivatives of outputs (B, O) in NumPy, written without a look at the rule.
    formula : str
        What is summed over outputs; else the first line of what f's docstring says.

    Raises
    ------
    TypeError, ValueError
        Naming what is wrong: a derivative that central differences of f in float64 deny, say, with the point. Kinks do
        not count.
    """

    name: str
    f: Callable[..., Any] | None = None
    df: Callable[..., Any] | None = None
    _: KW_ONLY
    mean: bool = True
    averaged: bool = True
    targets: Targets = Targets()
    parameter: Parameter | None = None
    outputs: tuple[str, ...] = ("identity",)
    default_of: str = ""
    reads: str = "z"
    kernel: str = ""
    work: Callable[[str, bool, float], Any] | None = None
    baseline: str = "mean"
    reference: Callable[..., Any] | None = None
    formula: str = ""

    def __post_init__(self) -> None:
        if LOSSES.loaded:
            LOSSES.check_new(self.name)
            verify(self)
        LOSSES.add(self.name, self)

    @forks.cached
    def rule(self) -> Any:
        """(z, target, parameter) -> the loss of an output and its derivative: what kernels compile."""
        f, df = (_of_three(rule, self.parameter is not None) for rule in (self.f, self.df))
        return f if df is None else _both(f, df)

    @forks.cached
    def stamp(self) -> str:
        """A hash of all that its kernels and their callers are compiled from besides our own sources."""
        said = (self.mean, self.averaged, self.targets, self.parameter)
        return rule_hash(self.rule, said) if self.f else rule_hash(said)

    def signature(self, compiled: bool = False) -> str:
        """The parameters of its public function. Inside compiled code all have a default, and none a name alone."""
        given = ""
        if self.parameter is not None:
            default = self.parameter.default
            given = self.parameter.name + (f"={default!r}" if compiled or default is not None else "") + ", "
        return f"z, target, weight=None, {'' if compiled else '*, '}{given}dz=None"


LOSSES: Registry[Loss] = Registry("loss", functions=True)


def loss_and_parameter(choice: LossChoice) -> tuple[Loss, float]:
    """What an engine is told of: a loss, and its parameter, by default its own default, or 0 where it has none."""
    if not isinstance(choice, str):
        return LOSSES[choice[0]], float(choice[1])
    loss = LOSSES[choice]
    return loss, 0.0 if loss.parameter is None or loss.parameter.default is None else loss.parameter.default


def names_for(output: str) -> tuple[str, ...]:
    """The losses that go with an output activation.

    Parameters
    ----------
    output : str
        The output activation.

    Returns
    -------
    tuple of str
        Their names, its default first.
    """
    fitting = [loss for loss in LOSSES.values() if output in loss.outputs]
    fitting.sort(key=lambda loss: loss.default_of != output)
    return tuple([loss.name for loss in fitting])


def _of_three(rule: Any, parametrised: bool) -> Any:
    """A rule with a third argument, which it need not read."""
    if rule is None or parametrised:
        return rule

    def of_three(z: Any, target: Any, parameter: Any) -> Any:
        return rule(z, target)

    return of_three


def _both(f: Any, df: Any) -> Any:
    def both(z: Any, target: Any, parameter: Any) -> Any:
        return f(z, target, parameter), df(z, target, parameter)

    return both
