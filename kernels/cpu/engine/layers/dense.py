"""A dense layer: z = x @ w + b, and its gradients."""

from collections.abc import Callable
from typing import Any

from kernels import deferred
from kernels.activations import ACTIVATIONS
from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import LayerRecord, input_of, job_at, layer_of, pre_activations_of, start_of, stopped
from kernels.cpu.engine.layers.layer import (
    Backward,
    Forward,
    Gradient,
    LayerKernels,
    derivative_of,
    outputs_of,
    whole_vectors,
)
from kernels.cpu.engine.layers.products import NO_FLOOR, columns_at_once, gradient_product
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import itemsize
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp
from kernels.cpu.product.gemm import Product, gemm
from kernels.engine.network import Stage
from kernels.layers import Dense

masked_rows = deferred.module("kernels.cpu.ir.masked_rows")


@jit.kernel(like=Forward, name="dense_forward")
def forward(real: Any) -> Callable[..., Any]:
    """The product with w, and the bias, then what follows them."""
    size, none, zero = itemsize(real), real(NO_FLOOR), real(0.0)
    product, part_of, finish = calls.by_address(Product, real), columns_at_once(real), outputs_of(real)

    def function(job, n, at, step, row, rows, first, columns, times):
        record = job_at(job)
        layer = layer_of(record, n)
        x, ldx = input_of(record, layer, n, at, start_of(record, step) + row)
        b = layer.b + first * size if layer.b != 0 else 0
        z, ldz = pre_activations_of(layer, at, first * size)
        part = part_of(rows, columns, layer.n_in)
        for j in range(0, columns, part):
            if j > 0 and stopped(record):
                return
            product(
                layer.product, rows, min(part, columns - j), layer.n_in, x, ldx, size, layer.w + (first + j) * size,
                layer.ldw, z + j * size, ldz, b + j * size if b != 0 else 0, 0,
                zero if layer.relu_fused != 0 else none, 0, 1,
            )  # fmt: skip
        stamp(times, n, stamps.FORWARD)
        finish(record, layer, n, at, step, row, rows, first, columns, z, ldz, times)

    return function


@jit.kernel(like=Backward, name="dense_backward")
def backward(real: Any) -> Callable[..., Any]:
    """The product with w.T, then what lies between it and the layer below."""
    size, multiply, back = itemsize(real), gradient_product(real), derivative_of(real)

    def function(job, n, at, step, row, rows, first, columns, times):
        record = job_at(job)
        layer, below = layer_of(record, n), layer_of(record, max(n - 1, 0))
        ld = layer.ld_out
        dz = layer.dz + at * ld
        if n > 0:
            dx, ldx = below.dz + at * below.ld_out + first * size, below.ld_out
        else:
            ldx = record.dx_row
            dx = record.dx + row * ldx + first * size
        w, ldw, transposed = layer.wt + first * size, layer.ldwt, 0
        if layer.wt == 0:
            w, ldw, transposed = layer.w + first * layer.ldw, layer.ldw, 1
        multiply(
            record, layer, rows, columns, layer.n_out, dz, ld, size, w, ldw, dx, ldx, False, transposed, 1 - transposed
        )  # fmt: skip
        stamp(times, n, stamps.DX)
        if n > 0:
            back(record, below, n - 1, at, step, row, rows, first, columns, dx, times)

    return function


@jit.kernel(like=Gradient, name="dense_gradient")
def gradient(real: Any) -> Callable[..., Any]:
    """dw = x.T @ dz, or its transpose where the layer says so, and db, the sum of dz: a product with a row of ones."""
    size, elements, none = itemsize(real), memory.pointer(real), real(NO_FLOOR)
    multiply, product, whole = gradient_product(real), gemm(real), whole_vectors(real)

    @jit.inline
    def outer_by_product(inputs, outputs, x, dz, g, ldg):
        product(inputs, outputs, 1, x, size, 0, dz, 0, g, ldg, 0, 0, none, 0, 1)

    of_one_row = masked_rows.outer_product(real) or outer_by_product

    def function(job, n, at, position, rows, i0, height, j0, columns, g, ldg, gb, adds):
        record = job_at(job)
        layer = layer_of(record, n)
        x, ldx = input_of(record, layer, n, at, position)
        x, ld = x + i0 * size, layer.ld_out
        dz = layer.dz + at * ld + j0 * size
        one, transposed = rows == 1 and record.group_gradients == 0, layer.transposed_dw != 0
        if one and not transposed:
            of_one_row(height, columns, x, dz, g, ldg)
        elif transposed:
            multiply(record, layer, columns, height, rows, dz, size, ld, x, ldx, g, ldg, adds, 0, 0)
        else:
            multiply(record, layer, height, columns, rows, x, size, ldx, dz, ld, g, ldg, adds, 0, 1)
        if gb != 0 and one:
            for j in range(whole(columns)):
                elements(gb)[j] = elements(dz)[j]
        elif gb != 0:
            product(1, columns, rows, record.one, 0, 0, dz, ld, gb, 0, gb if adds != 0 else 0, 0, none, 0, 1)

    return function


def _describe(record: LayerRecord, layer: Dense) -> None:
    record.relu_fused = ACTIVATIONS[layer.activation].is_relu


def _buffers(rows: int, stride: int) -> dict[str, int]:
    return {}


def _work(stage: Stage, rows: int, groups: int) -> dict[str, tuple[int, int]]:
    inputs, outputs = stage.inputs, stage.outputs
    w, b = inputs * outputs, outputs if stage.layer.bias else 0
    rows_in_and_out = rows * (inputs + outputs)
    return {
        "forward": (2 * rows * w, rows_in_and_out + w + b),
        "dx": (2 * rows * w, rows_in_and_out + w),
        "dw": (2 * rows * w + rows * b, rows_in_and_out + groups * (w + b)),
    }


KERNELS = LayerKernels(forward, backward, gradient, _describe, _buffers, _work)
