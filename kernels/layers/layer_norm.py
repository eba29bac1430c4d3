"""Layer normalisation: each row by its own mean and variance over its columns (Ba et al. 2016)."""

from dataclasses import dataclass
from typing import ClassVar

from kernels.layers.normalization import NORMS, Normalization


@dataclass(frozen=True)
class LayerNorm(Normalization):
    """Rows are independent of each other, in training too."""

    axis: ClassVar[int] = 1


NORMS.add("layer", LayerNorm)
