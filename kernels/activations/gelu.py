"""GELU, the exact form: z Phi(z) (Hendrycks & Gimpel 2016, "Gaussian error linear units", section 2)."""

import math

import numpy as np

from kernels.activations.declaration import Activation, times
from kernels.maths import erf, exp, exp_is_zero, select

SQRT_HALF, PDF_SCALE = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)


def gelu(z):
    """z (1 + erf(z / sqrt(2))) / 2; at minus infinity 0, not -inf * 0."""
    return select(exp_is_zero(z), 0.0, 0.5 * z * (1.0 + erf(z * SQRT_HALF)))


def slope(z):
    """Phi(z) + z phi(z)."""
    density = PDF_SCALE * exp(-0.5 * z * z)
    return 0.5 * (1.0 + erf(z * SQRT_HALF)) + select(exp_is_zero(-abs(z)), 0.0, z * density)


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """Phi(z) = (1 + erf(z / sqrt(2))) / 2, through erfc, which does not cancel below zero."""
    phi: np.ndarray = 0.5 * np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2.0))
    return phi


def reference_slope(z: np.ndarray) -> np.ndarray:
    """Phi(z) + z phi(z), with its limits at the infinities."""
    return normal_cdf(z) + times(z, np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi))


def onnx(graph, z):
    """The formula: Gelu is newer than the version of ONNX that is written."""
    erf = graph.erf(graph.node("Mul", [z, graph.constant(SQRT_HALF)]))
    half = graph.node("Mul", [z, graph.constant(0.5)])
    return graph.node("Mul", [half, graph.node("Add", [erf, graph.constant(1.0)])])


Activation(
    "gelu", gelu, slope, lambda z: times(z, normal_cdf(z)), reference_slope, init="he", onnx=onnx, torch="GELU",
    torch_arguments={"approximate": "none"},
)  # fmt: skip
