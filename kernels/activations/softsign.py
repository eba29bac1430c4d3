"""Softsign: z / (1 + |z|) (Glorot & Bengio 2010, "Understanding the difficulty of training deep networks", 3.3)."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import select

FAR = 1e30  # where z / (1 + |z|) is -1 or 1 long since


def softsign(z):
    """z / (1 + |z|); at the infinities their sign."""
    return select(abs(z) > FAR, select(z < 0.0, -1.0, 1.0), z / (1.0 + abs(z)))


def slope(z):
    """1 / (1 + |z|)^2."""
    share = 1.0 / (1.0 + abs(z))
    return share * share


def reference(z: np.ndarray) -> np.ndarray:
    """Its sign times |z| / (1 + |z|)."""
    size = np.minimum(np.abs(z), np.finfo(z.dtype).max / 2)
    y: np.ndarray = np.sign(z) * (size / (1.0 + size))
    return y


def onnx(graph, z):
    """The formula: ONNX Runtime has Softsign for float32 alone."""
    return graph.node("Div", [z, graph.node("Add", [graph.node("Abs", [z]), graph.constant(1.0)])])


Activation(
    "softsign", softsign, slope, reference, lambda z: (1.0 / (1.0 + np.abs(z))) ** 2, onnx=onnx, torch="Softsign"
)  # fmt: skip
