"""The squared error, averaged."""

from kernels.losses.declaration import Loss


def squared_error(z, target):
    """(z - t)^2, without a factor 1/2."""
    error = z - target
    return error * error, 2.0 * error


def reference(z, t):
    """(z - t)^2 and 2 (z - t)."""
    return (z - t) ** 2, 2.0 * (z - t)


Loss(
    "mean_squared_error",
    squared_error,
    outputs=("softmax", "sigmoid", "identity"),
    default_of="identity",
    kernel="squared_error",
    reference=reference,
)
