"""A layer that is done on its own, by tiles of rows and columns: forward, and below it backward."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import job_at, layer_of, phase_at, rows_of
from kernels.cpu.engine.layers.layer import Backward, Forward
from kernels.cpu.engine.operations.operation import Operation


@jit.inline
def _part_of_batch(job, phase, step, tile):
    """(first row, rows, first column) of a tile."""
    row, first = tile // phase.across * phase.rows, tile % phase.across * phase.columns
    return row, min(phase.rows, rows_of(job, step) - row), first


@jit.kernel(like=Operation)
def forward_layer(real: Any) -> Callable[..., Any]:
    """A layer's outputs."""
    forward = calls.by_address(Forward, real)

    def function(address, at, step, tile, slot, times):
        job, phase = job_at(address), phase_at(at)
        row, rows, first = _part_of_batch(job, phase, step, tile)
        layer = layer_of(job, phase.layer)
        columns = min(phase.columns, layer.n_out - first)
        forward(layer.forward, address, phase.layer, row, step, row, rows, first, columns, times)

    return function


@jit.kernel(like=Operation)
def backward_layer(real: Any) -> Callable[..., Any]:
    """dz of the layer below, or dX."""
    backward = calls.by_address(Backward, real)

    def function(address, at, step, tile, slot, times):
        job, phase = job_at(address), phase_at(at)
        row, rows, first = _part_of_batch(job, phase, step, tile)
        layer = layer_of(job, phase.layer)
        columns = min(phase.columns, layer.n_in - first)
        backward(layer.backward, address, phase.layer, row, step, row, rows, first, columns, times)

    return function
