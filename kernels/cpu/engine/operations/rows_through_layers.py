"""Rows that go through many layers at once: to the loss and back, or to outputs."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import job_at, layer_of, phase_at, start_of, stopped
from kernels.cpu.engine.layers.layer import Backward, Forward, Gradient
from kernels.cpu.engine.operations.gather import Gather
from kernels.cpu.engine.operations.loss import loss_of_rows, sum_rows
from kernels.cpu.engine.operations.operation import Operation, rows_of_tile
from kernels.cpu.ir import memory
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp
from kernels.cpu.rowwise.loss import OutputActivation

_doubles = memory.pointer("float64")


def _gather_rows(real: Any) -> Callable[..., Any]:
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


def _forth(real: Any) -> Callable[..., Any]:
    """A function: rows through the layers that they go through together; whether the job was given up meanwhile."""
    gather_rows, forward = _gather_rows(real), calls.by_address(Forward, real)

    @jit.inline
    def forth(job, address, at, step, row, rows, times):
        if job.first_layer == 0:
            gather_rows(job, at, start_of(job, step) + row, rows, times)
        for n in range(job.first_layer, job.n_layers):
            if stopped(job):
                return True
            layer = layer_of(job, n)
            forward(layer.forward, address, n, at, step, row, rows, 0, layer.n_out, times)
        return False

    return forth


def _group_gradient(real: Any) -> Callable[..., Any]:
    """A function that adds the gradient of rows to that of their gradient group, or begins it with them.

    at: their first row in the buffers. position: in the order or the data.
    """
    gradient = calls.by_address(Gradient, real)

    @jit.inline
    def add_gradient(job, address, group, at, position, rows, adds, times):
        twin = job.group_gradients + group * job.group_gradient_bytes
        for n in range(job.n_layers):
            if stopped(job):
                return
            layer = layer_of(job, n)
            ldg = layer.ld_transposed_dw if layer.transposed_dw != 0 else layer.ldw
            gb = layer.b + twin if layer.b != 0 else 0
            gradient(
                layer.gradient, address, n, at, position, rows, 0, layer.w_rows, 0, layer.n_out, layer.w + twin, ldg,
                gb, adds,
            )  # fmt: skip
            stamp(times, n, stamps.DW)

    return add_gradient


@jit.kernel(like=Operation)
def gather_batch(real: Any) -> Callable[..., Any]:
    """Rows of the batch out of the data."""
    gather_rows = _gather_rows(real)

    def function(address, at, step, tile, slot, times):
        job, phase = job_at(address), phase_at(at)
        row, rows = rows_of_tile(job, phase, step, tile)
        gather_rows(job, row, start_of(job, step) + row, rows, times)

    return function


@jit.kernel(like=Operation)
def rows_through_layers(real: Any) -> Callable[..., Any]:
    """Rows of a step's batch from the first layer to the loss and back, in chunks.

    The rows of a gradient group, of which `tile` is the number, also add their gradient to the group's.
    """
    forth, losses = _forth(real), loss_of_rows(real)
    backward, add_gradient = calls.by_address(Backward, real), _group_gradient(real)

    @jit.inline
    def through(job, address, step, row, rows, at, times):
        """One chunk, in the buffers' rows from `at` on."""
        if forth(job, address, at, step, row, rows, times):
            return
        losses(job, at, start_of(job, step) + row, rows, _doubles(job.scales)[step], at, times)
        first = job.first_layer
        least = 0 if first == 0 and job.dx != 0 else max(first, 1)
        for n in range(job.n_layers - 1, least - 1, -1):
            if stopped(job):
                return
            layer = layer_of(job, n)
            backward(layer.backward, address, n, at, step, row, rows, 0, layer.n_in, times)

    def function(address, at, step, tile, slot, times):
        job, phase = job_at(address), phase_at(at)
        row, rows = rows_of_tile(job, phase, step, tile)
        grouped, chunk, total, right = job.group_gradients != 0, job.row_chunk, 0.0, 0.0
        for done in range(0, rows, chunk):  # one chunk, unless it is a group
            if stopped(job):
                return
            part, begin = min(chunk, rows - done), slot * chunk if grouped else row
            through(job, address, step, row + done, part, begin, times)
            if grouped:
                position = start_of(job, step) + row + done
                add_gradient(job, address, tile, begin, position, part, done != 0, times)
                more, hits = sum_rows(job, begin, part)
                total, right = total + more, right + hits
                stamp(times, job.n_layers - 1, stamps.LOSS)
        if grouped:
            _doubles(job.group_sums)[2 * tile] = total
            _doubles(job.group_sums)[2 * tile + 1] = right

    return function


@jit.kernel(like=Operation)
def rows_to_outputs(real: Any) -> Callable[..., Any]:
    """Rows from the first layer to outputs, losses or both."""
    forth, losses, output_activation = _forth(real), loss_of_rows(real), calls.by_address(OutputActivation, real)

    def function(address, at, step, tile, slot, times):
        job, phase = job_at(address), phase_at(at)
        row, rows = rows_of_tile(job, phase, step, tile)
        begin = row if job.first_layer != 0 else slot * job.row_chunk
        if forth(job, address, begin, 0, row, rows, times):
            return
        if job.row_losses != 0:
            losses(job, begin, start_of(job, 0) + row, rows, 1.0, row, times)
        if job.out != 0:
            layer = layer_of(job, job.n_layers - 1)
            output_activation(
                job.activate_output, job.output, rows, layer.n_out, layer.y + begin * layer.ld_out, layer.ld_out,
                job.out + row * job.out_row, job.out_row,
            )  # fmt: skip

    return function
