"""The loss of rows and dz of the last layer; and the sums of losses over rows and steps."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import groups_of, layer_of, rows_of
from kernels.cpu.engine.operations.gather import Gather
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import itemsize
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp
from kernels.cpu.rowwise.loss import RowLoss
from kernels.deferred import types

_integers, _doubles = memory.pointer("int64"), memory.pointer("float64")
_octets, _shorts, _words = (memory.pointer(kind) for kind in ("uint8", "uint16", "uint32"))


@jit.inline
def _label_at(address, n_bytes, signed):
    """A label, an integer of n_bytes bytes."""
    if n_bytes == 8:
        return _integers(address)[0]
    if n_bytes == 1:
        label = types.int64(_octets(address)[0])
    elif n_bytes == 2:
        label = types.int64(_shorts(address)[0])
    else:
        label = types.int64(_words(address)[0])
    return label - (signed * (label >> (8 * n_bytes - 1)) << 8 * n_bytes)


@jit.inline
def _read_labels(job, position, rows, n_outputs, target):
    """The labels of rows, as int64; -1 where a label is none of the outputs, and its row goes into `wrong_row`."""
    for r in range(rows):
        number = _words(job.order)[position + r] if job.order != 0 else position + r
        label = -1
        if number < job.data_rows:
            label = _label_at(job.target + number * job.target_row, job.label_bytes, job.label_signed)
        if label < 0 or label >= n_outputs:
            job.wrong_row = number
        _integers(target)[r] = label


def loss_of_rows(real: Any) -> Callable[..., Any]:
    """A function: the loss of rows that have been forwarded, and dz of the last layer.

    at: their first row in the buffers. position: in the order or the data. scale: what the loss is multiplied by. row:
    where the rows' losses begin among the job's.
    """
    size = itemsize(real)
    gather, row_loss = calls.by_address(Gather, real), calls.by_address(RowLoss, real)

    @jit.inline
    def losses(job, at, position, rows, scale, row, times):
        layer = layer_of(job, job.n_layers - 1)
        ldt, weight = job.ld_batch_target, 0
        target = job.batch_target + at * ldt
        if job.labels != 0:
            ldt = 8
            target = job.batch_label + at * ldt
            _read_labels(job, position, rows, layer.n_out, target)
        else:
            gather(
                job.target_gather, rows, job.target_columns, job.target, job.data_rows, job.target_row,
                job.target_column, job.order, position, target, ldt,
            )  # fmt: skip
        if job.weight != 0:
            weight = job.batch_weight + at * size
            gather(
                job.weight_gather, rows, 1, job.weight, job.data_rows, 8, 8, job.order, position, weight, size
            )  # fmt: skip
        ld = layer.ld_out
        row_loss(
            job.loss, rows, layer.n_out, job.output, layer.y + at * ld, ld, target, ldt, job.labels, weight, scale,
            layer.dz + at * ld, ld, job.metric, job.row_losses + row * 8,
            job.right_rows + row * 8 if job.right_rows != 0 else 0, _doubles(job.loss_parameter)[0],
        )  # fmt: skip
        stamp(times, job.n_layers - 1, stamps.LOSS)

    return losses


@jit.inline
def sum_rows(job, first, rows):
    """(loss, right rows) of rows, summed in order."""
    total, right = 0.0, 0.0
    for r in range(first, first + rows):
        total += _doubles(job.row_losses)[r]
        if job.right_rows != 0:
            right += _doubles(job.right_rows)[r]
    return total, right


@jit.inline
def sum_step(job, step):
    """Write the step's loss and its right rows, summed over its rows or over its gradient groups, in order."""
    total, right = 0.0, 0.0
    if job.group_gradients == 0:
        total, right = sum_rows(job, 0, rows_of(job, step))
    else:
        for n in range(groups_of(job, step)):
            total += _doubles(job.group_sums)[2 * n]
            right += _doubles(job.group_sums)[2 * n + 1]
    _doubles(job.sums)[2 * step] = total * _doubles(job.scales)[step]
    _doubles(job.sums)[2 * step + 1] = right
