"""The hyperbolic tangent."""

import numpy as np

from kernels.activations.declaration import Activation
from kernels.maths import tanh


def slope(y):
    """1 - y^2."""
    return 1.0 - y * y


Activation(
    "tanh", tanh, slope, np.tanh, lambda y: 1.0 - y * y, slope_reads="y", onnx="Tanh", torch="Tanh"
)  # fmt: skip
