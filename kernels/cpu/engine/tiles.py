"""A tile of a phase: which operation does it, on which rows and columns."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import jit
from kernels.cpu.engine import job as jobs
from kernels.cpu.engine.job import layer_of, rows_of, start_of
from kernels.cpu.engine.operations.backward import backward_layer
from kernels.cpu.engine.operations.forward import forward_layer
from kernels.cpu.engine.operations.loss import loss_of_rows, sum_step
from kernels.cpu.engine.operations.products import gradient_product
from kernels.cpu.engine.operations.rows_through_layers import forth_and_back, gather_batch, rows_to_outputs
from kernels.cpu.engine.operations.update_weights import (
    first_transpose_of_tile,
    hook_caller,
    step_of_tile,
    transpose_of_tile,
    update_of_tile,
)
from kernels.cpu.engine.operations.weight_gradients import (
    bias_product,
    gradient_of_tile,
    group_gradient,
    product_of_layer,
)
from kernels.cpu.measure import stamps


def tile_operations(real: Any, stamp: Any) -> Callable[..., Any]:
    """A function that does one tile of a phase."""
    multiply, gather_rows = gradient_product(real), gather_batch(real, stamp)
    forward, losses = forward_layer(real, stamp), loss_of_rows(real, stamp)
    backward = backward_layer(real, stamp, multiply)
    dw, db = product_of_layer(real, multiply), bias_product(real)
    add_gradient = group_gradient(stamp, dw, db)
    through = forth_and_back(stamp, gather_rows, forward, losses, backward, add_gradient)
    predict = rows_to_outputs(real, gather_rows, forward, losses)
    refresh = transpose_of_tile(real)
    step_tile = step_of_tile(real, stamp, refresh)
    weight_tile = gradient_of_tile(real, stamp, dw, db, step_tile)
    update_tile = update_of_tile(real, step_tile)
    transpose_tile, call_hook = first_transpose_of_tile(stamp, refresh), hook_caller(stamp)

    @jit.inline
    def do_tile(job, phase, step, tile, slot, times):
        operation, n, across, row, first = phase.operation, phase.layer, phase.across, 0, 0
        if across == 1:
            row = tile * phase.rows
        elif phase.rows != 0:
            row, first = tile // across * phase.rows, tile % across * phase.columns
        rows = min(phase.rows, rows_of(job, step) - row)
        stamp(times, 0, stamps.CLAIMED)
        if operation == jobs.ROWS_THROUGH_LAYERS:
            through(job, step, tile, slot, row, rows, times)
        elif operation == jobs.WEIGHTS:
            if tile == job.n_tiles:
                sum_step(job, step)
                stamp(times, job.n_layers - 1, stamps.LOSS)
            else:
                weight_tile(job, step, tile, slot, times)
        elif operation == jobs.FORWARD:
            columns = min(phase.columns, layer_of(job, n).n_out - first)
            forward(job, n, row, step, row, rows, first, columns, times)
        elif operation == jobs.BACKWARD:
            columns = min(phase.columns, layer_of(job, n).n_in - first)
            backward(job, n, row, step, row, rows, first, columns, times)
        elif operation == jobs.GATHER:
            gather_rows(job, row, start_of(job, step) + row, rows, times)
        elif operation == jobs.TRANSPOSE:
            transpose_tile(job, tile, times)
        elif operation == jobs.CALL_HOOK:
            call_hook(job, times)
        elif operation == jobs.UPDATE_WEIGHTS:
            update_tile(job, step, tile, times)
        else:
            predict(job, row, rows, row if job.first_layer != 0 else slot * job.row_chunk, times)

    return do_tile
