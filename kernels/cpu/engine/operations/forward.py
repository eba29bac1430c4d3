"""A layer's outputs: product, bias, activation and dropout."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.records import record_address
from kernels.cpu.engine.job import input_of, layer_of, start_of, stopped
from kernels.cpu.engine.operations.dropout import Dropout
from kernels.cpu.engine.operations.products import NO_FLOOR, columns_at_once, whole_vectors
from kernels.cpu.ir.simd import itemsize
from kernels.cpu.measure import stamps
from kernels.cpu.product.gemm import Product
from kernels.cpu.rowwise.elementwise import Activation


def forward_layer(real: Any, stamp: Any) -> Callable[..., Any]:
    """A function that makes columns j0, j0 + 1, ... of layer n's outputs for rows of a step's batch, from `row` on.

    They go into the layer's buffer, from its row `at` on.
    """
    size, none, zero = itemsize(real), real(NO_FLOOR), real(0.0)
    product, activate = calls.by_address(Product, real), calls.by_address(Activation, real)
    drop, whole, part_of = calls.by_address(Dropout, real), whole_vectors(real), columns_at_once(real)

    @jit.inline
    def forward(job, n, at, step, row, rows, j0, columns, times):
        layer = layer_of(job, n)
        x, ldx = input_of(job, layer, n, at, start_of(job, step) + row)
        ld = layer.ld_out
        y = layer.y + at * ld + j0 * size
        b = layer.b + j0 * size if layer.b != 0 else 0
        z, ldz = y, ld
        if layer.pre != 0:
            z, ldz = layer.pre + at * layer.ld_pre + j0 * size, layer.ld_pre
        part = part_of(rows, columns, layer.n_in)
        for j in range(0, columns, part):
            if j > 0 and stopped(job):
                return
            product(
                layer.product, rows, min(part, columns - j), layer.n_in, x, ldx, size, layer.w + (j0 + j) * size,
                layer.ldw, z + j * size, ldz, b + j * size if b != 0 else 0, 0,
                zero if layer.relu_fused != 0 else none, 0, 1,
            )  # fmt: skip
        stamp(times, n, stamps.FORWARD)
        if layer.activate != 0:
            activate(layer.activate, rows, whole(columns), z, ldz, y, ld)
            stamp(times, n, stamps.ACTIVATION)
        if layer.drop != 0:
            target = layer.dropped + at * ld + j0 * size
            drop(layer.drop, record_address(job), n, step, row, rows, j0, whole(columns), y, target, ld, 1)
            stamp(times, n, stamps.ACTIVATION)

    return forward
