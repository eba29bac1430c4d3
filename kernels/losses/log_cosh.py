"""The logarithm of the error's hyperbolic cosine: half a square near 0, the absolute error far from it."""

import math

import numpy as np

from kernels.losses.declaration import Loss
from kernels.maths import exp, log1p, tanh

_LOG_2 = math.log(2.0)


def log_cosh(z, target):
    """log(cosh(z - t)), as |e| + log1p(exp(-2 |e|)) - log 2, which does not overflow."""
    error = z - target
    size = abs(error)
    return size + (log1p(exp(-2.0 * size)) - _LOG_2), tanh(error)


def reference(z, t):
    """log((exp(e) + exp(-e)) / 2) and tanh(e), e = z - t."""
    return np.logaddexp(z - t, t - z) - np.log(2.0), np.tanh(z - t)


Loss("log_cosh", log_cosh, baseline="median", reference=reference)
