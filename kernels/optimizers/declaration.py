"""How an optimiser is declared: as a frozen dataclass of its options, and as rules that kernels are made of."""

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, TypeVar, get_type_hints

import numpy as np

from kernels.declarations.ranges import Range
from kernels.declarations.registry import Registry
from kernels.declarations.rules import checked
from kernels.optimizers.rates import Schedule, check_rate, rates_of
from kernels.process import forks

WEIGHT_DECAY = "weight_decay"  # a scalar of this name is 0 for biases


@dataclass(frozen=True)
class Update:
    """A step on one element: what kernels are made of.

    Parameters
    ----------
    slots : tuple of str
        The names of what is kept for each element, which is 0 at first.
    rule : function
        A rule, see kernels.maths, from (w, g, the slots, the scalars) to the tuple (new w, new slots); of a program's,
        what it reads from outside stays what it is when the update is made. A scalar that it calls weight_decay is 0
        where the element is of a bias.
    scalars : function
        From options, which it takes by their names, to the tuple of a step's scalars. It may take `step`, the number of
        the step, too, which counts from 1; `learning_rate` is the step's. fastnn's own is a rule as well.

    Raises
    ------
    TypeError
        For a rule with other parameters, or with another result.
    """

    slots: tuple[str, ...]
    rule: Callable[..., Any]
    scalars: Callable[..., Any]

    def __post_init__(self) -> None:
        taken, wanted = tuple(inspect.signature(self.rule).parameters), ("w", "g", *self.slots)
        if taken[: len(wanted)] != wanted:
            raise TypeError(f"rule must take ({', '.join(wanted)}) and then scalars, got ({', '.join(taken)})")
        with np.errstate(all="ignore"):
            made = self.rule(*np.ones(len(taken)))
        if not isinstance(made, tuple) or len(made) != 1 + len(self.slots):
            new = ", ".join(f"new {name}" for name in ("w", *self.slots))
            raise TypeError(f"rule must return the tuple ({new}), got {made!r}")
        if known.loaded:  # a program's; of fastnn's own all this is tested
            object.__setattr__(self, "rule", checked("rule", self.rule, ", ".join(taken)))

    @forks.cached
    def name(self) -> str:
        """What its kernels are called: as the rule."""
        return re.sub(r"\W", "_", self.rule.__name__)

    @forks.cached
    def names(self) -> tuple[str, ...]:
        """The names of the scalars."""
        return tuple(inspect.signature(self.rule).parameters)[2 + len(self.slots) :]

    @forks.cached
    def options(self) -> tuple[str, ...]:
        """The names of what `scalars` takes."""
        return tuple(inspect.signature(self.scalars).parameters)

    def of_step(self, options: Mapping[str, float]) -> np.ndarray:
        """The scalars (n,), float64, of one step."""
        return np.array(self.scalars(*[float(options[name]) for name in self.options]))

    def table(self, options: Sequence[Any], steps: int) -> np.ndarray:
        """The scalars (steps, n), float64, of its options, each of which is a number or an array (steps,)."""
        table = np.empty((steps, len(self.names)))
        found = self.scalars(*options)
        if len(found) != len(self.names):
            raise TypeError(f"scalars must return the tuple ({', '.join(self.names)}), got {len(found)} numbers")
        for column, values in enumerate(found):
            table[:, column] = values
        return table

    @property
    def weights_alone(self) -> bool:
        """Whether biases have other scalars than weights."""
        return WEIGHT_DECAY in self.names

    def of_biases(self, table: np.ndarray) -> np.ndarray:
        """The scalars of biases, out of the others; the same array where they are the same."""
        if not self.weights_alone:
            return table
        table = table.copy()
        table[:, self.names.index(WEIGHT_DECAY)] = 0.0
        return table


_POSITIVE = Range(0, closed="neither")


def _check_flag(name: str, value: object) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_clip_norm(name: str, value: float | None) -> None:
    """Clipping is off, or to a finite number > 0."""
    if value is not None:
        _POSITIVE(name, value)


# Types of options, with what they are checked by
Rate = Annotated[float | Schedule, check_rate]
Positive = Annotated[float, _POSITIVE]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
ShareBelowOne = Annotated[float, Range(0, 1, closed="left")]
Flag = Annotated[bool, _check_flag]
ClipNorm = Annotated[float | None, check_clip_norm]


class _Options:
    """What all optimisers have, after which a dataclass may put other fields."""

    learning_rate: float | Schedule
    clip_norm: float | None = None


