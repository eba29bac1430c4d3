"""SiLU, or swish: z sigmoid(z) (Elfwing, Uchibe & Doya 2018, "Sigmoid-weighted linear units", equation 5)."""

import numpy as np

from kernels.activations import sigmoid as logistic
from kernels.activations.declaration import Activation, times
from kernels.activations.sigmoid import sigmoid
from kernels.maths import exp_is_zero, select


def silu(z):
    """z sigmoid(z); at minus infinity 0, not -inf * 0."""
    return select(exp_is_zero(z), 0.0, z * sigmoid(z))


def slope(z):
    """s (1 + z (1 - s)) for s = sigmoid(z)."""
    s = sigmoid(z)
    return select(exp_is_zero(-abs(z)), s, s * (1.0 + z * (1.0 - s)))


def reference_slope(z: np.ndarray) -> np.ndarray:
    """s (1 + z (1 - s)), with its limits at the infinities."""
    s = logistic.reference(z)
    return times(1.0 + times(z, 1.0 - s), s)


Activation(
    "silu", silu, slope, lambda z: times(z, logistic.reference(z)), reference_slope, aliases=("swish",), init="he",
    onnx=lambda graph, z: graph.node("Mul", [z, graph.node("Sigmoid", [z])]), torch="SiLU",
)  # fmt: skip
