"""Kernels of dense networks on arrays: matmul-bias-activation and its gradients, losses, optimiser steps.

The functions here check their arguments (kernels.checks) and hand them to a backend. Under the same names they
work inside a user's own `@njit` code, see kernels.nopython; what they write there must not overlap what they read,
which is not checked. kernels.reference has them in plain NumPy float64.

Letters: x (B, I), w (I, O), b (O,), y (B, O); d<name> is the gradient of the loss with respect to <name>. Arrays are
float32 or float64, one dtype throughout, of any strides; inputs are never modified. Sizes may be 0: a sum of nothing
is 0, and so is the loss of a z without elements. docs/activations.md has the names of activations.

There is a function for each loss that kernels.losses knows, and for each optimiser of kernels.optimizers.
"""

from typing import Any

from kernels.api import activate, activate_backward, linear, linear_backward, loss_function, softmax, steps
from kernels.backends import package
from kernels.losses import LOSSES
from kernels.nopython import offer

__all__ = ["activate", "activate_backward", "linear", "linear_backward", "softmax"]
__all__ += [*LOSSES, *steps]

DISTRIBUTION = "fastnn-numba"  # whose `kernels` this is: others install packages of that name too

offer()


def __getattr__(name: str) -> Any:
    """Import the CPU's backend when it is asked for, and find the function of a loss or an optimiser."""
    if name == "cpu":
        return package("cpu")
    if name in LOSSES:
        return loss_function(LOSSES[name])
    if name in steps:
        return steps[name]
    raise AttributeError(f"module 'kernels' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *LOSSES, *steps})
