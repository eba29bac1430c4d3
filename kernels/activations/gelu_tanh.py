"""GELU's approximation by a hyperbolic tangent (Hendrycks & Gimpel 2016, section 2)."""

import math

import numpy as np

from kernels.activations import sigmoid as logistic
from kernels.activations.declaration import Activation, times
from kernels.activations.sigmoid import sigmoid
from kernels.maths import exp, exp_is_zero, select

FIRST, THIRD = 2.0 * math.sqrt(2.0 / math.pi), 0.044715


def gelu_tanh(z):
    """z (1 + tanh(v / 2)) / 2 = z sigmoid(v) for v = FIRST (z + THIRD z^3); at minus infinity 0."""
    v = FIRST * z * (1.0 + THIRD * z * z)
    return select(exp_is_zero(v), 0.0, z * sigmoid(v))


def slope(z):
    """sigmoid(v) + z dv/dz e / (1 + e)^2 for e = exp(-|v|)."""
    v = FIRST * z * (1.0 + THIRD * z * z)
    e = exp(-abs(v))
    share = 1.0 / (1.0 + e)
    s = select(v < 0.0, e, 1.0) * share
    steep = FIRST * (1.0 + 3.0 * THIRD * z * z)
    return select(exp_is_zero(-abs(v)), s, s + z * steep * e * share * share)


def _inner(z: np.ndarray) -> np.ndarray:
    """sqrt(2 / pi) (z + 0.044715 z^3)."""
    inner: np.ndarray = np.sqrt(2.0 / np.pi) * (z + 0.044715 * z**3)
    return inner


def reference_slope(z: np.ndarray) -> np.ndarray:
    """s(2 u) + z s(2 u) s(-2 u) 2 du/dz, for the logistic function s and u as above."""
    left, right = logistic.reference(2.0 * _inner(z)), logistic.reference(-2.0 * _inner(z))
    steep = 2.0 * np.sqrt(2.0 / np.pi) * (1.0 + 0.134145 * z**2)
    return left + times(z * steep, left * right)


def onnx(graph, z):
    """The formula: Gelu is newer than the version of ONNX that is written."""
    square = graph.node("Mul", [z, z])
    growth = graph.node("Add", [graph.node("Mul", [square, graph.constant(THIRD)]), graph.constant(1.0)])
    v = graph.node("Mul", [graph.node("Mul", [z, graph.constant(FIRST)]), growth])
    return graph.node("Mul", [z, graph.node("Sigmoid", [v])])


Activation(
    "gelu_tanh", gelu_tanh, slope, lambda z: times(z, logistic.reference(2.0 * _inner(z))), reference_slope, init="he",
    onnx=onnx, torch="GELU", torch_arguments={"approximate": "tanh"},
)  # fmt: skip
