"""ReLU: max(z, 0) (Nair & Hinton 2010, "Rectified linear units improve restricted Boltzmann machines")."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import select


def relu(z):
    """max(z, 0); NaN passes."""
    return select(z < 0.0, 0.0, z)


def slope(y):
    """0 up to the kink, where it is that of the left side, and 1 beyond."""
    return select(y <= 0.0, 0.0, 1.0)


Activation(
    "relu", relu, slope, lambda z: np.maximum(z, 0.0), lambda y: np.where(y <= 0.0, 0.0, 1.0), slope_reads="y",
    init="he", floor=0.0, onnx="Relu", torch="ReLU",
)  # fmt: skip
