"""The cross-entropy of several labels, or of two classes, whose probabilities are the sigmoids of z."""

import numpy as np

from kernels.activations.sigmoid import sigmoid
from kernels.losses.declaration import Loss, Targets
from kernels.maths import exp, log1p, select


def sigmoid_cross_entropy(z, target):
    """max(z, 0) - z t + log1p(exp(-|z|)), which is -t log s(z) - (1 - t) log(1 - s(z)) without overflow."""
    return select(z < 0.0, 0.0, z) - z * target + log1p(exp(-abs(z))), sigmoid(z) - target


def reference(z, t):
    """log(1 + e^z) - z t, and 1 / (1 + e^-z) - t."""
    e = np.exp(-np.abs(z))
    return np.maximum(z, 0.0) - z * t + np.log1p(e), np.where(z < 0.0, e, 1.0) / (1.0 + e) - t


Loss(
    "sigmoid_cross_entropy",
    sigmoid_cross_entropy,
    mean=False,
    targets=Targets(0, 1),
    outputs=("sigmoid",),
    default_of="sigmoid",
    reference=reference,
)
