"""The logistic function 1 / (1 + exp(-z))."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import exp, select


def sigmoid(z):
    """1 / (1 + exp(-z)); it never overflows, and keeps the small tail's relative accuracy."""
    e = exp(-abs(z))
    return select(z < 0.0, e, 1.0) / (1.0 + e)


def slope(y):
    """y (1 - y)."""
    return y * (1.0 - y)


def reference(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), below zero as exp(z) / (1 + exp(z)), so that nothing overflows."""
    e = np.exp(-np.abs(z))
    y: np.ndarray = np.where(z < 0.0, e, 1.0) / (1.0 + e)
    return y


Activation(
    "sigmoid", sigmoid, slope, reference, lambda y: y * (1.0 - y), slope_reads="y", aliases=("logistic",),
    onnx="Sigmoid", torch="Sigmoid",
)  # fmt: skip
