"""The gradients of weights and biases, by weight tiles, with what is done while a tile is hot: update and new w.T."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import groups_of, job_at, layer_of, rows_of, start_of, stopped, tile_of
from kernels.cpu.engine.layers.layer import Gradient, whole_vectors
from kernels.cpu.engine.operations.loss import sum_step
from kernels.cpu.engine.operations.operation import Operation
from kernels.cpu.engine.operations.update_weights import has_bias, step_of_tile
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import chosen, itemsize
from kernels.cpu.ir.transpose import transpose as transpose_kernel
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp

_doubles = memory.pointer("float64")


def _sum_of_groups(real: Any) -> Callable[..., Any]:
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


def _decay_gradient(real: Any) -> Callable[..., Any]:
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


@jit.kernel(like=Operation)
def weights(real: Any) -> Callable[..., Any]:
    """dw of a weight tile, and its db; the last tile is the step's loss.

    They go into the job's gradient. Without one they go into the slot's scratch memory, from which the weights are
    updated at once.
    """
    size, lanes = itemsize(real), chosen().lanes(itemsize(real))
    gradient, transpose, whole = calls.by_address(Gradient, real), transpose_kernel(real), whole_vectors(real)
    sum_groups, decay, step_tile = _sum_of_groups(real), _decay_gradient(real), step_of_tile(real)

    @jit.inline
    def from_groups(job, step, layer, tile, at, gt, ldgt, g, ldg):
        """The tile's dw and db as the sum of the groups': db and dw go to g, a transposed dw to gt."""
        height, columns = tile.i1 - tile.i0, tile.j1 - tile.j0
        groups, bias = groups_of(job, step), has_bias(layer, tile)
        if layer.transposed_dw != 0:
            ldt = layer.ld_transposed_dw
            sum_groups(job, groups, layer.w + tile.j0 * ldt + tile.i0 * size, ldt, columns, whole(height), gt, ldgt)
            first_bias = layer.w + at + height * layer.ldw
            sum_groups(job, groups, first_bias, 0, bias, whole(columns), g + height * ldg, 0)
        else:
            sum_groups(job, groups, layer.w + at, layer.ldw, height + bias, whole(columns), g, ldg)

    @jit.inline
    def weight_tile(job, address, step, number, slot, times):
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
            into, ld_into = (gt, ldgt) if transposed else (g, ldg)
            gradient(
                layer.gradient, address, tile.layer, 0, start_of(job, step), rows_of(job, step), tile.i0, height,
                tile.j0, columns, into, ld_into, g + height * ldg if has_bias(layer, tile) != 0 else 0, 0,
            )  # fmt: skip
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
        elif squares != 0 and layer.decays != 0:
            decay(job, step, height, columns, layer.w + at, g, layer.ldw, squares)

    def function(address, at, step, tile, slot, times):
        job = job_at(address)
        if tile == job.n_tiles:
            sum_step(job, step)
            stamp(times, job.n_layers - 1, stamps.LOSS)
        else:
            weight_tile(job, address, step, tile, slot, times)

    return function
