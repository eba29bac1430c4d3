"""Losses and their gradients with respect to what the last product made, fused with the output activation.

A row is taken by a thread or by a block, see kernels.cuda.rowwise.row_reductions.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Code, Data, Index, Offset, Real, Size, Stride
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import job_of, numbers_of, rows_of
from kernels.cuda.rowwise.reduce import block_sum
from kernels.cuda.rowwise.row_reductions import block_threads, row_parts
from kernels.engine.codes import IDENTITY, NO_METRIC, SIGMOID, SOFTMAX
from kernels.losses import LOSSES, Loss


class RowLoss(Protocol):
    """The loss of z (rows, columns) and dz, its gradient times the step's scale, overwritten.

    target: (n, columns), or int64 labels (n,). weight: one per row of the data, where the job is weighted. results
    receives weight * row loss and, with a metric, from `right` on 1 for each row that is right.
    """

    def __call__(
        self, z: Array[Real], dz: Array[Real], target: Array[Data], order: Array[Index], weight: Array[Real],
        numbers: Array[Real], results: Array[Real], words: Array[int],
    ) -> None: ...  # fmt: skip


def _softmax_cross_entropy(declared: Loss, real: Any, threads: int, target_type: str, labels: bool) -> Any:
    """-sum_o t log softmax(z): through log-sum-exp, dz = softmax(z) * sum(t) - t.

    The parameter is what all outputs share of a row's targets in equal parts. Of a row whose label is none of the
    columns the loss is NaN and dz is 0.
    """
    f = row_parts(real, threads)
    place, finish, largest_value, largest, total_of, exp = f.place, f.finish, f.largest_value, f.largest, f.sum, f.exp
    row_number, lane = f.row_number, f.lane
    zero, one, nothing = real(0.0), real(1.0), real(math.nan)

    def function(z, dz, target, order, weight, numbers, results, words):
        job = job_of(words)
        if row_number() >= rows_of(job):
            return
        shared = cuda.shared.array(threads, real)
        n, thread = job.columns, lane()
        row, z_at, dz_at, t_at, w, s = place(order, weight, numbers, job)
        smoothing = numbers_of(numbers, job).parameter
        kept, spread = one - smoothing, smoothing / real(n)
        top = largest_value(shared, z, z_at, n)
        mass, dot, label, right = one, zero, 0, one
        if labels:
            label = target[row]
            if smoothing != zero:
                for j in range(thread, n, threads):
                    dot += z[z_at + j] - top
                dot = spread * total_of(shared, dot)
            if label < 0 or label >= n:
                dot, s = nothing, zero
            else:
                dot += kept * (z[z_at + label] - top)
            if job.metric != NO_METRIC and largest(shared, z, z_at, n, top) != real(label):
                right = zero
        else:
            mass = zero
            for j in range(thread, n, threads):
                t = kept * real(target[t_at + j]) + spread
                mass += t
                if t != zero:
                    dot += t * (z[z_at + j] - top)
            mass, dot = total_of(shared, mass), total_of(shared, dot)
            if job.metric != NO_METRIC:
                right = f_right(shared, z, z_at, n, target, t_at, job.metric, zero)
        part = zero
        for j in range(thread, n, threads):
            part += exp(z[z_at + j] - top)
        total = total_of(shared, part)
        factor = mass * s / total
        for j in range(thread, n, threads):
            t = kept * ((one if j == label else zero) if labels else real(target[t_at + j])) + spread
            dz[dz_at + j] = exp(z[z_at + j] - top) * factor - s * t
        finish(results, job, w * (mass * real(math.log(total)) - dot), right)

    f_right = f.right
    return function, block_threads(threads), target_type


def _each_output(declared: Loss, real: Any, threads: int, target_type: str, labels: bool) -> Any:
    """The mean or sum over outputs of what the loss's rule says."""
    f, mean = row_parts(real, threads), declared.mean
    place, finish, total_of, is_right, of_output = f.place, f.finish, f.sum, f.right, f.maths.rule(declared.rule)
    row_number, lane = f.row_number, f.lane
    zero, one = real(0.0), real(1.0)

    def function(z, dz, target, order, weight, numbers, results, words):
        job = job_of(words)
        if row_number() >= rows_of(job):
            return
        shared = cuda.shared.array(threads, real)
        n, thread = job.columns, lane()
        _, z_at, dz_at, t_at, w, s = place(order, weight, numbers, job)
        parameter = numbers_of(numbers, job).parameter
        right = one
        if job.metric != NO_METRIC:
            right = is_right(shared, z, z_at, n, target, t_at, job.metric, zero)
        factor = s / real(n) if mean else s
        value = zero
        for j in range(thread, n, threads):
            loss, slope = of_output(z[z_at + j], real(target[t_at + j]), parameter)
            value += loss
            dz[dz_at + j] = factor * slope
        value = total_of(shared, value)
        if mean:
            value = value / real(n)
        finish(results, job, w * value, right)

    return function, block_threads(threads), target_type


