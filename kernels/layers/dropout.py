"""Dropout: in training some outputs of the layer before become 0, and the others grow to make up for it.

Inverted, as Srivastava et al. 2014, section 10: what stays is divided by the share that stays. The gradient is dropped
in the same places.
"""

from dataclasses import dataclass

from kernels.layers.declaration import Layer


@dataclass(frozen=True)
class Dropout(Layer):
    """rate: the share that becomes 0, in [0, 1), by the bits of kernels.maths.random."""

    rate: float = 0.5
