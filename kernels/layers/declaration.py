"""What a kind of layer declares."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

Array = np.ndarray


@dataclass(frozen=True)
class Layer:
    """A layer as it is asked for: what it does, but not where in a network it stands.

    A kind of layer is a subclass in a module of its own. Its kernels on the CPU are in the module of the same name in
    kernels/cpu/engine/layers.
    """

    @property
    def kind(self) -> str:
        """The module of this kind."""
        return type(self).__module__.rpartition(".")[2]


@dataclass(frozen=True)
class Activated(Layer):
    """A layer with parameters, which an activation follows.

    Parameters are a matrix w with a column for each output, and where there is one a vector b. They lie in the
    network's buffer one after the other. Statistics are vectors behind them, which are kept and not learnt.

    activation: a name of docs/activations.md. bias: whether there is a b.
    """

    activation: str = "identity"
    bias: bool = True

    statistics: ClassVar[int] = 0  # vectors that are kept
    decays: ClassVar[bool] = False  # w takes the l2 term, and what an optimiser does to weights alone
    couples_rows: ClassVar[bool] = False  # in training a row's outputs depend on the other rows of its batch

    def width(self, inputs: int) -> int:
        """How many outputs a row has, for this many inputs."""
        return inputs

    def w_rows(self, inputs: int) -> int:
        """The rows of w."""
        raise NotImplementedError

    def forward(self, x: Array, w: Array, b: Array | None, statistics: tuple[Array, ...] = ()) -> tuple[Array, Any]:
        """The reference: z (B, O) of x (B, I), before the activation, and what `backward` reads.

        statistics: those that are kept, to go by; without them the batch's.
        """
        raise NotImplementedError

    def backward(self, dz: Array, x: Array, w: Array, saved: Any) -> tuple[Array, Array, Array]:
        """The reference: (dx, dw, db) from dz (B, O)."""
        raise NotImplementedError
