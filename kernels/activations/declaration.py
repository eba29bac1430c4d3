"""What an activation is: everything that the rest of the house knows of one."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from kernels.registry import Registry
from kernels.sources import rule_hash

Elementwise = Callable[[np.ndarray], np.ndarray]  # float64 to float64, of one shape
OnnxForm = str | Callable[[Any, str], str]


@dataclass(frozen=True, eq=False)
class Activation:
    """An activation, under its name and aliases. Making one makes it known.

    function: the rule of y, of the pre-activation z; slope: the rule of dy/dz, of what `slope_reads`, "z" or "y"; see
    kernels.maths. reference, reference_slope: the same in NumPy's float64, of arrays, written independently; the oracle
    of tests. init: what a network with init="auto" draws its weights by, "he" or "xavier". floor: where y is max(z,
    floor), which a product on the CPU does by itself, -inf for the identity. onnx: an ONNX operator, or a function of
    fastnn's Graph and the name of z that returns the name of y. torch: a module of torch.nn, made with, and known by,
    `torch_arguments`.
    """

    name: str
    function: Callable[..., Any]
    slope: Callable[..., Any]
    reference: Elementwise
    reference_slope: Elementwise
    slope_reads: str = "z"
    aliases: tuple[str, ...] = ()
    init: str = "xavier"
    floor: float | None = None
    onnx: OnnxForm | None = None
    torch: str = ""
    torch_arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ACTIVATIONS.add(self.name, self, self.aliases)

    def __repr__(self) -> str:  # a constant of CUDA kernels, whose cache is keyed by what constants look like
        return f"Activation({self.name}, {self.stamp})"

    @cached_property
    def stamp(self) -> str:
        """A hash of its rules."""
        return rule_hash(self.function, self.slope)  # type: ignore[arg-type]

    @property
    def is_identity(self) -> bool:
        """Whether y is z: nothing is to be done, and the slope is 1."""
        return self.floor == -math.inf

    @property
    def is_relu(self) -> bool:
        """Whether y is max(z, 0), a floor of 0 in a product on the CPU."""
        return self.floor == 0.0


ACTIVATIONS: Registry[Activation] = Registry("activation")


def times(z: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """For references: z * factor, 0 where the factor is, at an infinite z too: the limit of what is multiplied so."""
    product: np.ndarray = np.where(factor == 0.0, 0.0, z) * factor
    return product
