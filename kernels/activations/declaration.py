"""What an activation is: everything that the rest of the house knows of one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np

from kernels.declarations.registry import Registry
from kernels.declarations.rules import check_derivative, checked
from kernels.declarations.sources import rule_hash
from kernels.engine.codes import OUTPUTS
from kernels.process import forks

# Where a program's slope is compared with its function: not at 0 nor other round numbers, where slopes have kinks
POINTS = np.linspace(-20.0, 20.0, 400).tolist()
LONGEST_REASON = 400  # characters of what a compiler says
OnnxForm = str | Callable[[Any, str], str]


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation, known by its name from then on: to networks, estimators, kernels and inside `@njit`.

    Parameters
    ----------
    name : an identifier that is no name or alias of fastnn's own; one that a program has used before is replaced,
        unless Numba has compiled a call with it inside `@njit`; networks that have not run yet take the new one.
    function : y of the pre-activation z, a Python function of one number over what kernels.maths offers, arithmetic,
        comparisons, `abs` and other such functions; `select` in the place of branches makes vector code. What it reads
        from outside is taken as it is now.
    slope : dy/dz, in the same way, of what `slope_reads` names.
    reference, reference_slope : the same in NumPy's float64, of arrays, written independently: the oracle of tests.
        Without them it is the rules, one number at a time.
    slope_reads : "z" or "y".
    aliases : other names.
    init : what a network with init="auto" draws the weights below it by, "he" or "xavier".
    onnx : an ONNX operator, or a function of a fastnn.files.onnx.Graph and the name of z that returns the name of y.
    torch, torch_arguments : a module of torch.nn, and what it is made with and known by.
    floor : fastnn's own: -inf or 0 where y is max(z, floor), which a product on the CPU does by itself.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is wrong. The slope of a program's activation is compared with central differences of
        its function from -20 to 20. Whether both compile shows when they are first used.
    """

    name: str
    function: Callable[..., Any]
    slope: Callable[..., Any]
    reference: Any = None
    reference_slope: Any = None
    _: KW_ONLY
    slope_reads: str = "z"
    aliases: tuple[str, ...] = ()
    init: str = "xavier"
    onnx: OnnxForm | None = None
    torch: str = ""
    torch_arguments: Mapping[str, Any] = field(default_factory=dict)
    floor: float | None = None

    def __post_init__(self) -> None:
        if ACTIVATIONS.loaded:  # a program's; of fastnn's own all this is tested
            self._check()
        ACTIVATIONS.add(self.name, self, self.aliases)

    def _check(self) -> None:
        for name in (self.name, *self.aliases):
            ACTIVATIONS.check_new(name)
            if name.endswith("_backward"):
                raise ValueError(f"name must not end in _backward, as a kernel's does, got {name!r}")
        for argument, known in (("slope_reads", ("z", "y")), ("init", ("he", "xavier"))):
            if (value := getattr(self, argument)) not in known:
                raise ValueError(f"{argument} must be {known[0]!r} or {known[1]!r}, got {value!r}")
        if self.floor is not None:
            raise ValueError(f"floor must be None, for it is fastnn's own, got {self.floor!r}")
        for rule, reference, takes in (("function", "reference", "z"), ("slope", "reference_slope", self.slope_reads)):
            object.__setattr__(self, rule, checked(rule, getattr(self, rule), takes))
            if getattr(self, reference) is None:
                object.__setattr__(self, reference, np.vectorize(getattr(self, rule), otypes=[np.float64]))
        slope = self.slope if self.slope_reads == "z" else lambda z: self.slope(self.function(z))
        check_derivative(("function", "slope"), self.function, slope, [{"z": z} for z in POINTS])
        if self.name in ACTIVATIONS.kept:
            before = ACTIVATIONS[self.name]
            if (before.stamp, before.slope_reads) != (self.stamp, self.slope_reads):
                why = "calls of the one that there is have been compiled by Numba in this process"
                raise ValueError(f"name must be a new one, but {self.name!r} was another activation's, and {why}")

    def cannot_compile(self, what: str, error: Exception) -> ValueError:
        """What to raise where a compiler refuses a rule."""
        reason = " ".join(line.strip() for line in str(error).splitlines()[1:] if line.strip())
        return ValueError(f"{what} of activation {self.name!r} cannot be compiled: {reason[:LONGEST_REASON]}")

    def __repr__(self) -> str:  # a constant of CUDA kernels, whose cache is keyed by what constants look like
        return f"Activation({self.name}, {self.stamp})"

    @forks.cached
    def stamp(self) -> str:
        """A hash of its rules."""
        return rule_hash(self.function, self.slope)

    @property
    def is_identity(self) -> bool:
        """Whether y is z: nothing is to be done, and the slope is 1."""
        return self.floor == -math.inf

    @property
    def is_relu(self) -> bool:
        """Whether y is max(z, 0), a floor of 0 in a product on the CPU."""
        return self.floor == 0.0


ACTIVATIONS: Registry[Activation] = Registry(
    "activation",
    dict.fromkeys(OUTPUTS, "an output activation"),
    made_by="fastnn.Activation(name, function, slope)",
)


def times(z: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """For references: z * factor, 0 where the factor is, at an infinite z too: the limit of what is multiplied so."""
    product: np.ndarray = np.where(factor == 0.0, 0.0, z) * factor
    return product
