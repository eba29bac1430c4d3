"""Leaky ReLU: 0.01 z below 0 (Maas, Hannun & Ng 2013, "Rectifier nonlinearities improve acoustic models")."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import select

SLOPE = 0.01


def leaky_relu(z):
    """z, times 0.01 where it is below 0."""
    return select(z < 0.0, SLOPE * z, z)


def slope(y):
    """0.01 up to the kink and 1 beyond."""
    return select(y <= 0.0, SLOPE, 1.0)


def onnx(graph, z):
    """PRelu for float64: an attribute, as LeakyRelu's slope, is a float32."""
    if graph.dtype == "float64":
        return graph.node("PRelu", [z, graph.constant([SLOPE])])
    return graph.node("LeakyRelu", [z])


Activation(
    "leaky_relu", leaky_relu, slope, lambda z: np.where(z > 0.0, z, 0.01 * z), lambda y: np.where(y <= 0.0, 0.01, 1.0),
    slope_reads="y", init="he", onnx=onnx, torch="LeakyReLU", torch_arguments={"negative_slope": 0.01},
)  # fmt: skip
