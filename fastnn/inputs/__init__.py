"""What people pass in, checked and made ready for compiled code. Nothing is changed before everything is checked."""

from fastnn.inputs.arrays import array, bounds, check_device, check_finite, check_raw, matrix, on_host
from fastnn.inputs.labels import Targets, check_numbers, targets
from fastnn.inputs.weights import row_weights

__all__ = [
    "Targets",
    "array",
    "bounds",
    "check_device",
    "check_finite",
    "check_numbers",
    "check_raw",
    "matrix",
    "on_host",
    "row_weights",
    "targets",
]
