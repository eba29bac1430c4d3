"""Batch normalisation: each column by its mean and variance, of the batch or the running ones."""

from collections.abc import Callable
from typing import Any

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.engine.job import LayerRecord, input_of, job_at, layer_of, pre_activations_of, start_of
from kernels.cpu.engine.layers import normalization
from kernels.cpu.engine.layers.layer import Backward, Forward, LayerKernels, derivative_of, outputs_of
from kernels.cpu.ir import floats, memory
from kernels.cpu.ir.instruction_sets import itemsize
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp
from kernels.deferred import types
from kernels.layers.batch_norm import BatchNorm

ROOM = 8 * tuning.NORM_COLUMNS  # bytes, for a number of each column


def _statistics(real: Any) -> Callable[..., Any]:
    """A function: means and variances of columns over rows, summed in float64; the room for them is given.

    x: the address of the first row's first column.
    """
    elements, zero = memory.pointer(real), 0.0

    @jit.inline
    def statistics(x, ldx, rows, columns, means, variances):
        for j in range(columns):
            means[j] = zero
            variances[j] = zero
        for r in range(rows):
            source = elements(x + r * ldx)
            for j in range(columns):
                means[j] += types.float64(source[j])
        for j in range(columns):
            means[j] /= rows
        for r in range(rows):
            source = elements(x + r * ldx)
            for j in range(columns):
                away = types.float64(source[j]) - means[j]
                variances[j] += away * away
        for j in range(columns):
            variances[j] /= rows

    return statistics


@jit.kernel(like=Forward, name="batch_norm_forward")
def forward(real: Any) -> Callable[..., Any]:
    """z = gamma * (x - mean) / deviation + beta, then what follows it.

    By the batch's statistics all its rows are done at once, for at most NORM_COLUMNS columns; the running statistics
    then move towards these where the job learns.
    """
    size, elements, finish, one = itemsize(real), memory.pointer(real), outputs_of(real), real(1.0)
    doubles, sqrt, statistics = memory.pointer(types.float64), floats.bits(real).sqrt, _statistics(real)
    sqrt_of_double = floats.bits(types.float64).sqrt

    @jit.inline
    def take_batch(layer, x, ldx, rows, first, columns, keeps, means, variances):
        """The batch's statistics, the scales by them, and the running ones."""
        statistics(x, ldx, rows, columns, means, variances)
        scales, mean, variance = (
            elements(layer.scale + first * size), elements(layer.mean + first * size),
            elements(layer.variance + first * size),
        )  # fmt: skip
        for j in range(columns):
            scales[j] = real(1.0 / sqrt_of_double(variances[j] + layer.epsilon))
        if keeps != 0 and rows > 1:  # one row tells nothing of a variance
            momentum, unbiased = layer.momentum, rows / (rows - 1)
            for j in range(columns):
                mean[j] = real(mean[j] + momentum * (means[j] - mean[j]))
                variance[j] = real(variance[j] + momentum * (variances[j] * unbiased - variance[j]))

    def function(job, n, at, step, row, rows, first, columns, times):
        record = job_at(job)
        layer = layer_of(record, n)
        x, ldx = input_of(record, layer, n, at, start_of(record, step) + row)
        x, begin = x + first * size, at * layer.ld_out + first * size
        z, ldz = pre_activations_of(layer, at, first * size)
        gamma, beta = elements(layer.w + first * size), elements(layer.b + first * size)
        if record.by_batch != 0:
            means, variances = doubles(memory.stack(ROOM)), doubles(memory.stack(ROOM))
            take_batch(layer, x, ldx, rows, first, columns, record.keeps, means, variances)
            scales = elements(layer.scale + first * size)
            for r in range(rows):
                source, target = elements(x + r * ldx), elements(z + r * ldz)
                normal = elements(layer.normal + begin + r * layer.ld_out)
                for j in range(columns):
                    normal[j] = (source[j] - real(means[j])) * scales[j]
                    target[j] = gamma[j] * normal[j] + beta[j]
        else:
            mean, variance = elements(layer.mean + first * size), elements(layer.variance + first * size)
            epsilon = real(layer.epsilon)
            for r in range(rows):
                source, target = elements(x + r * ldx), elements(z + r * ldz)
                for j in range(columns):
                    target[j] = gamma[j] * ((source[j] - mean[j]) * (one / sqrt(variance[j] + epsilon))) + beta[j]
        stamp(times, n, stamps.FORWARD)
        finish(record, layer, n, at, step, row, rows, first, columns, z, ldz, times)

    return function


@jit.kernel(like=Backward, name="batch_norm_backward")
def backward(real: Any) -> Callable[..., Any]:
    """dx = gamma * (dz - mean(dz) - normal * mean(dz * normal)) / deviation, then what lies below.

    The means are over all rows of the batch, which are done at once, for at most NORM_COLUMNS columns.
    """
    size, elements, back = itemsize(real), memory.pointer(real), derivative_of(real)
    doubles = memory.pointer(types.float64)

    def function(job, n, at, step, row, rows, first, columns, times):
        record = job_at(job)
        layer, below = layer_of(record, n), layer_of(record, n - 1)
        begin, dx = at * layer.ld_out + first * size, below.dz + at * below.ld_out + first * size
        mean, along = doubles(memory.stack(ROOM)), doubles(memory.stack(ROOM))
        gamma, scales = elements(layer.w + first * size), elements(layer.scale + first * size)
        for j in range(columns):
            mean[j] = 0.0
            along[j] = 0.0
        for r in range(rows):
            dz, normal = (
                elements(layer.dz + begin + r * layer.ld_out),
                elements(layer.normal + begin + r * layer.ld_out),
            )
            for j in range(columns):
                mean[j] += types.float64(dz[j])
                along[j] += types.float64(dz[j] * normal[j])
        for j in range(columns):
            mean[j] /= rows
            along[j] /= rows
        for r in range(rows):
            dz, normal = (
                elements(layer.dz + begin + r * layer.ld_out),
                elements(layer.normal + begin + r * layer.ld_out),
            )
            d = elements(dx + r * below.ld_out)
            for j in range(columns):
                d[j] = (dz[j] - real(mean[j]) - normal[j] * real(along[j])) * (gamma[j] * scales[j])
        stamp(times, n, stamps.DX)
        back(record, below, n - 1, at, step, row, rows, first, columns, dx, times)

    return function


def _describe(record: LayerRecord, layer: BatchNorm) -> None:
    normalization.describe(record, layer)
    record.momentum = layer.momentum


def _buffers(rows: int, stride: int) -> dict[str, int]:
    return {"normal": rows * stride, "scale": stride}


KERNELS = LayerKernels(forward, backward, normalization.gradient, _describe, _buffers, normalization.work)