def _squared_error(declared: Loss, real: Any, threads: int, target_type: str, labels: bool) -> Any:
    """The mean or sum over outputs of (y - t)^2, y = the output activation of z; dz through its derivative."""
    f, mean = row_parts(real, threads), declared.mean
    place, finish, largest_value, total_of, is_right = f.place, f.finish, f.largest_value, f.sum, f.right
    row_number, lane = f.row_number, f.lane
    activate, exp, zero, half, one, two = f.activate, f.exp, real(0.0), real(0.5), real(1.0), real(2.0)

    def function(z, dz, target, order, weight, numbers, results, words):
        job = job_of(words)
        if row_number() >= rows_of(job):
            return
        shared = cuda.shared.array(threads, real)
        n, thread, output = job.columns, lane(), job.output
        _, z_at, dz_at, t_at, w, s = place(order, weight, numbers, job)
        right = one
        if job.metric != NO_METRIC:
            threshold = half if output == IDENTITY else zero
            right = is_right(shared, z, z_at, n, target, t_at, job.metric, threshold)
        factor = two * s
        if mean:
            factor = factor / real(n)
        top, total = zero, one
        if output == SOFTMAX:
            top, part = largest_value(shared, z, z_at, n), zero
            for j in range(thread, n, threads):
                part += exp(z[z_at + j] - top)
            total = total_of(shared, part)
        value, dot = zero, zero
        for j in range(thread, n, threads):
            y = activate(output, z[z_at + j], top, total)
            error = y - real(target[t_at + j])
            value += error * error
            dot += factor * error * y
        value = total_of(shared, value)
        if output == SOFTMAX:
            dot = total_of(shared, dot)
        for j in range(thread, n, threads):
            y = activate(output, z[z_at + j], top, total)
            slope = factor * (y - real(target[t_at + j]))
            if output == SOFTMAX:
                slope = y * (slope - dot)
            elif output == SIGMOID:
                slope = slope * (y * (one - y))
            dz[dz_at + j] = slope
        if mean:
            value = value / real(n)
        finish(results, job, w * value, right)

    return function, block_threads(threads), target_type


_FACTORIES = {  # by Loss.kernel
    "": _each_output,
    "softmax_cross_entropy": _softmax_cross_entropy,
    "squared_error": _squared_error,
}

losses: dict[str, Callable[..., jit.Kernel]] = {}  # by name, also those that programs declare later


def _follow(name: str, declared: Loss) -> None:
    def factory(real: Any, threads: int, target_type: str, labels: bool) -> Any:
        return _FACTORIES[declared.kernel](declared, real, threads, target_type, labels)

    losses[name] = jit.kernel(like=RowLoss, name=f"loss_{name}", stamp=declared.stamp)(factory)


LOSSES.follow(_follow)


@jit.kernel
def output(real: Any, threads: int) -> Any:
    """y (rows, n) = the output activation of z, overwritten; y may be z where that is not softmax."""
    f = row_parts(real, threads)
    largest_value, total_of, activate, exp, zero, one = f.largest_value, f.sum, f.activate, f.exp, real(0.0), real(1.0)
    row_number, lane = f.row_number, f.lane

    def function(
        z: Array[Real], y: Array[Real], code: Code, rows: Size, n: Size,
        z_first: Offset, ldz: Stride, y_first: Offset, ldy: Stride,
    ) -> None:  # fmt: skip
        shared = cuda.shared.array(threads, real)
        thread, row = lane(), row_number()
        if row >= rows:
            return
        z_at, y_at = z_first + row * ldz, y_first + row * ldy
        top, total = zero, one
        if code == SOFTMAX:
            top, part = largest_value(shared, z, z_at, n), zero
            for j in range(thread, n, threads):
                part += exp(z[z_at + j] - top)
            total = total_of(shared, part)
        for j in range(thread, n, threads):
            y[y_at + j] = activate(code, z[z_at + j], top, total)

    return function, block_threads(threads)


@jit.kernel
def step_sums(real: Any, threads: int) -> Any:
    """sums[2 step] = the step's loss, sums[2 step + 1] = its right rows, of the rows' results.

    Advances the job to the next step. parts: decay_parts partial sums of squared weights. One block.
    """
    total_of, zero, half = block_sum(threads), real(0.0), real(0.5)

    def function(
        results: Array[Real], parts: Array[Real], numbers: Array[Real], sums: Array[Real], words: Array[int]
    ) -> None:
        shared, job = cuda.shared.array(threads, real), job_of(words)
        thread, step, rows = cuda.threadIdx.x, job.step, rows_of(job)
        loss, right, squares = zero, zero, zero
        for i in range(thread, rows, threads):
            loss += results[i]
            if job.metric != NO_METRIC:
                right += results[job.right + i]
        for i in range(thread, job.decay_parts, threads):
            squares += parts[i]
        loss, right, squares = total_of(shared, loss), total_of(shared, right), total_of(shared, squares)
        if thread == 0:
            of_step = numbers_of(numbers, job)
            scale = of_step.scale
            value = half * of_step.decay * squares
            sums[2 * step] = (scale * loss if scale != zero else zero) + value
            sums[2 * step + 1] = right
            job.step = step + job.advance

    return function, threads
