"""Networks with narrow layers: all layers of a batch in one launch, with the activations in shared memory.

A block takes the rows of a tile that is as wide as the widest layer, through all layers: what one layer makes of them
is the next one's input, and leaves the multiprocessor only where the gradient needs it. The sums are those of `linear`,
bit for bit.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.activations import Activation
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Data, Index, Offset, Real
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import PRODUCT_WORDS, PRODUCTS, job_of, product_at, row_of, rows_of
from kernels.cuda.ir.ptx import VECTOR_BYTES
from kernels.cuda.product.blocks import Matrix, Shared, Sizes, Tile
from kernels.cuda.product.linear import layer


def tile_for(widths: Sequence[int], rows: int, dtype: np.dtype, processors: int) -> Tile | None:
    """The tile for a network of these widths, or None for one that is too wide, or a single layer."""
    fitting = [tile for tile in tuning.NARROW_TILES[dtype.name] if tile.columns >= max(widths[1:])]
    if len(widths) < 3 or not fitting:
        return None
    fitting = [tile for tile in fitting if tile.columns == fitting[0].columns]
    return next((tile for tile in fitting if tile.blocks(rows, 1) >= processors), fitting[-1])


class _Parts(NamedTuple):
    """What both kernels here do with a tile.

    run(rows, product, a, work, parameters, shared, kept): a layer, from the Matrix a; what the product has of c and of
    extra is in work.
    """

    run: Any
    a_shared: int
    b_shared: int
    kept_shared: int
    kept_row: int


def _parts(real: Any, tile: Tile, layout: str, activation: Activation, slope: bool) -> _Parts:
    of_block = layer(real, tile, layout, True, activation, slope, keeps=True)
    run_layer = of_block.run

    @jit.inline
    def run(m, product, a, work, parameters, shared, kept):
        run_layer(
            cuda.blockIdx.x, Sizes(m, product.n, product.k), a, Matrix(parameters, product.b, product.b_row),
            Matrix(work, product.c, product.c_row), parameters, work, product, shared, kept,
        )  # fmt: skip

    return _Parts(run, of_block.a_shared, of_block.b_shared, tile.rows * of_block.kept_row, of_block.kept_row)


@jit.kernel
def forward(real: Any, tile: Tile, activation: Activation, source_type: str) -> Any:
    """The batch's rows of source, converted, into work, and through all layers.

    The products of the layers are the job's first. An output that is not stored stays in shared memory. A block takes
    the tile's rows.
    """
    parts = _parts(real, tile, "x @ w", activation, False)
    run, a_shared, b_shared, kept_shared, kept_row = parts
    rows, threads = tile.rows, tile.threads

    def function(
        source: Array[Data], order: Array[Index], work: Array[Real], parameters: Array[Real], words: Array[int]
    ) -> None:
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        kept = cuda.shared.array(kept_shared, real, VECTOR_BYTES)
        shared, job = Shared(a_tile, b_tile), job_of(words)
        m, columns, i0 = rows_of(job), job.x_columns, cuda.blockIdx.x * rows
        if i0 >= m:  # a last batch that is smaller
            return
        for e in range(cuda.threadIdx.x, min(rows, m - i0) * columns, threads):
            i, j = i0 + e // columns, e % columns
            row = row_of(job, order, i)
            work[job.x + i * job.x_row + j] = real(source[row * columns + j])
        cuda.syncthreads()
        bottom = product_at(words, PRODUCTS)
        run(m, bottom, Matrix(work, job.x, job.x_row), work, parameters, shared, kept)
        for n in range(1, job.layers):
            product = product_at(words, PRODUCTS + n * PRODUCT_WORDS)
            run(m, product, Matrix(kept, -i0 * kept_row, kept_row), work, parameters, shared, kept)

    return function, threads, source_type


@jit.kernel
def backward(real: Any, tile: Tile, activation: Activation) -> Any:
    """dz of all layers below the last one, from the last one's, in work.

    The product dz @ w.T of layer 0, which is left out, is at words[first]; the other layers' follow. A block takes the
    tile's rows.
    """
    parts = _parts(real, tile, "dz @ w.T", activation, not activation.is_identity)
    run, a_shared, b_shared, kept_shared, kept_row = parts
    rows = tile.rows

    def function(work: Array[Real], parameters: Array[Real], words: Array[int], first: Offset) -> None:
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        kept = cuda.shared.array(kept_shared, real, VECTOR_BYTES)
        shared, job = Shared(a_tile, b_tile), job_of(words)
        m, last, i0 = rows_of(job), job.layers - 1, cuda.blockIdx.x * rows
        if i0 >= m:
            return
        top = product_at(words, first + last * PRODUCT_WORDS)
        run(m, top, Matrix(work, top.a, top.a_row), work, parameters, shared, kept)
        for n in range(last - 1, 0, -1):
            product = product_at(words, first + n * PRODUCT_WORDS)
            run(m, product, Matrix(kept, -i0 * kept_row, kept_row), work, parameters, shared, kept)

    return function, tile.threads
