"""The gradient by a layer's inputs: the product with w.T, then dropout's and the activation's derivative."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.records import record_address
from kernels.cpu.engine.job import layer_of
from kernels.cpu.engine.operations.dropout import Dropout
from kernels.cpu.engine.operations.products import whole_vectors
from kernels.cpu.ir.simd import itemsize
from kernels.cpu.measure import stamps
from kernels.cpu.rowwise.elementwise import ActivationBackward


def backward_layer(real: Any, stamp: Any, multiply: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes columns i0, i0 + 1, ... of dz of the layer below n, or of dX, for rows of a step's batch.

    multiply: what `gradient_product` makes.
    """
    size = itemsize(real)
    drop, derivative = calls.by_address(Dropout, real), calls.by_address(ActivationBackward, real)
    whole = whole_vectors(real)

    @jit.inline
    def backward(job, n, at, step, row, rows, i0, columns, times):
        layer, below = layer_of(job, n), layer_of(job, max(n - 1, 0))
        ld = layer.ld_out
        dz = layer.dz + at * ld
        if n > 0:
            dx, ldx = below.dz + at * below.ld_out + i0 * size, below.ld_out
        else:
            ldx = job.dx_row
            dx = job.dx + row * ldx + i0 * size
        w, ldw, transposed = layer.wt + i0 * size, layer.ldwt, 0
        if layer.wt == 0:
            w, ldw, transposed = layer.w + i0 * layer.ldw, layer.ldw, 1
        multiply(
            job, layer, rows, columns, layer.n_out, dz, ld, size, w, ldw, dx, ldx, False, transposed, 1 - transposed
        )  # fmt: skip
        stamp(times, n, stamps.DX)
        if n > 0 and below.activate_backward != 0:
            saved, lds = below.y + at * below.ld_out + i0 * size, below.ld_out
            if below.pre != 0:
                saved, lds = below.pre + at * below.ld_pre + i0 * size, below.ld_pre
            derivative(below.activate_backward, rows, whole(columns), dx, ldx, saved, lds, dx, ldx)
            stamp(times, n - 1, stamps.DERIVATIVE)
        if n > 0 and below.drop != 0:
            drawn = 0 if below.dropped == below.y else 1
            drop(below.drop, record_address(job), n - 1, step, row, rows, i0, whole(columns), dx, dx, ldx, drawn)
            stamp(times, n - 1, stamps.DERIVATIVE)

    return backward
