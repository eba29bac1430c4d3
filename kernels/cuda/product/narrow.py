"""Networks with narrow layers: all layers of a batch in one launch, with the activations in shared memory.

A block takes the rows of a tile that is as wide as the widest layer, through all layers: what one layer makes of them
is the next one's input, and leaves the multiprocessor only where the gradient needs it. The sums are those of `linear`,
bit for bit.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine import job as fields
from kernels.cuda.ir.ptx import VECTOR_BYTES
from kernels.cuda.product.gemm import Tile
from kernels.cuda.product.linear import layer

# By width, then by rows: as large as 48 KiB of shared memory allow. They have not been tuned: no GPU was there.
TILES = {
    "float32": (
        Tile(64, 32, 16, 4, 4), Tile(32, 32, 16, 4, 4),
        Tile(64, 64, 8, 8, 4), Tile(32, 64, 16, 4, 4),
        Tile(64, 128, 8, 8, 8), Tile(32, 128, 16, 4, 8),
    ),
    "float64": (Tile(32, 32, 8, 4, 4), Tile(32, 64, 8, 4, 4)),
}  # fmt: skip


def tile_for(widths: Sequence[int], rows: int, dtype: np.dtype, processors: int) -> Tile | None:
    """The tile for a network of these widths, or None for one that is too wide, or a single layer."""
    fitting = [tile for tile in TILES[dtype.name] if tile.columns >= max(widths[1:])]
    if len(widths) < 3 or not fitting:
        return None
    fitting = [tile for tile in fitting if tile.columns == fitting[0].columns]
    return next((tile for tile in fitting if tile.blocks(rows, 1) >= processors), fitting[-1])


@jit.kernel
def forward(real: Any, tile: Tile, activation: str, source_type: str) -> Any:
    """source, order, work, parameters, job: the batch's rows, converted, into work, and through all layers.

    The records of the layers are the job's first. Where c is NONE, a layer's output is not written. A block takes the
    tile's rows.
    """
    parts = layer(real, tile, "x @ w", True, activation, False, keeps=True)
    run, a_shared, b_shared, stride = parts.run, parts.a_shared, parts.b_shared, parts.kept_stride
    rows, threads, size = tile.rows, tile.threads, fields.RECORD
    kept_shared = rows * stride

    def function(source, order, work, parameters, job):
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        kept = cuda.shared.array(kept_shared, real, VECTOR_BYTES)
        block, m, columns = cuda.blockIdx.x, fields.rows_of(job), job[fields.X_COLUMNS]
        i0 = block * rows
        if i0 >= m:  # a last batch that is smaller
            return
        for e in range(cuda.threadIdx.x, min(rows, m - i0) * columns, threads):
            i, j = i0 + e // columns, e % columns
            row = fields.row_of(job, order, i)
            work[job[fields.X] + i * job[fields.LDX] + j] = real(source[row * columns + j])
        cuda.syncthreads()
        at = fields.HEADER
        run(
            block, m, columns, work, job[fields.X], job[fields.LDX], parameters, job[at + fields.B],
            work, job[at + fields.C], parameters, work, job, at, a_tile, b_tile, kept,
        )  # fmt: skip
        for at in range(fields.HEADER + size, fields.HEADER + job[fields.LAYERS] * size, size):
            run(
                block, m, job[at + fields.K], kept, -i0 * stride, stride, parameters, job[at + fields.B],
                work, job[at + fields.C], parameters, work, job, at, a_tile, b_tile, kept,
            )  # fmt: skip

    return function, f"{source_type} I R R I", threads


@jit.kernel
def backward(real: Any, tile: Tile, activation: str) -> Any:
    """work, parameters, job, first record: dz of all layers below the last one, from the last one's.

    The record of dz @ w.T of layer 0, which is left out, is the first; the other layers' follow. A block takes the
    tile's rows.
    """
    parts = layer(real, tile, "dz @ w.T", True, activation, activation != "identity", keeps=True)
    run, a_shared, b_shared, stride = parts.run, parts.a_shared, parts.b_shared, parts.kept_stride
    rows, size = tile.rows, fields.RECORD
    kept_shared = rows * stride

    def function(work, parameters, job, first):
        a_tile = cuda.shared.array(a_shared, real, VECTOR_BYTES)
        b_tile = cuda.shared.array(b_shared, real, VECTOR_BYTES)
        kept = cuda.shared.array(kept_shared, real, VECTOR_BYTES)
        block, m = cuda.blockIdx.x, fields.rows_of(job)
        i0 = block * rows
        if i0 >= m:
            return
        bottom = fields.HEADER + first * size
        top = bottom + (job[fields.LAYERS] - 1) * size
        run(
            block, m, job[top + fields.K], work, job[top + fields.A], job[top + fields.LDA], parameters,
            job[top + fields.B], work, job[top + fields.C], parameters, work, job, top, a_tile, b_tile, kept,
        )  # fmt: skip
        for at in range(top - size, bottom, -size):
            run(
                block, m, job[at + fields.K], kept, -i0 * stride, stride, parameters, job[at + fields.B],
                work, job[at + fields.C], parameters, work, job, at, a_tile, b_tile, kept,
            )  # fmt: skip

    return function, "R R I i", tile.threads
