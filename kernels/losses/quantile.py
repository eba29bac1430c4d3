"""The pinball loss, whose best answer is a quantile."""

import numpy as np

from kernels.losses.declaration import Loss, Parameter
from kernels.maths import select


def quantile(z, target, level):
    """level (t - z) where z < t, else (1 - level) (z - t) (Koenker & Bassett 1978); where z is t, the gradient is 0.

    It is least where t lies below z with probability `level`.
    """
    error = z - target
    slope = select(error > 0.0, 1.0 - level, select(error < 0.0, -level, error))
    return slope * error, slope


def reference(z, t, level):
    """(1 - level) e above the target and -level e below it, e = z - t."""
    e = z - t
    losses = np.where(e > 0.0, (1.0 - level) * e, -level * e)
    return losses, np.select([e > 0.0, e < 0.0], [1.0 - level, -level], e)


Loss("quantile", quantile, parameter=Parameter("level", 0, 1), baseline="quantile", reference=reference)
