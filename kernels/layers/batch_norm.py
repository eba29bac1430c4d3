"""Batch normalisation: each column by its mean and variance over the batch's rows (Ioffe & Szegedy 2015)."""

from dataclasses import dataclass
from typing import ClassVar

from kernels.layers.declaration import Array
from kernels.layers.normalization import NORMS, Normalization


@dataclass(frozen=True)
class BatchNorm(Normalization):
    """Training takes the batch's statistics, and moves the running ones a little towards them; all else takes these.

    momentum: the share of the batch's in new running statistics, as PyTorch has it.
    """

    momentum: float = 0.1

    axis: ClassVar[int] = 0
    statistics: ClassVar[int] = 2  # the running mean and variance
    couples_rows: ClassVar[bool] = True

    def running(self, x: Array, mean: Array, variance: Array) -> tuple[Array, Array]:
        """The reference: the running statistics after a batch, whose variance is divided by B - 1 where B > 1."""
        unbiased = x.var(0, ddof=min(1, len(x) - 1))
        return mean + self.momentum * (x.mean(0) - mean), variance + self.momentum * (unbiased - variance)


NORMS.add("batch", BatchNorm)
