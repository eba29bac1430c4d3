"""Matmul-bias-activation, forward and backward: the matrix product with what follows it done in registers."""

from types import SimpleNamespace
from typing import Any

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine.job import NONE, PRODUCT_WORDS, job_of, product_at, size_of
from kernels.cuda.ir.ptx import VECTOR_BYTES, lanes, scalars, vector_copy, vector_read, vector_write
from kernels.cuda.product.gemm import Tile, gemm

# a, b, c, bias, extra, words, at: c (m, n) = f(a @ b + bias), overwritten, as the Product at words[at] says. bias (n,)
# or NONE. extra (m, n): receives a @ b + bias where it is not NONE; with `slope` it is read: c = (a @ b) * f'(extra).
SIGNATURE = "R R R R R I i"


@jit.kernel
def linear(real: Any, tile: Tile, layout: str, aligned: bool, activation: str, slope: bool) -> Any:
    """One block per tile of c; for x.T @ dz, blockIdx.y is the part of the sum along k, blockIdx.z the product.

    aligned: every offset and row stride is a multiple of 16 bytes. activation: f, the identity where the product is not
    active. slope: multiply by f'(extra) instead.
    """
    parts = layer(real, tile, layout, aligned, activation, slope)
    run, a_shared, b_shared, rows, columns = parts.run, parts.a_shared, parts.b_shared, tile.rows, tile.columns
    in_parts = layout == "x.T @ dz"

    def function(a, b, c, bias, extra, words, at):
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        if in_parts:
            at += cuda.blockIdx.z * PRODUCT_WORDS
        job, product = job_of(words), product_at(words, at)
        m, k, block = size_of(job, product.m), size_of(job, product.k), cuda.blockIdx.x
        if block // ((product.n + columns - 1) // columns) * rows >= m:  # a last batch, a layer with less
            return
        a_at, b_at, c_at = product.a, product.b, product.c
        if in_parts:
            first = cuda.blockIdx.y * product.chunk
            a_at, b_at = a_at + first * product.a_row, b_at + first * product.b_row
            c_at += cuda.blockIdx.y * product.spacing
            k = min(k - first, product.chunk)
        run(block, m, k, a, a_at, product.a_row, b, b_at, c, c_at, bias, extra, product, a_tile, b_tile, c)

    return function, SIGNATURE, tile.threads


def compiled(activation: str) -> str:
    """The activation of a kernel for this one: the identity runs on ReLU's, where the product is not active."""
    return "relu" if activation == "identity" else activation


def layer(
    real: Any, tile: Tile, layout: str, aligned: bool, activation: str, slope: bool, keeps: bool = False
) -> SimpleNamespace:
    """What a block does for its tile of a layer.

    run(block, m, k, a, a_at, lda, b, b_at, c, c_at, bias, extra, product, a_tile, b_tile, kept): as `linear`; a_tile
    (a_shared,) and b_tile (b_shared,) are shared memory. keeps: c goes to `kept` too, shared
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
    def run(block, m, k, a, a_at, lda, b, b_at, c, c_at, bias, extra, product, a_tile, b_tile, kept):
        n, thread = product.n, cuda.threadIdx.x
        across = (n + columns - 1) // columns
        i0, j0 = block // across * rows, block % across * columns
        registers = cuda.local.array(elements, real)
        multiply(block, m, n, k, a, a_at, lda, b, b_at, product.b_row, a_tile, b_tile, registers)
        values, saved = cuda.local.array(width, real), cuda.local.array(width, real)
        bias_at, extra_at, active = product.bias, product.extra, product.active != 0
        for r in range(min(thread_rows, m)):  # row m and later ones are nobody's
            share(r, registers, b_tile)
            cuda.syncthreads()
            for v in range(thread, vectors, threads):
                row, j = staged_row(v // per_row, r), j0 + v % per_row * width
                i = i0 + row
                left = n - j if i < m else 0
                if left > 0:
                    copy(values, 0, b_tile, v * width)
                    at_extra = extra_at + i * product.extra_row + j
                    if slope:
                        read(extra, at_extra, left, saved, 0)
                        for q in range(width):
                            values[q] *= derivative(saved[q])
                    else:
                        if bias_at != NONE:
                            read(bias, bias_at + j, left, saved, 0)
                            for q in range(width):
                                values[q] += saved[q]
                        if extra_at != NONE:
                            write(extra, at_extra, left, values)
                        if active:
                            for q in range(width):
                                values[q] = f(values[q])
                    if not keeps or c_at != NONE:
                        write(c, c_at + i * product.c_row + j, left, values)
                    if keeps:
                        copy(kept, row * kept_stride + j, values, 0)
            cuda.syncthreads()

    return SimpleNamespace(run=run, a_shared=parts.a_shared, b_shared=parts.b_shared, kept_stride=kept_stride)
