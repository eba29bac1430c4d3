"""Matmul-bias-activation, forward and backward: the matrix product with what follows it done in registers."""

from typing import Any

from .. import scalar
from . import jit
from . import job as fields
from .gemm import Tile, gemm
from .jit import cuda
from .ptx import float_bits, lanes, vector_copy

# a, b, c, bias, extra, job, record's number, step: c (m, n) = f(a @ b + bias), overwritten. bias (n,) or NONE. extra
# (m, n): receives a @ b + bias where its offset is not NONE; with `slope_of` it is read: c = (a @ b) * f'(extra).
SIGNATURE = "R R R R R I i i"


@jit.kernel
def linear(real: Any, tile: Tile, layout: str, aligned: bool, activation: str, slope: bool) -> Any:
    """One block per tile of c. aligned: every offset and row stride is a multiple of 16 bytes.

    activation: f; the identity is ReLU where the record says so. slope: multiply by f'(extra) instead.
    """
    scalars = scalar.functions(real, jit.inline, float_bits(real))
    f, derivative = getattr(scalars, activation), getattr(scalars, f"{activation}_slope")
    parts, copy, width, zero = gemm(real, tile, layout, aligned), vector_copy(real), lanes(real), real(0.0)
    multiply, share, staged_row, staged_rows = parts.multiply, parts.share, parts.staged_row, parts.staged_rows
    rows, columns, thread_rows, threads = tile.rows, tile.columns, tile.thread_rows, tile.threads
    elements, staged, per_row = thread_rows * tile.thread_columns, staged_rows * columns, columns // width
    vectors, plain = staged // width, activation == "identity"

    @jit.inline
    def read(source, at, left, values):
        if aligned and left >= width:
            copy(values, 0, source, at)
        else:
            for q in range(width):
                values[q] = source[at + q] if q < left else zero

    @jit.inline
    def write(target, at, left, values):
        if aligned and left >= width:
            copy(target, at, values, 0)
        else:
            for q in range(width):
                if q < left:
                    target[at + q] = values[q]

    def function(a, b, c, bias, extra, job, number, step):
        at = fields.HEADER + number * fields.RECORD
        m, k = fields.size_of(job, at + fields.M, step), fields.size_of(job, at + fields.K, step)
        n = job[at + fields.N]
        blocks_across = (n + columns - 1) // columns
        block, thread = cuda.blockIdx.x, cuda.threadIdx.x
        i0, j0 = block // blocks_across * rows, block % blocks_across * columns
        if i0 >= m:  # a last batch that is smaller
            return
        registers = cuda.local.array(elements, real)
        a_at, lda, b_at, ldb = job[at + fields.A], job[at + fields.LDA], job[at + fields.B], job[at + fields.LDB]
        multiply(block, m, n, k, a, a_at, lda, b, b_at, ldb, registers)
        values, saved = cuda.local.array(width, real), cuda.local.array(width, real)
        tile = cuda.shared.array(staged, real)
        bias_at, extra_at, relu = job[at + fields.BIAS], job[at + fields.EXTRA], job[at + fields.RELU] != 0
        for r in range(min(thread_rows, m)):  # row m and later ones are nobody's
            share(r, registers, tile)
            cuda.syncthreads()
            for v in range(thread, vectors, threads):
                i, j = i0 + staged_row(v // per_row, r), j0 + v % per_row * width
                left = n - j if i < m else 0
                if left > 0:
                    copy(values, 0, tile, v * width)
                    at_extra = extra_at + i * job[at + fields.LD_EXTRA] + j
                    if slope:
                        read(extra, at_extra, left, saved)
                        for q in range(width):
                            values[q] *= derivative(saved[q])
                    else:
                        if bias_at != fields.NONE:
                            read(bias, bias_at + j, left, saved)
                            for q in range(width):
                                values[q] += saved[q]
                        if extra_at != fields.NONE:
                            write(extra, at_extra, left, values)
                        for q in range(width):
                            if not plain:
                                values[q] = f(values[q])
                            elif relu and values[q] < zero:
                                values[q] = zero
                    write(c, job[at + fields.C] + i * job[at + fields.LDC] + j, left, values)
            cuda.syncthreads()

    return function, SIGNATURE, tile.threads