@dataclass(frozen=True)
class Optimizer(_Options):
    """The base of optimisers: frozen dataclasses, whose fields are options that are numbers or flags.

    An option whose annotation says what it takes, as those above do, is checked. Of those that all have,
    `learning_rate` is a number > 0 or a schedule of the step, and `clip_norm` None or a number > 0: where the norm of
    the whole gradient, of all weights and biases and with the l2 term, is more than that, it is multiplied by
    clip_norm / norm (Pascanu et al. 2013, algorithm 1; Keras calls it global_clipnorm). A gradient that holds NaN or
    infinity does not pass for a short one: it holds NaN afterwards.

    Attributes
    ----------
    updates : tuple of Update
        The update that has all slots first; others, without some of them, after it.
    optional : mapping of str to str
        By slot, the option that must be on for it to be there.
    reference : function
        The public function of `kernels`, in NumPy's float64; of a program's that has none `declare` makes it.
    """

    updates: ClassVar[tuple[Update, ...]]
    optional: ClassVar[Mapping[str, str]] = {}
    reference: ClassVar[Callable[..., None]]

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, check in _checks(kind):
            check(name, getattr(self, name))

    @property
    def update(self) -> Update:
        """The update with the slots that these options need."""
        kind: Any = type(self)
        return _update_of(kind, tuple([bool(getattr(self, option)) for option in self.optional.values()]))

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of what is kept for each parameter."""
        return self.update.slots

    def rates(self, first_step: int, n_steps: int) -> np.ndarray:
        """The learning rates (n_steps,), float64, of steps first_step, first_step + 1, ..., which count from 0."""
        return rates_of(self.learning_rate, first_step, n_steps)

    def scalars(self, first_step: int, rates: np.ndarray) -> np.ndarray:
        """The update's scalars (n_steps, n), float64, of the steps from first_step on that have these rates."""
        update, n_steps = self.update, len(rates)
        by_step = {"step": np.arange(first_step + 1, first_step + n_steps + 1), "learning_rate": rates}
        options = [by_step[name] if name in by_step else float(getattr(self, name)) for name in update.options]
        return update.table(options, n_steps)


@functools.cache
def _update_of(declaration: Any, on: tuple[bool, ...]) -> Update:
    """The update of an optimiser, by which of the options are on that it has `optional` slots for."""
    without = {slot for slot, its_option_is_on in zip(declaration.optional, on) if not its_option_is_on}
    found: Update = next(update for update in declaration.updates if without.isdisjoint(update.slots))
    return found


@functools.cache
def _checks(declaration: Any) -> tuple[tuple[str, Callable[[str, Any], None]], ...]:
    """(name, check) of the options that say what they take."""
    fields = getattr(declaration, "__dataclass_fields__", {})
    hints = get_type_hints(declaration, include_extras=True)
    return tuple(
        (name, check) for name in fields for check in getattr(hints[name], "__metadata__", ()) if callable(check)
    )


def ranges(declaration: Any) -> dict[str, Range]:
    """The ranges of the options that are numbers."""
    found = {name: check for name, check in _checks(declaration) if isinstance(check, Range)}
    return found if "learning_rate" in found else {"learning_rate": Range(0), **found}


def update_for(declaration: type[Optimizer], given: set[str]) -> Update:
    """The update that has these slots."""
    return next(update for update in declaration.updates if set(update.slots) == given)


known: Registry[type[Optimizer]] = Registry("optimizer", {"lbfgs": "a solver of scikit-learn's"}, functions=True)


def known_updates() -> list[Update]:
    """The updates of all optimisers that are known."""
    return [update for name in known for update in known[name].updates]


D = TypeVar("D", bound=type[Optimizer])


def declare(name: str) -> Callable[[D], D]:
    """Make an optimiser known by a name: a decorator of its class.

    Parameters
    ----------
    name : str
        An identifier, also that of its function in `kernels`.

    Returns
    -------
    function
        What the class is handed to, and comes back from.

    Raises
    ------
    TypeError, ValueError
        When that is called: for a name that means something else already, for what is no class of an optimiser, and for
        scalars of options that it does not have.
    """

    def add(declaration: D) -> D:
        if not (isinstance(declaration, type) and issubclass(declaration, Optimizer)):
            raise TypeError(f"an optimiser must be a class derived from Optimizer, got {declaration!r}")
        known.check_new(name)
        _check_options(declaration)
        if not hasattr(declaration, "reference"):
            declaration.reference = staticmethod(_reference_of(name, declaration))
        known.add(name, declaration)
        return declaration

    return add


def _check_options(declaration: type[Optimizer]) -> None:
    """Raise ValueError where an update asks for an option that the optimiser does not have."""
    options = ["step", "learning_rate", *(each.name for each in fields(declaration))]
    taken = [option for update in declaration.updates for option in update.options]
    if missing := [option for option in taken if option not in options]:
        names = ", ".join(dict.fromkeys(options))
        raise ValueError(f"scalars must take some of {names} of {declaration.__name__}, got {missing[0]!r}")


def _reference_of(name: str, declaration: type[Optimizer]) -> Callable[..., None]:
    """One step by the declaration's rule, which computes in NumPy when called from Python."""
    update = declaration.updates[0]
    defaults = {each.name: each.default for each in fields(declaration)}
    slots = [f"{slot}=None" if slot in declaration.optional else slot for slot in update.slots]
    options = [
        f"{option}={defaults[option]!r}" if isinstance(defaults.get(option), (int, float)) else option
        for option in update.options
    ]

    def step_by(arrays: dict[str, Any], given: dict[str, Any]) -> None:
        made = update_for(declaration, {slot for slot in update.slots if arrays[slot] is not None})
        names = ("w", "dw", *made.slots)
        new = made.rule(*(np.asarray(arrays[each], np.float64) for each in names), *made.of_step(given))
        for each, values in zip(("w", *made.slots), new, strict=True):
            arrays[each][...] = values

    scope: dict[str, Any] = {"step_by": step_by}
    exec(
        f"""
def {name}({", ".join(["w", "dw", *slots, *["*"] * bool(options), *options])}):
    step_by({by_name(("w", "dw", *update.slots))}, {by_name(update.options)})
""",
        scope,
    )
    function: Callable[..., None] = scope[name]
    function.__doc__ = f"One step of {name}, in place on w and what is kept for it."
    return function


def by_name(names: Iterable[str]) -> str:
    """The text of a dict that holds variables by their names."""
    return "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}"
