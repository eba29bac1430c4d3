"""Matmul-bias-activation, forward and backward: the matrix product with what follows it done in registers."""

from types import SimpleNamespace
from typing import Any

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine import job as fields
from kernels.cuda.ir.ptx import VECTOR_BYTES, lanes, scalars, vector_copy, vector_read, vector_write
from kernels.cuda.product.gemm import Tile, gemm

# a, b, c, bias, extra, job, record's number: c (m, n) = f(a @ b + bias), overwritten. bias (n,) or NONE. extra
# (m, n): receives a @ b + bias where its offset is not NONE; with `slope` it is read: c = (a @ b) * f'(extra).
SIGNATURE = "R R R R R I i"


@jit.kernel
def linear(real: Any, tile: Tile, layout: str, aligned: bool, activation: str, slope: bool) -> Any:
    """One block per tile of c; for x.T @ dz, blockIdx.y is the part of the sum along k, blockIdx.z the record.

    aligned: every offset and row stride is a multiple of 16 bytes. activation: f, the identity where the record is not
    ACTIVE. slope: multiply by f'(extra) instead.
    """
    parts = layer(real, tile, layout, aligned, activation, slope)
    run, a_shared, b_shared, rows, columns = parts.run, parts.a_shared, parts.b_shared, tile.rows, tile.columns
    in_parts = layout == "x.T @ dz"

    def function(a, b, c, bias, extra, job, number):
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        at = fields.HEADER + number * fields.RECORD
        if in_parts:
            at += cuda.blockIdx.z * fields.RECORD
        m, k, block = fields.size_of(job, at + fields.M), fields.size_of(job, at + fields.K), cuda.blockIdx.x
        if block // ((job[at + fields.N] + columns - 1) // columns) * rows >= m:  # a last batch, a layer with less
            return
        a_at, b_at, c_at = job[at + fields.A], job[at + fields.B], job[at + fields.C]
        if in_parts:
            first = cuda.blockIdx.y * job[at + fields.CHUNK]
            a_at, b_at = a_at + first * job[at + fields.LDA], b_at + first * job[at + fields.LDB]
            c_at += cuda.blockIdx.y * job[at + fields.SPACING]
            k = min(k - first, job[at + fields.CHUNK])
        run(block, m, k, a, a_at, job[at + fields.LDA], b, b_at, c, c_at, bias, extra, job, at, a_tile, b_tile, c)

    return function, SIGNATURE, tile.threads


def compiled(activation: str) -> str:
    """The activation of a kernel for this one: the identity runs on ReLU's, whose record says that it is not ACTIVE."""
    return "relu" if activation == "identity" else activation


def layer(
    real: Any, tile: Tile, layout: str, aligned: bool, activation: str, slope: bool, keeps: bool = False
) -> SimpleNamespace:
    """What a block does for its tile of a layer.

    run(block, m, k, a, a_at, lda, b, b_at, c, c_at, bias, extra, job, at, a_tile, b_tile, kept): as `linear`, of the
    record at `at`; a_tile (a_shared,) and b_tile (b_shared,) are shared memory. keeps: c goes to `kept` too, shared
    memory with rows kept_stride apart, which may be a itself; and to c only where c_at is not NONE.
    """
    functions = scalars(real)
    f, derivative = getattr(functions, activation), getattr(functions, f"{activation}_slope")
    parts, width = gemm(real, tile, layout, aligned), lanes(real)
    copy, read, write = vector_copy(real), vector_read(real, aligned), vector_write(real, aligned)
    multiply, share, staged_row = parts.multiply, parts.share, parts.staged_row
    rows, columns, thread_rows, threads = tile.rows, tile.columns, tile.thread_rows, tile.threads
    elements, per_row, vectors = thread_rows * tile.thread_columns, columns // width, parts.staged // width
    kept_stride = columns + width

    @jit.inline
    def run(block, m, k, a, a_at, lda, b, b_at, c, c_at, bias, extra, job, at, a_tile, b_tile, kept):
        n, thread = job[at + fields.N], cuda.threadIdx.x
        across = (n + columns - 1) // columns
        i0, j0 = block // across * rows, block % across * columns
        registers = cuda.local.array(elements, real)
        multiply(block, m, n, k, a, a_at, lda, b, b_at, job[at + fields.LDB], a_tile, b_tile, registers)
        values, saved = cuda.local.array(width, real), cuda.local.array(width, real)
        bias_at, extra_at, active = job[at + fields.BIAS], job[at + fields.EXTRA], job[at + fields.ACTIVE] != 0
        for r in range(min(thread_rows, m)):  # row m and later ones are nobody's
            share(r, registers, b_tile)
            cuda.syncthreads()
            for v in range(thread, vectors, threads):
                row, j = staged_row(v // per_row, r), j0 + v % per_row * width
                i = i0 + row
                left = n - j if i < m else 0
                if left > 0:
                    copy(values, 0, b_tile, v * width)
                    at_extra = extra_at + i * job[at + fields.LD_EXTRA] + j
                    if slope:
                        read(extra, at_extra, left, saved, 0)
                        for q in range(width):
                            values[q] *= derivative(saved[q])
                    else:
                        if bias_at != fields.NONE:
                            read(bias, bias_at + j, left, saved, 0)
                            for q in range(width):
                                values[q] += saved[q]
                        if extra_at != fields.NONE:
                            write(extra, at_extra, left, values)
                        if active:
                            for q in range(width):
                                values[q] = f(values[q])
                    if not keeps or c_at != fields.NONE:
                        write(c, c_at + i * job[at + fields.LDC] + j, left, values)
                    if keeps:
                        copy(kept, row * kept_stride + j, values, 0)
            cuda.syncthreads()

    return SimpleNamespace(run=run, a_shared=parts.a_shared, b_shared=parts.b_shared, kept_stride=kept_stride)
