"""What normalisations have in common: z = gamma * (x - mean) / sqrt(variance + epsilon) + beta."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.declarations.registry import Registry
from kernels.layers.declaration import Activated, Array


@dataclass(frozen=True)
class Normalization(Activated):
    """w is gamma (1, O) and b is beta (O,). epsilon: added to the variance.

    A kind says along which axis means and variances are taken, 0 of columns or 1 of rows, and its module in torch.nn.
    """

    epsilon: float = 1e-5

    axis: ClassVar[int]
    torch: ClassVar[str]

    def w_rows(self, inputs: int) -> int:
        """One row: gamma."""
        return 1

    def forward(self, x: Array, w: Array, b: Array | None, statistics: tuple[Array, ...] = ()) -> tuple[Array, Any]:
        """The reference."""
        mean, variance = statistics or (x.mean(self.axis, keepdims=True), x.var(self.axis, keepdims=True))
        scale = 1.0 / np.sqrt(variance + self.epsilon)
        normal = (x - mean) * scale
        return w * normal + b, (normal, scale)

    def backward(self, dz: Array, x: Array, w: Array, saved: Any) -> tuple[Array, Array, Array]:
        """The reference, where mean and variance are those of x: Ioffe & Szegedy 2015, section 3.

        dx = scale * (d - mean(d) - normal * mean(d * normal)) with d = dz * gamma.
        """
        normal, scale = saved
        d = dz * w
        means = d.mean(self.axis, keepdims=True) + normal * (d * normal).mean(self.axis, keepdims=True)
        return scale * (d - means), (dz * normal).sum(0, keepdims=True), dz.sum(0)

    def onnx(self, graph: Any, x: str, *own: Array) -> str:
        """Add it to an ONNX graph, see fastnn.files.onnx; own: gamma (O,), beta and the statistics.

        The operators of ONNX have an epsilon of float32: a float64 network is written as a formula.
        """
        raise NotImplementedError

    def folded(self, w: Array, b: Array, *own: Array) -> tuple[Array, Array]:
        """(w, b) of a dense layer that does what one with w (I, O) and b (O,) and this layer after it do.

        own: gamma (1, O), beta (O,) and the statistics. Raises ValueError where there is no such layer.
        """
        raise ValueError(f"norm must be one by statistics that are kept to be folded, got {self.kind.split('_')[0]!r}")


NORMS: Registry[type[Normalization]] = Registry("norm")
