"""ELU with alpha 1: exp(z) - 1 below 0 (Clevert, Unterthiner & Hochreiter 2016, equation 15)."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import expm1, select


def elu(z):
    """z, and exp(z) - 1 where it is below 0."""
    return select(z < 0.0, expm1(z), z)


def slope(y):
    """exp(z) = y + 1 below 0, and 1 beyond."""
    return select(y < 0.0, y + 1.0, 1.0)


def onnx_expm1(graph, z):
    """exp(z) - 1 = tanh(z / 2) (exp(z) + 1), which does not cancel."""
    half = graph.node("Tanh", [graph.node("Mul", [z, graph.constant(0.5)])])
    return graph.node("Mul", [half, graph.node("Add", [graph.node("Exp", [z]), graph.constant(1.0)])])


def onnx(graph, z):
    """ONNX Runtime has Elu for float32 alone."""
    if graph.dtype == "float32":
        return graph.node("Elu", [z])
    below = graph.node("Less", [z, graph.constant(0.0)])
    return graph.node("Where", [below, onnx_expm1(graph, z), z])


Activation(
    "elu", elu, slope, lambda z: np.where(z < 0.0, np.expm1(np.minimum(z, 0.0)), z),
    lambda y: np.where(y < 0.0, y + 1.0, 1.0), slope_reads="y", init="he", onnx=onnx, torch="ELU",
    torch_arguments={"alpha": 1.0},
)  # fmt: skip
