"""Matmul-bias-activation, forward and backward: the matrix product with what follows it done in registers."""

from typing import Any, NamedTuple

from kernels.activations import ACTIVATIONS, Activation
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Offset, Real
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import PRODUCT_WORDS, job_of, product_at, rows_of
from kernels.cuda.ir.ptx import VECTOR_BYTES, lanes, maths_of, vector_copy, vector_read, vector_write
from kernels.cuda.product.blocks import Matrix, Shared, Sizes, Tile
from kernels.cuda.product.gemm import gemm


@jit.kernel
def linear(real: Any, tile: Tile, layout: str, aligned: bool, activation: Activation, slope: bool) -> Any:
    """c (m, n) = f(a @ b + bias), overwritten, as the Product at words[at] says.

    bias (n,): where the product is biased. extra (m, n): receives a @ b + bias where the product is with_extra; with
    `slope` it is read: c = (a @ b) * f'(extra).

    One block per tile of c; for x.T @ dz, blockIdx.y is the part of the sum along k, blockIdx.z the product.

    aligned: every offset and row stride is a multiple of 16 bytes. activation: f, the identity where the product is not
    active. slope: multiply by f'(extra) instead.
    """
    of_block, rows, columns = layer(real, tile, layout, aligned, activation, slope), tile.rows, tile.columns
    run, a_shared, b_shared = of_block.run, of_block.a_shared, of_block.b_shared
    in_parts = layout == "x.T @ dz"

    def function(
        a: Array[Real], b: Array[Real], c: Array[Real], bias: Array[Real], extra: Array[Real],
        words: Array[int], at: Offset,
    ) -> None:  # fmt: skip
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        if in_parts:
            at += cuda.blockIdx.z * PRODUCT_WORDS
        job, product = job_of(words), product_at(words, at)
        m = rows_of(job) if product.m_of_batch != 0 else product.m
        k = rows_of(job) if product.k_of_batch != 0 else product.k
        block = cuda.blockIdx.x
        if block // ((product.n + columns - 1) // columns) * rows >= m:  # a last batch, a layer with less
            return
        a_at, b_at, c_at = product.a, product.b, product.c
        if in_parts:
            first = cuda.blockIdx.y * product.chunk
            a_at, b_at = a_at + first * product.a_row, b_at + first * product.b_row
            c_at += cuda.blockIdx.y * product.spacing
            k = min(k - first, product.chunk)
        run(
            block, Sizes(m, product.n, k), Matrix(a, a_at, product.a_row), Matrix(b, b_at, product.b_row),
            Matrix(c, c_at, product.c_row), bias, extra, product, Shared(a_tile, b_tile), c,
        )  # fmt: skip

    return function, tile.threads


def compiled(activation: Activation) -> Activation:
    """The activation of a kernel for this one: the identity runs on ReLU's, where the product is not active."""
    return ACTIVATIONS["relu"] if activation.is_identity else activation


class Layer(NamedTuple):
    """What a block does for its tile of a layer.

    run(block, sizes, a, b, c, bias, extra, product, shared, kept): as `linear`, of the Matrix a, b and c. bias
    and extra are the arrays in which the product has its own.
    """

    run: Any
    a_shared: int
    b_shared: int
    kept_row: int


def layer(
    real: Any, tile: Tile, layout: str, aligned: bool, activation: Activation, slope: bool, keeps: bool = False
) -> Layer:
    """See Layer. keeps: c goes to `kept` too, shared memory with rows kept_row apart, which may be a's; and to c only
    where the product is stored.
    """
    maths = maths_of(real)
    f, derivative = maths.rule(activation.function), maths.rule(activation.slope)
    parts, width = gemm(real, tile, layout, aligned), lanes(real)
    copy, read, write = vector_copy(real), vector_read(real, aligned), vector_write(real, aligned)
    multiply, stage, staged_row = parts.multiply, parts.stage, parts.staged_row
    rows, columns, thread_rows, threads = tile.rows, tile.columns, tile.thread_rows, tile.threads
    elements, per_row, vectors = thread_rows * tile.thread_columns, columns // width, parts.staged // width
    kept_row = columns + width

    @jit.inline
    def run(block, sizes, a, b, c, bias, extra, product, shared, kept):
        m, n, thread = sizes.m, sizes.n, cuda.threadIdx.x
        across = (n + columns - 1) // columns
        i0, j0 = block // across * rows, block % across * columns
        registers = cuda.local.array(elements, real)
        multiply(block, sizes, a, b, shared, registers)
        values, saved = cuda.local.array(width, real), cuda.local.array(width, real)
        bias_at, extra_at, active = product.bias, product.extra, product.active != 0
        biased, with_extra, stored = product.biased != 0, product.with_extra != 0, product.stored != 0
        for r in range(min(thread_rows, m)):  # row m and later ones are nobody's
            stage(r, registers, shared.b)
            cuda.syncthreads()
            for v in range(thread, vectors, threads):
                row, j = staged_row(v // per_row, r), j0 + v % per_row * width
                i = i0 + row
                left = n - j if i < m else 0
                if left > 0:
                    copy(values, 0, shared.b, v * width)
                    at_extra = extra_at + i * product.extra_row + j
                    if slope:
                        read(extra, at_extra, left, saved, 0)
                        for q in range(width):
                            values[q] *= derivative(saved[q])
                    else:
                        if biased:
                            read(bias, bias_at + j, left, saved, 0)
                            for q in range(width):
                                values[q] += saved[q]
                        if with_extra:
                            write(extra, at_extra, left, values)
                        if active:
                            for q in range(width):
                                values[q] = f(values[q])
                    if not keeps or stored:
                        write(c.array, c.at + i * c.row + j, left, values)
                    if keeps:
                        copy(kept, row * kept_row + j, values, 0)
            cuda.syncthreads()

    return Layer(run, parts.a_shared, parts.b_shared, kept_row)
