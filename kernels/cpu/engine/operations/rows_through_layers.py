"""Rows that go through many layers at once: to the loss and back, or to outputs."""

from collections.abc import Callable
from typing import Any

from numba import types

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import layer_of, start_of, stopped
from kernels.cpu.engine.operations.gather import Gather
from kernels.cpu.engine.operations.loss import sum_rows
from kernels.cpu.ir import memory
from kernels.cpu.measure import stamps
from kernels.cpu.rowwise.loss import OutputActivation

_doubles = memory.pointer(types.float64)


def gather_batch(real: Any, stamp: Any) -> Callable[..., Any]:
    """A function: rows of X from `position` on go into the buffers' rows from `at` on, unless X is read in place."""
    gather = calls.by_address(Gather, real)

    @jit.inline
    def gather_rows(job, at, position, rows, times):
        layer = layer_of(job, 0)
        if job.x_gather != 0:
            gather(
                job.x_gather, rows, layer.n_in, job.x, job.data_rows, job.x_row, job.x_column, job.order, position,
                layer.input + at * layer.ld_input, layer.ld_input,
            )  # fmt: skip
            stamp(times, 0, stamps.GATHER)

    return gather_rows


def forth_and_back(
    stamp: Any,
    gather_rows: Callable[..., Any],
    forward: Callable[..., Any],
    losses: Callable[..., Any],
    backward: Callable[..., Any],
    add_gradient: Callable[..., Any],
) -> Callable[..., Any]:
    """A function: rows of a step's batch from the first layer to the loss and back, in chunks.

    The rows of a gradient group, of which `group` is the number, also add their gradient to the group's.
    """

    @jit.inline
    def through(job, step, row, rows, at, times):
        """One chunk, in the buffers' rows from `at` on."""
        position, first = start_of(job, step) + row, job.first_layer
        if first == 0:
            gather_rows(job, at, position, rows, times)
        for n in range(first, job.n_layers):
            if stopped(job):
                return
            forward(job, n, at, step, row, rows, 0, layer_of(job, n).n_out, times)
        losses(job, at, position, rows, _doubles(job.scales)[step], at, times)
        least = 0 if first == 0 and job.dx != 0 else max(first, 1)
        for n in range(job.n_layers - 1, least - 1, -1):
            if stopped(job):
                return
            backward(job, n, at, step, row, rows, 0, layer_of(job, n).n_in, times)

    @jit.inline
    def rows_through_layers(job, step, group, slot, row, rows, times):
        grouped, chunk, total, right = job.group_gradients != 0, job.row_chunk, 0.0, 0.0
        for done in range(0, rows, chunk):  # one chunk, unless it is a group
            if stopped(job):
                return
            part, at = min(chunk, rows - done), slot * chunk if grouped else row
            through(job, step, row + done, part, at, times)
            if grouped:
                add_gradient(job, group, at, start_of(job, step) + row + done, part, done == 0, times)
                more, hits = sum_rows(job, at, part)
                total, right = total + more, right + hits
                stamp(times, job.n_layers - 1, stamps.LOSS)
        if grouped:
            _doubles(job.group_sums)[2 * group] = total
            _doubles(job.group_sums)[2 * group + 1] = right

    return rows_through_layers


def rows_to_outputs(
    real: Any, gather_rows: Callable[..., Any], forward: Callable[..., Any], losses: Callable[..., Any]
) -> Callable[..., Any]:
    """A function: rows from the first layer to outputs, losses or both, in the buffers' rows from `at` on."""
    output_activation = calls.by_address(OutputActivation, real)

    @jit.inline
    def predict_rows(job, row, rows, at, times):
        position, layer = start_of(job, 0) + row, layer_of(job, job.n_layers - 1)
        if job.first_layer == 0:
            gather_rows(job, at, position, rows, times)
        for n in range(job.first_layer, job.n_layers):
            if stopped(job):
                return
            forward(job, n, at, 0, row, rows, 0, layer_of(job, n).n_out, times)
        if job.row_losses != 0:
            losses(job, at, position, rows, 1.0, row, times)
        if job.out != 0:
            output_activation(
                job.activate_output, job.output, rows, layer.n_out, layer.y + at * layer.ld_out, layer.ld_out,
                job.out + row * job.out_row, job.out_row,
            )  # fmt: skip

    return predict_rows
