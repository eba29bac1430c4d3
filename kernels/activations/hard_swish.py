"""Hard swish: z min(max(z + 3, 0), 6) / 6 (Howard et al. 2019, "Searching for MobileNetV3", section 5.2)."""

import numpy as np

from kernels.activations.declaration import Activation, times
from kernels.activations.hard_sigmoid import onnx as onnx_hard_sigmoid
from kernels.maths import select


def hard_swish(z):
    """z (z + 3) / 6, 0 up to -3 and z from 3 on."""
    return select(z <= -3.0, 0.0, select(z >= 3.0, z, z * (z + 3.0) / 6.0))


def slope(z):
    """(2 z + 3) / 6, 0 up to the left kink and 1 beyond the right one."""
    return select(z <= -3.0, 0.0, select(z > 3.0, 1.0, (2.0 * z + 3.0) / 6.0))


Activation(
    "hard_swish", hard_swish, slope, lambda z: times(z, np.clip(z + 3.0, 0.0, 6.0) / 6.0),
    lambda z: np.select([z <= -3.0, z > 3.0], [0.0, 1.0], z / 3.0 + 0.5), init="he",
    onnx=lambda graph, z: graph.node("Mul", [z, onnx_hard_sigmoid(graph, z)]), torch="Hardswish",
)  # fmt: skip
