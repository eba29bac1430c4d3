"""A dense layer: y = f(x @ w + b), with x (B, I), w (I, O), b (O,), y (B, O)."""

from dataclasses import dataclass
from typing import Any, ClassVar

from kernels.layers.declaration import Activated, Array


@dataclass(frozen=True)
class Dense(Activated):
    """outputs: O."""

    outputs: int = 1

    decays: ClassVar[bool] = True

    def width(self, inputs: int) -> int:
        """How many outputs a row has."""
        return self.outputs

    def w_rows(self, inputs: int) -> int:
        """One for each input."""
        return inputs

    def forward(self, x: Array, w: Array, b: Array | None, statistics: tuple[Array, ...] = ()) -> tuple[Array, Any]:
        """The reference: z = x @ w + b."""
        return x @ w if b is None else x @ w + b, None

    def backward(self, dz: Array, x: Array, w: Array, saved: Any) -> tuple[Array, Array, Array]:
        """The reference: dx = dz @ w.T, dw = x.T @ dz, db = the sum of dz."""
        return dz @ w.T, x.T @ dz, dz.sum(0)
