"""The absolute error."""

import numpy as np

from kernels.losses.declaration import Loss
from kernels.maths import select


def absolute_error(z, target):
    """|z - t|; where z is the target t, the gradient is 0."""
    error = z - target
    return abs(error), select(error > 0.0, 1.0, select(error < 0.0, -1.0, error))


def reference(z, t):
    """|z - t| and the sign of z - t."""
    return np.abs(z - t), np.sign(z - t)


Loss("absolute_error", absolute_error, baseline="median", reference=reference)
