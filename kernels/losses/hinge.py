"""The hinge loss of a classifier that separates by a margin.

Targets are -1 or 1. Those of 0 and 1 are refused: Keras converts them where a batch holds nothing else, but what a
batch holds must not decide what its targets mean, and a target of 0 would teach nothing.
"""

import numpy as np

from kernels.losses.declaration import Loss, Targets
from kernels.maths import select


def hinge(z, target):
    """max(0, 1 - t z) (Cortes & Vapnik 1995), t -1 or 1; where t z is 1, the gradient is 0."""
    missing = 1.0 - target * z
    slope = select(missing > 0.0, -target, select(missing <= 0.0, 0.0, missing))  # NaN passes
    return select(missing < 0.0, 0.0, missing), slope


def reference(z, t):
    """max(0, 1 - t z), and -t where that is above 0."""
    return np.maximum(0.0, 1.0 - t * z), np.where(t * z >= 1.0, 0.0, -t + 0.0 * z)


Loss("hinge", hinge, targets=Targets(-1, 1, only=(-1, 1)), baseline="median", reference=reference)
