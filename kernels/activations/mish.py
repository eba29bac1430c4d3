"""Mish: z tanh(softplus(z)) (Misra 2020, "Mish: A self regularized non-monotonic activation function", section 3)."""

import numpy as np

from kernels.activations import sigmoid as logistic
from kernels.activations import softplus
from kernels.activations.declaration import Activation, times
from kernels.maths import exp, exp_is_zero, select


def _parts(z, e):
    """a and b of tanh(log(1 + n)) = a / (a + b), n = exp(z), out of e = exp(-|z|).

    They are n^2 + 2 n and 2, both divided by n^2 from 0 on.
    """
    return select(z < 0.0, e * (e + 2.0), 1.0 + 2.0 * e), select(z < 0.0, 2.0, 2.0 * e * e)


def mish(z):
    """z tanh(log(1 + exp(z)))."""
    above, rest = _parts(z, exp(-abs(z)))
    return select(exp_is_zero(z), 0.0, z * (above / (above + rest)))


def slope(z):
    """t + z (1 - t^2) sigmoid(z), where 1 - t is a quotient too and does not cancel."""
    e = exp(-abs(z))
    above, rest = _parts(z, e)
    t, one_minus_t = above / (above + rest), rest / (above + rest)
    sigmoid = select(z < 0.0, e, 1.0) / (1.0 + e)
    return select(exp_is_zero(-abs(z)), t, t + z * one_minus_t * (1.0 + t) * sigmoid)


def reference_slope(z: np.ndarray) -> np.ndarray:
    """tanh(s) + z sech^2(s) sigmoid(z) for s = softplus(z)."""
    s = softplus.reference(z)
    decay = np.exp(-2.0 * s)
    slope: np.ndarray = np.tanh(s) + times(z, 4.0 * decay / (1.0 + decay) ** 2 * logistic.reference(z))
    return slope


def onnx(graph, z):
    """The formula: Mish is newer than the version of ONNX that is written."""
    return graph.node("Mul", [z, graph.node("Tanh", [softplus.onnx(graph, z)])])


Activation(
    "mish", mish, slope, lambda z: times(z, np.tanh(softplus.reference(z))), reference_slope, init="he", onnx=onnx,
    torch="Mish",
)  # fmt: skip
