"""The squared error, of which nothing is divided."""

from kernels.losses.declaration import Loss
from kernels.losses.mean_squared_error import reference, squared_error

Loss(
    "sum_squared_error",
    squared_error,
    mean=False,
    averaged=False,
    outputs=("softmax", "sigmoid", "identity"),
    kernel="squared_error",
    reference=reference,
)
