"""The gradients of weights and biases: x.T @ dz, summed over the batch at once or over gradient groups in order."""

from collections.abc import Callable
from typing import Any

from numba import types

from kernels.cpu.compiler import jit
from kernels.cpu.engine.job import groups_of, input_of, layer_of, rows_of, start_of, stopped, tile_of
from kernels.cpu.engine.operations.products import NO_FLOOR, whole_vectors
from kernels.cpu.engine.operations.update_weights import has_bias
from kernels.cpu.ir import memory
from kernels.cpu.ir.masked_rows import outer_product
from kernels.cpu.ir.simd import chosen, itemsize
from kernels.cpu.ir.transpose import transpose as transpose_kernel
from kernels.cpu.measure import stamps
from kernels.cpu.product.gemm import gemm

_doubles = memory.pointer(types.float64)


def product_of_layer(real: Any, multiply: Callable[..., Any]) -> Callable[..., Any]:
    """A function: g = x.T @ dz, or its transpose where the layer says so, or g + that, over rows of the batch.

    multiply: what `gradient_product` makes.
    """
    size = itemsize(real)

    @jit.inline
    def dw(job, layer, inputs, outputs, rows, x, ldx, dz, ld, g, ldg, adds):
        transposed = layer.transposed_dw != 0
        if transposed:
            inputs, outputs, x, ldx, dz, ld = outputs, inputs, dz, ld, x, ldx
        multiply(job, layer, inputs, outputs, rows, x, size, ldx, dz, ld, g, ldg, adds, 0, 0 if transposed else 1)

    return dw


def bias_product(real: Any) -> Callable[..., Any]:
    """A function: gb = the sum of dz over rows, or gb + that: a product with a row of ones."""
    product, none = gemm(real), real(NO_FLOOR)

    @jit.inline
    def db(job, columns, rows, dz, ld, gb, adds):
        product(1, columns, rows, job.one, 0, 0, dz, ld, gb, 0, gb if adds else 0, 0, none, 0, 1)

    return db


def group_gradient(stamp: Any, dw: Callable[..., Any], db: Callable[..., Any]) -> Callable[..., Any]:
    """A function that adds the gradient of rows to that of their gradient group, or begins it with them.

    at: their first row in the buffers. position: in the order or the data.
    """

    @jit.inline
    def add_gradient(job, group, at, position, rows, begins, times):
        twin = job.group_gradients + group * job.group_gradient_bytes
        for n in range(job.n_layers):
            if stopped(job):
                return
            layer = layer_of(job, n)
            x, ldx = input_of(job, layer, n, at, position)
            ld, columns = layer.ld_out, layer.n_out
            dz, g = layer.dz + at * ld, layer.w + twin
            ldg = layer.ld_transposed_dw if layer.transposed_dw != 0 else layer.ldw
            dw(job, layer, layer.n_in, columns, rows, x, ldx, dz, ld, g, ldg, not begins)
            if layer.b != 0:
                db(job, columns, rows, dz, ld, layer.b + twin, not begins)
            stamp(times, n, stamps.DW)

    return add_gradient


def sum_of_groups(real: Any) -> Callable[..., Any]:
    """A function: g (rows, columns) = the groups' gradients of the parameters at `at`, added in order."""
    elements = memory.pointer(real)

    @jit.inline
    def sum_groups(job, groups, at, ld, rows, columns, g, ldg):
        for i in range(rows):
            total, group = elements(g + i * ldg), elements(at + job.group_gradients + i * ld)
            for j in range(columns):
                total[j] = group[j]
            for n in range(1, groups):
                group = elements(at + job.group_gradients + n * job.group_gradient_bytes + i * ld)
                for j in range(columns):
                    total[j] += group[j]

    return sum_groups


def decay_gradient(real: Any) -> Callable[..., Any]:
    """A function: g += l2 * w for a block of weights; the sum of w's squares goes to an address."""
    elements = memory.pointer(real)

    @jit.inline
    def decay(job, step, rows, columns, w, g, ld, squares):
        total, factor = 0.0, real(_doubles(job.l2)[step])
        for i in range(rows):
            w_row, g_row = elements(w + i * ld), elements(g + i * ld)
            for j in range(columns):
                total += w_row[j] * w_row[j]
                g_row[j] += factor * w_row[j]
        _doubles(squares)[0] = total

    return decay


