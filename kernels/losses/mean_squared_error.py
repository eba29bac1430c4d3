"""The squared error, averaged."""

from kernels.losses.declaration import Loss
from kernels.maths import exp


def squared_error(z, target):
    """(z - t)^2, without a factor 1/2."""
    error = z - target
    return error * error, 2.0 * error


def of_softmax(z, t, top, total, value, dot, share, scale):
    """What is done for an output of softmax: y, its part of the loss and of softmax's Jacobian, and dz."""
    e = exp(z - top)
    y = e / total
    error = y - t
    return total + e, value + share * error * error, dot + error * y, share * scale * y * (y - t - dot)


def work(output, labels, parameter):
    """Of softmax outputs more than the rule says."""
    return of_softmax if output == "softmax" else None


def reference(z, t):
    """(z - t)^2 and 2 (z - t)."""
    return (z - t) ** 2, 2.0 * (z - t)


Loss(
    "mean_squared_error",
    squared_error,
    outputs=("softmax", "sigmoid", "identity"),
    default_of="identity",
    reads="y",
    kernel="squared_error",
    work=work,
    reference=reference,
)
