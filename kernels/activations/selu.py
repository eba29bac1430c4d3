"""SELU: a scaled ELU (Klambauer, Unterthiner, Mayr & Hochreiter 2017, "Self-normalizing networks", equation 2)."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.activations.elu import onnx_expm1
from kernels.maths import expm1, select

SCALE, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
LEFT = SCALE * ALPHA


def selu(z):
    """SCALE z, and SCALE ALPHA (exp(z) - 1) where it is below 0."""
    return select(z < 0.0, LEFT * expm1(z), SCALE * z)


def slope(y):
    """SCALE ALPHA exp(z) = y + SCALE ALPHA up to the kink, and SCALE beyond."""
    return select(y <= 0.0, y + LEFT, SCALE)


def onnx(graph, z):
    """The formula for float64, of which ONNX Runtime has no Selu."""
    if graph.dtype == "float32":
        return graph.node("Selu", [z])
    below = graph.node("Mul", [onnx_expm1(graph, z), graph.constant(LEFT)])
    beyond = graph.node("Mul", [z, graph.constant(SCALE)])
    return graph.node("Where", [graph.node("Less", [z, graph.constant(0.0)]), below, beyond])


def reference(z: np.ndarray) -> np.ndarray:
    """The scaled ELU, each side by itself."""
    below: np.ndarray = 1.6732632423543772 * np.expm1(np.minimum(z, 0.0))
    return 1.0507009873554805 * (np.maximum(z, 0.0) + below)


Activation(
    "selu", selu, slope, reference, lambda y: np.where(y <= 0.0, y + 1.7580993408473766, 1.0507009873554805),
    slope_reads="y", onnx=onnx, torch="SELU",
)  # fmt: skip
