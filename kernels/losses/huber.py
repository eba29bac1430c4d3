"""Huber's loss: an outlier pulls no harder than an error of delta."""

import math

import numpy as np

from kernels.losses.declaration import Loss, Parameter
from kernels.maths import select


def huber(z, target, delta):
    """e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), e = z - t (Huber 1964; factors as in PyTorch)."""
    error = z - target
    size = abs(error)
    curved = select(size > delta, delta, size)
    slope = select(error > delta, delta, select(error < -delta, -delta, error))
    return curved * (size - 0.5 * curved), slope


def reference(z, t, delta):
    """e^2 / 2 where |e| <= delta, and beyond it its tangents; e = z - t."""
    size = np.abs(z - t)
    return np.where(size <= delta, 0.5 * (z - t) ** 2, delta * (size - 0.5 * delta)), np.clip(z - t, -delta, delta)


Loss("huber", huber, parameter=Parameter("delta", 0, math.inf, default=1.0), baseline="median", reference=reference)
