"""Rules, see kernels.maths: activations and their derivatives, updates."""

# ruff: noqa: D103 - a rule says what it is by its formula

import math

from kernels.maths import erf, exp, exp_is_zero, select, sqrt
from kernels.maths import tanh as tanh

ACTIVATIONS = ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")
ALIASES = {"logistic": "sigmoid", "swish": "silu"}
NEEDS_PRE = {"silu", "gelu"}  # whose derivative cannot be had from the output

LEAKY_SLOPE = 0.01
_SQRT_HALF, _PDF_SCALE = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)


def canonical(activation: str) -> str:
    """The name of an activation without aliases."""
    return ALIASES.get(activation, activation)


def identity(z):
    return z


def identity_slope(y):
    return 1.0


def relu(z):
    return select(z < 0.0, 0.0, z)  # NaN passes


def relu_slope(y):
    return select(y <= 0.0, 0.0, 1.0)


def leaky_relu(z):
    return select(z < 0.0, LEAKY_SLOPE * z, z)


def leaky_relu_slope(y):
    return select(y <= 0.0, LEAKY_SLOPE, 1.0)


def sigmoid(z):
    e = exp(-abs(z))  # never overflows, and keeps the small tail's relative accuracy
    return select(z < 0.0, e, 1.0) / (1.0 + e)


def sigmoid_slope(y):
    return y * (1.0 - y)


def tanh_slope(y):
    return 1.0 - y * y


def silu(z):
    return select(exp_is_zero(z), 0.0, z * sigmoid(z))  # not -inf * 0


def silu_slope(z):
    s = sigmoid(z)
    return select(exp_is_zero(-abs(z)), s, s * (1.0 + z * (1.0 - s)))


def gelu(z):
    # Hendrycks & Gimpel 2016, the exact form
    return select(exp_is_zero(z), 0.0, 0.5 * z * (1.0 + erf(z * _SQRT_HALF)))


def gelu_slope(z):
    density = _PDF_SCALE * exp(-0.5 * z * z)
    return 0.5 * (1.0 + erf(z * _SQRT_HALF)) + select(exp_is_zero(-abs(z)), 0.0, z * density)


def sgd(w, g, velocity, rate, momentum, nesterov):
    """Sutskever et al. 2013, as in scikit-learn and Keras. Returns the new w and velocity."""
    new = momentum * velocity - rate * g
    return w + select(nesterov, momentum * new - rate * g, new), new


def adam(w, g, m, v, rate, beta1, share1, beta2, share2, epsilon, correction1, correction2):
    """Kingma & Ba 2015, algorithm 1; shares are 1 - beta, corrections 1 / (1 - beta^t). Returns the new w, m and v.

    The share of float32's 0.999 would be wrong by 5e-5: it is to be rounded once, from float64.
    """
    m = beta1 * m + share1 * g
    v = beta2 * v + share2 * (g * g)
    return w - rate * (m * correction1) / (sqrt(v * correction2) + epsilon), m, v
