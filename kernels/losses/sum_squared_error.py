"""The squared error, of which nothing is divided."""

from kernels.losses.declaration import Loss
from kernels.losses.mean_squared_error import reference, squared_error, work

Loss(
    "sum_squared_error",
    squared_error,
    mean=False,
    averaged=False,
    outputs=("softmax", "sigmoid", "identity"),
    reads="y",
    kernel="squared_error",
    work=work,
    reference=reference,
)
