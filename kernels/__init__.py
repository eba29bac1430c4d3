"""Kernels of dense networks on arrays: matmul-bias-activation and its gradients, losses, optimiser steps.

The functions here check their arguments (kernels.checks) and hand them to a backend. Under the same names they
work inside a user's own `@njit` code, see kernels.nopython; what they write there must not overlap what they read,
which is not checked. kernels.reference has them in plain NumPy float64.

Letters: x (B, I), w (I, O), b (O,), y (B, O); d<name> is the gradient of the loss with respect to <name>. Arrays are
float32 or float64, one dtype throughout, of any strides; inputs are never modified. Sizes may be 0: a sum of nothing
is 0, and so is the loss of a z without elements. Activations: identity, relu, leaky_relu, sigmoid (logistic), tanh,
silu (swish), gelu.
"""

from typing import Any

from kernels.api import (
    absolute_error,
    activate,
    activate_backward,
    huber,
    linear,
    linear_backward,
    mean_squared_error,
    poisson,
    quantile,
    sigmoid_cross_entropy,
    softmax,
    softmax_cross_entropy,
    steps,
    sum_squared_error,
)
from kernels.backends import package
from kernels.nopython import offer

__all__ = [
    "absolute_error", "activate", "activate_backward", "huber", "linear", "linear_backward",
    "mean_squared_error", "poisson", "quantile", "sigmoid_cross_entropy", "softmax", "softmax_cross_entropy",
    "sum_squared_error",
]  # fmt: skip

__all__ += [*steps]
globals().update(steps)

DISTRIBUTION = "fastnn-numba"  # whose `kernels` this is: others install packages of that name too

offer()


def __getattr__(name: str) -> Any:
    """Import the CPU's backend when it is asked for."""
    if name == "cpu":
        return package("cpu")
    raise AttributeError(f"module 'kernels' has no attribute {name!r}")
