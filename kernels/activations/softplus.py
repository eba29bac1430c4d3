"""Softplus: log(1 + exp(z)) (Dugas, Bengio, Bélisle, Nadeau & Garcia 2001, equation 4)."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import exp, expm1, log1p, select


def softplus(z):
    """log(1 + exp(z)), without overflow."""
    return select(z < 0.0, 0.0, z) + log1p(exp(-abs(z)))


def slope(y):
    """sigmoid(z) = 1 - exp(-y), which does not cancel so."""
    return -expm1(-y)


def onnx(graph, z):
    """The formula for float64, of which ONNX Runtime has no Softplus."""
    if graph.dtype == "float32":
        return graph.node("Softplus", [z])
    one, decay = graph.constant(1.0), graph.node("Exp", [graph.node("Neg", [graph.node("Abs", [z])])])
    return graph.node("Add", [graph.node("Relu", [z]), graph.node("Log", [graph.node("Add", [one, decay])])])


def reference(z: np.ndarray) -> np.ndarray:
    """log(1 + exp(z)) = max(z, 0) + log(1 + exp(-|z|))."""
    y: np.ndarray = np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))
    return y


Activation(  # torch's is z beyond its threshold, 2e-9 less
    "softplus", softplus, slope, reference, lambda y: -np.expm1(-y), slope_reads="y", init="he",
    onnx=onnx, torch="Softplus", torch_arguments={"beta": 1.0, "threshold": 20.0},
)  # fmt: skip
