"""Layer normalisation: each row by its own mean and variance."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import jit
from kernels.cpu.engine.job import input_of, job_at, layer_of, pre_activations_of, start_of
from kernels.cpu.engine.layers.layer import Backward, Forward, LayerKernels, derivative_of, outputs_of
from kernels.cpu.engine.layers.normalization import describe, gradient, work
from kernels.cpu.ir import floats, memory
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp

SUMS = 16  # partial ones, each of every 16th column: whole vectors are added
ROOM = 8 * SUMS  # bytes


def _sums(real: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Functions (x, y, columns, partial): the sum of x over columns, and of x * y; partial: room for SUMS numbers."""

    @jit.plain
    def first(a, b):
        return a

    @jit.plain
    def both(a, b):
        return a * b

    return _sum_of(real, first), _sum_of(real, both)


def _sum_of(real: Any, term: Callable[..., Any]) -> Callable[..., Any]:
    """A function (x, y, columns, partial): the sum of term(x, y) over columns."""
    zero = real(0.0)

    @jit.inline
    def total_of(x, y, columns, partial):
        for k in range(SUMS):
            partial[k] = zero
        whole = columns // SUMS * SUMS
        for j in range(0, whole, SUMS):
            for k in range(SUMS):
                partial[k] += term(x[j + k], y[j + k])
        total = zero
        for j in range(whole, columns):
            total += term(x[j], y[j])
        for k in range(SUMS):
            total += partial[k]
        return total

    return total_of


@jit.kernel(like=Forward, name="layer_norm_forward")
def forward(real: Any) -> Callable[..., Any]:
    """z = gamma * (x - mean) / deviation + beta, then what follows it; all columns of a row at once."""
    elements, finish, one, sqrt = memory.pointer(real), outputs_of(real), real(1.0), floats.bits(real).sqrt
    sum_of, dot = _sums(real)

    def function(job, n, at, step, row, rows, first, columns, times):
        record = job_at(job)
        layer = layer_of(record, n)
        x, ldx = input_of(record, layer, n, at, start_of(record, step) + row)
        z, ldz = pre_activations_of(layer, at, 0)
        partial, gamma, beta = elements(memory.stack(ROOM)), elements(layer.w), elements(layer.b)
        scales, epsilon, share = elements(layer.scale), real(layer.epsilon), one / real(columns)
        for r in range(rows):
            source, target = elements(x + r * ldx), elements(z + r * ldz)
            normal = elements(layer.normal + (at + r) * layer.ld_out)
            mean = sum_of(source, source, columns, partial) * share
            for j in range(columns):
                normal[j] = source[j] - mean
            rest = (
                sum_of(normal, normal, columns, partial) * share
            )  # of the mean, which was rounded: a row of equals gives 0
            for j in range(columns):
                normal[j] -= rest
            scale = one / sqrt(dot(normal, normal, columns, partial) * share + epsilon)
            scales[at + r] = scale
            for j in range(columns):
                normal[j] = normal[j] * scale
                target[j] = gamma[j] * normal[j] + beta[j]
        stamp(times, n, stamps.FORWARD)
        finish(record, layer, n, at, step, row, rows, 0, columns, z, ldz, times)

    return function


@jit.kernel(like=Backward, name="layer_norm_backward")
def backward(real: Any) -> Callable[..., Any]:
    """dx = (d - mean(d) - normal * mean(d * normal)) / deviation with d = dz * gamma, then what lies below."""
    elements, back, one = memory.pointer(real), derivative_of(real), real(1.0)
    sum_of, dot = _sums(real)

    def function(job, n, at, step, row, rows, first, columns, times):
        record = job_at(job)
        layer, below = layer_of(record, n), layer_of(record, n - 1)
        partial, gamma = elements(memory.stack(ROOM)), elements(layer.w)
        scales, share, dx = elements(layer.scale), one / real(columns), below.dz + at * below.ld_out
        for r in range(rows):
            begin = (at + r) * layer.ld_out
            dz, normal, d = elements(layer.dz + begin), elements(layer.normal + begin), elements(dx + r * below.ld_out)
            for j in range(columns):
                d[j] = dz[j] * gamma[j]
            mean, along = sum_of(d, d, columns, partial) * share, dot(d, normal, columns, partial) * share
            scale = scales[at + r]
            for j in range(columns):
                d[j] = (d[j] - mean - normal[j] * along) * scale
        stamp(times, n, stamps.DX)
        back(record, below, n - 1, at, step, row, rows, 0, columns, dx, times)

    return function


def _buffers(rows: int, stride: int) -> dict[str, int]:
    return {"normal": rows * stride, "scale": rows}


KERNELS = LayerKernels(forward, backward, gradient, describe, _buffers, work)
