"""Rules, see kernels.maths: activations and their derivatives, losses."""

# ruff: noqa: D103 - a rule says what it is by its formula

import math

from kernels.maths import erf, exp, exp_is_zero, log1p, select
from kernels.maths import tanh as tanh

ACTIVATIONS = ("identity", "relu", "leaky_relu", "sigmoid", "tanh", "silu", "gelu")
ALIASES = {"logistic": "sigmoid", "swish": "silu"}
NEEDS_PRE = {"silu", "gelu"}  # whose derivative cannot be had from the output

LEAKY_SLOPE = 0.01
_SQRT_HALF, _PDF_SCALE = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)

Loss = str | tuple[str, float]  # a loss as engines are told of it: its name, or its name and its parameter


def canonical(activation: str) -> str:
    """The name of an activation without aliases."""
    return ALIASES.get(activation, activation)


def loss_and_parameter(loss: Loss) -> tuple[str, float]:
    """The name of a loss, and its parameter or 0."""
    return (loss, 0.0) if isinstance(loss, str) else loss


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


def softplus_of_minus(a):
    """log(1 + exp(-a)) for a >= 0."""
    return log1p(exp(-a))


def sigmoid_cross_entropy(z, target, parameter):
    """-t log s(z) - (1 - t) log(1 - s(z)), without overflow."""
    return select(z < 0.0, 0.0, z) - z * target + softplus_of_minus(abs(z)), sigmoid(z) - target


def absolute_error(z, target, parameter):
    """|z - t|; where z is the target, the slope is 0."""
    error = z - target
    return abs(error), select(error > 0.0, 1.0, select(error < 0.0, -1.0, error))


def huber(z, target, delta):
    """e^2 / 2 for e = z - t, and beyond |e| = delta its tangents (Huber 1964)."""
    error = z - target
    size = abs(error)
    curved = select(size > delta, delta, size)
    slope = select(error > delta, delta, select(error < -delta, -delta, error))
    return curved * (size - 0.5 * curved), slope


def quantile(z, target, level):
    """level (t - z) below the target and (1 - level) (z - t) above it (Koenker & Bassett 1978).

    Where z is the target, the slope is 0, which lies between those on either side.
    """
    error = z - target
    slope = select(error > 0.0, 1.0 - level, select(error < 0.0, -level, error))
    return slope * error, slope
