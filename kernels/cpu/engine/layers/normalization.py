"""What the kernels of normalisations share: the gradients of gamma, which is w, and beta, which is b."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import jit
from kernels.cpu.engine.job import LayerRecord, job_at, layer_of
from kernels.cpu.engine.layers.layer import Gradient
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import itemsize
from kernels.engine.network import Stage
from kernels.layers import Normalization


def describe(record: LayerRecord, layer: Normalization) -> None:
    """Write what the kernels read of a layer."""
    record.epsilon = layer.epsilon


def work(stage: Stage, rows: int, groups: int) -> dict[str, tuple[int, int]]:
    """What the phases of a training step have to do."""
    elements = rows * stage.outputs
    return {
        "forward": (8 * elements, 3 * elements),  # mean, variance, normal and z, from x to normal and z
        "dx": (8 * elements, 3 * elements),  # two means and what they are taken from
        "dw": (3 * elements, 2 * elements + 2 * groups * stage.outputs),
    }


@jit.kernel(like=Gradient, name="normalization_gradient")
def gradient(real: Any) -> Callable[..., Any]:
    """dgamma, the sum of dz * (x - mean) / deviation, and dbeta, the sum of dz."""
    size, elements, zero = itemsize(real), memory.pointer(real), real(0.0)

    def function(job, n, at, position, rows, i0, height, j0, columns, g, ldg, gb, adds):
        layer = layer_of(job_at(job), n)
        dgamma, dbeta, begin = elements(g), elements(gb), at * layer.ld_out + j0 * size
        if adds == 0:
            for j in range(columns):
                dgamma[j] = zero
                dbeta[j] = zero
        for r in range(rows):
            dz, normal = (
                elements(layer.dz + begin + r * layer.ld_out),
                elements(layer.normal + begin + r * layer.ld_out),
            )
            for j in range(columns):
                dgamma[j] += dz[j] * normal[j]
                dbeta[j] += dz[j]

    return function