def gradient_of_tile(
    real: Any, stamp: Any, dw: Callable[..., Any], db: Callable[..., Any], step_tile: Callable[..., Any]
) -> Callable[..., Any]:
    """A function that makes dw of a weight tile, and its db.

    They go into the job's gradient; or, without one, into the slot's scratch memory, from which `step_tile` updates the
    weights at once.
    """
    size, elements = itemsize(real), memory.pointer(real)
    lanes, product, none = chosen().lanes(size), gemm(real), real(NO_FLOOR)
    transpose, whole, sum_groups, decay = (
        transpose_kernel(real),
        whole_vectors(real),
        sum_of_groups(real),
        decay_gradient(real),
    )

    @jit.inline
    def outer_by_product(inputs, outputs, x, dz, g, ldg):
        product(inputs, outputs, 1, x, size, 0, dz, 0, g, ldg, 0, 0, none, 0, 1)

    of_one_row = outer_product(real) or outer_by_product

    @jit.inline
    def from_groups(job, step, layer, tile, at, gt, ldgt, g, ldg):
        """The tile's dw and db as the sum of the groups': db and dw go to g, a transposed dw to gt."""
        height, columns, groups, bias = (
            tile.i1 - tile.i0,
            tile.j1 - tile.j0,
            groups_of(job, step),
            has_bias(layer, tile),
        )
        if layer.transposed_dw != 0:
            ldt = layer.ld_transposed_dw
            sum_groups(job, groups, layer.w + tile.j0 * ldt + tile.i0 * size, ldt, columns, whole(height), gt, ldgt)
            first_bias = layer.w + at + height * layer.ldw
            sum_groups(job, groups, first_bias, 0, bias, whole(columns), g + height * ldg, 0)
        else:
            sum_groups(job, groups, layer.w + at, layer.ldw, height + bias, whole(columns), g, ldg)

    @jit.inline
    def from_batch(job, step, layer, tile, gt, ldgt, g, ldg):
        """The tile's dw and db over all rows of the batch, to the same places."""
        height, columns, rows = tile.i1 - tile.i0, tile.j1 - tile.j0, rows_of(job, step)
        x, ldx = input_of(job, layer, tile.layer, 0, start_of(job, step))
        x, dz, ld, gb = x + tile.i0 * size, layer.dz + tile.j0 * size, layer.ld_out, g + height * ldg
        if rows == 1 and layer.transposed_dw == 0:
            of_one_row(height, columns, x, dz, g, ldg)
        else:
            into, ld_into = (gt, ldgt) if layer.transposed_dw != 0 else (g, ldg)
            dw(job, layer, height, columns, rows, x, ldx, dz, ld, into, ld_into, False)
        if has_bias(layer, tile) != 0 and rows == 1:
            for j in range(whole(columns)):
                elements(gb)[j] = elements(dz)[j]
        elif has_bias(layer, tile) != 0:
            db(job, columns, rows, dz, ld, gb, False)

    @jit.inline
    def weight_tile(job, step, number, slot, times):
        tile = tile_of(job, number)
        layer = layer_of(job, tile.layer)
        at, height, columns = tile.i0 * layer.ldw + tile.j0 * size, tile.i1 - tile.i0, tile.j1 - tile.j0
        transposed = layer.transposed_dw != 0
        gt, ldgt = job.scratch + slot * job.scratch_bytes, whole(height) * size
        if job.gradient != 0:
            g, ldg = layer.w + job.gradient + at, layer.ldw
        else:
            g, ldg = gt + (columns * ldgt if transposed else 0), (columns // lanes + 2) * lanes * size
        if job.group_gradients != 0:
            from_groups(job, step, layer, tile, at, gt, ldgt, g, ldg)
            stamp(times, tile.layer, stamps.SUM)
        else:
            from_batch(job, step, layer, tile, gt, ldgt, g, ldg)
            stamp(times, tile.layer, stamps.DW)
        if transposed:
            transpose(columns, height, gt, ldgt, g, ldg)
            stamp(times, tile.layer, stamps.DW)
        if stopped(job):  # maybe before dw was whole
            return
        squares = 0
        if job.squares != 0:
            squares = job.squares + (step * job.n_tiles + number) * 8
        if job.gradient == 0:
            step_tile(job, layer, tile, step, at, g, ldg, squares, times)
        elif squares != 0:
            decay(job, step, height, columns, layer.w + at, g, layer.ldw, squares)

    return weight_tile
