"""Hard sigmoid: min(max(z + 3, 0), 6) / 6 (Howard et al. 2019, "Searching for MobileNetV3", section 5.2)."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import select


def hard_sigmoid(z):
    """(z + 3) / 6, from 0 to 1."""
    return select(z <= -3.0, 0.0, select(z >= 3.0, 1.0, (z + 3.0) / 6.0))


def slope(y):
    """1 / 6 where y is neither 0 nor 1."""
    return select(y <= 0.0, 0.0, select(y >= 1.0, 0.0, 1.0 / 6.0))


def onnx(graph, z):
    """The formula: attributes, as HardSigmoid's slope, are float32."""
    y = graph.node("Div", [graph.node("Add", [z, graph.constant(3.0)]), graph.constant(6.0)])
    return graph.node("Clip", [y, graph.constant(0.0), graph.constant(1.0)])


Activation(
    "hard_sigmoid", hard_sigmoid, slope, lambda z: np.clip((z + 3.0) / 6.0, 0.0, 1.0),
    lambda y: np.where((y > 0.0) & (y < 1.0), 1.0 / 6.0, 0.0), slope_reads="y", onnx=onnx, torch="Hardsigmoid",
)  # fmt: skip
