"""Updates of weight tiles by the optimiser, what goes before them (a hook) and after them (the new w.T)."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import job_at, layer_of, tile_of
from kernels.cpu.engine.operations.clip import Hook
from kernels.cpu.engine.operations.operation import Operation
from kernels.cpu.engine.operations.update import Step
from kernels.cpu.ir import floats, memory
from kernels.cpu.ir.floats import FLUSH_SUBNORMALS
from kernels.cpu.ir.instruction_sets import itemsize
from kernels.cpu.ir.transpose import transpose as transpose_kernel
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp
from kernels.deferred import types

_doubles = memory.pointer("float64")


@jit.inline
def has_bias(layer, tile):
    """1 where the tile's rows of w are followed by its bias, in the parameters and in all that is like them; else 0."""
    return types.int64(tile.i1 == layer.w_rows and layer.b != 0)


def _transpose_of_tile(real: Any) -> Callable[..., Any]:
    """A function: a tile's part of w.T, out of w."""
    size, transpose = itemsize(real), transpose_kernel(real)

    @jit.inline
    def refresh(layer, tile):
        w, wt = layer.w + tile.i0 * layer.ldw + tile.j0 * size, layer.wt + tile.j0 * layer.ldwt + tile.i0 * size
        transpose(tile.i1 - tile.i0, tile.j1 - tile.j0, w, layer.ldw, wt, layer.ldwt)

    return refresh


def step_of_tile(real: Any) -> Callable[..., Any]:
    """A function: an optimiser's step on a tile, and on its bias, by g with the bias after its rows; then its w.T.

    at: bytes from w to the tile. squares: where the sum of the tile's squared weights goes, or 0 without l2.
    """
    update, refresh = calls.by_address(Step, real), _transpose_of_tile(real)

    @jit.inline
    def update_rows(job, layer, at, rows, columns, g, ldg, scalars, decay):
        """Update rows of w, and of b, which is the row after its last; returns w's sum of squares."""
        return update(job.update, rows, columns, layer.w + at, layer.ldw, g, ldg, job.state, scalars, decay)

    @jit.inline
    def step_tile(job, layer, tile, step, at, g, ldg, squares, times):
        rows, columns, bias = tile.i1 - tile.i0, tile.j1 - tile.j0, has_bias(layer, tile)
        scalars = job.scalars + step * job.scalars_bytes
        if layer.decays == 0:
            scalars = job.scalars_of_biases + step * job.scalars_bytes
            update_rows(job, layer, at, rows + bias, columns, g, ldg, scalars, 0.0)
        elif squares == 0 and job.scalars_of_biases == job.scalars:
            update_rows(job, layer, at, rows + bias, columns, g, ldg, scalars, 0.0)
        else:
            decay = 0.0
            if squares != 0:
                decay = _doubles(job.l2)[step]
            found = update_rows(job, layer, at, rows, columns, g, ldg, scalars, decay)
            if squares != 0:
                _doubles(squares)[0] = found
            if bias:
                scalars = job.scalars_of_biases + step * job.scalars_bytes
                update_rows(job, layer, at + rows * layer.ldw, 1, columns, g + rows * ldg, ldg, scalars, 0.0)
        stamp(times, tile.layer, stamps.UPDATE)
        if layer.wt != 0:
            refresh(layer, tile)
            stamp(times, tile.layer, stamps.TRANSPOSE)

    return step_tile


@jit.kernel(like=Operation)
def update_weights(real: Any) -> Callable[..., Any]:
    """The update of a weight tile out of the job's gradient."""
    size, step_tile = itemsize(real), step_of_tile(real)

    def function(address, at, step, tile, slot, times):
        job = job_at(address)
        block = tile_of(job, tile)
        layer = layer_of(job, block.layer)
        begin = block.i0 * layer.ldw + block.j0 * size
        step_tile(job, layer, block, step, begin, layer.w + job.gradient + begin, layer.ldw, 0, times)

    return function


@jit.kernel(like=Operation)
def transpose_weights(real: Any) -> Callable[..., Any]:
    """A weight tile's part of w.T before the first step, where its layer keeps w.T."""
    refresh = _transpose_of_tile(real)

    def function(address, at, step, tile, slot, times):
        job = job_at(address)
        block = tile_of(job, tile)
        layer = layer_of(job, block.layer)
        if layer.wt != 0:
            refresh(layer, block)
            stamp(times, block.layer, stamps.TRANSPOSE)

    return function


@jit.kernel(like=Operation)
def call_hook(real: Any) -> Callable[..., Any]:
    """The job's hook, with subnormal numbers as they are."""
    hook = calls.by_address(Hook, real)

    def function(address, at, step, tile, slot, times):
        job, mode = job_at(address), floats.mode()
        floats.set_mode(mode & ~FLUSH_SUBNORMALS)
        hook(job.hook, job.hook_argument)
        floats.set_mode(mode)
        stamp(times, 0, stamps.CLIP)

    return function
