"""Batch normalisation: each column by its mean and variance over the batch's rows (Ioffe & Szegedy 2015)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.layers.declaration import Array
from kernels.layers.normalization import NORMS, Normalization


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """Training takes the batch's statistics, and moves the running ones a little towards them; all else takes these.

    momentum: the share of the batch's in new running statistics, as PyTorch has it.
    """

    momentum: float = 0.1

    axis: ClassVar[int] = 0
    torch: ClassVar[str] = "BatchNorm1d"
    statistics: ClassVar[int] = 2  # the running mean and variance
    couples_rows: ClassVar[bool] = True

    def onnx(self, graph: Any, x: str, *own: Array) -> str:
        """BatchNormalization, or its formula."""
        if graph.dtype == "float32":
            return str(graph.node("BatchNormalization", [x, *map(graph.constant, own)], epsilon=self.epsilon))
        gamma, beta, mean, variance = own
        factor = graph.constant(gamma / np.sqrt(variance + self.epsilon))
        scaled = graph.node("Mul", [graph.node("Sub", [x, graph.constant(mean)]), factor])
        return str(graph.node("Add", [scaled, graph.constant(beta)]))

    def folded(self, w: Array, b: Array, *own: Array) -> tuple[Array, Array]:
        """With the running statistics this is a factor and a term of each column."""
        gamma, beta, mean, variance = own
        factor = gamma[0] / np.sqrt(variance + self.epsilon)
        return w * factor, (b - mean) * factor + beta

    def running(self, x: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
        """The reference: the running statistics after a batch; one row, without a variance, leaves them as they are."""
        if len(x) == 1:
            return mean, variance
        unbiased = x.var(0, ddof=1)
        return mean + self.momentum * (x.mean(0) - mean), variance + self.momentum * (unbiased - variance)


NORMS.add("batch", BatchNorm)
