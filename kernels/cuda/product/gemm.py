"""The matrix product c (m, n) = a (m, k) @ b (k, n): what one block of threads computes of it.

A block owns a tile of c, a warp a part of the tile, a thread a part of that in registers. Along k the block walks in
steps of `depth`: parts of a and b go through registers into one of two buffers in shared memory, while the other one
is multiplied. The order of every sum is that of k, whatever the tile.

    block     rows x columns of c, over all of k
    step      depth of k: a (depth, rows) and b (depth, columns) in shared memory, multiplied without a loop
    warp      4 x 8 threads side by side
    thread    thread_rows x thread_columns of c, in groups of 16 bytes that interleave with its neighbours', so that
              what a warp reads at once of shared memory lies in different banks
"""

import functools
from typing import Any, NamedTuple

import numpy as np

from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.target import cuda
from kernels.cuda.ir.ptx import lanes, outer_products, row_copy, vector_copy, vector_read
from kernels.cuda.product import tensor_layout
from kernels.cuda.product.blocks import Loader, Tile


def arithmetic(dtype: np.dtype, precision: str, *widths: int) -> str:
    """What the products of a layer of these widths are made in, the name of its TILES: a dtype, "tf32" or "bf16"."""
    return precision if precision != "float32" and min(widths) >= tuning.TENSOR_WIDTH else dtype.name


def tile_for(m: int, n: int, arithmetic: str, processors: int, parts: int = 1) -> Tile:
    """The tile for a product c (m, n), summed in `parts` parts; the sums are the same with any."""
    tiles = tuning.TILES[arithmetic]
    fitting = (tile for tile in tiles if tile.rows < 2 * m and tile.columns < 2 * n)
    return next((tile for tile in fitting if parts * tile.blocks(m, n) >= processors), tiles[-1])


def parts_for(m: int, n: int, k: int, arithmetic: str) -> int:
    """Into how many parts the sums over k of c (m, n) are split: by the sizes alone, since it decides the bits."""
    return max(1, min(tuning.SPLIT_BLOCKS // tuning.TILES[arithmetic][-1].blocks(m, n), k // tuning.SPLIT_ROWS))


def chunk_for(k: int, parts: int) -> int:
    """The terms of each part but the last, which may have fewer."""
    return -(-k // parts)


class Gemm(NamedTuple):
    """The parts of a kernel that multiplies.

    multiply(block, sizes, a, b, shared, c): the thread's part of tile number `block` into c, its registers
    (thread_rows * thread_columns,). Shared memory is free again afterwards.

    stage(r, c, target): row r of every thread's part into target (staged,), rows of `columns` in shared memory, for
    whoever does what comes after the product; shared.b has room for it. staged_row(o, r): where row o of that lies in
    the tile, r at least. (To do it in the registers would be to compile it once for each.)
    """

    multiply: Any
    stage: Any
    staged_row: Any
    staged: int
    a_shared: int
    b_shared: int


# How the operands lie: a with rows along m (x, dz) or along k (x.T); b with rows along k (w, dz) or along n (w.T).
LAYOUTS = {"x @ w": (False, False), "dz @ w.T": (False, True), "x.T @ dz": (True, False)}


@functools.cache
def gemm(real: Any, tile: Tile, layout: str, aligned: bool) -> Gemm:
    """See Gemm. aligned: whether a, b, their offsets and row strides are multiples of 16 bytes."""
    a_along_k, b_along_n = LAYOUTS[layout]
    rows, columns, depth = tile.rows, tile.columns, tile.depth
    thread_rows, thread_columns, threads = tile.thread_rows, tile.thread_columns, tile.threads
    warp_rows, warp_columns, zero = tile.warp_rows, tile.warp_columns, real(0.0)
    warp_threads = warp_rows * warp_columns
    warps_across = columns // (warp_columns * thread_columns)
    part = lanes(real)

    @jit.inline
    def first_row(thread):
        down = thread // warp_threads // warps_across * (warp_rows * thread_rows)
        return down + thread % warp_threads // warp_columns * part

    @jit.inline
    def first_column(thread):
        across = thread // warp_threads % warps_across * (warp_columns * thread_columns)
        return across + thread % warp_columns * part

    copy_row = row_copy(real, thread_rows, thread_columns, warp_columns * part)
    staged = rows // thread_rows * columns
    if tile.precision:
        a_operand, b_operand, first_of_a, first_of_b, add = tensor_layout.operands(tile, a_along_k, b_along_n, aligned)
    else:
        a_operand = _loader(real, rows, depth, threads, a_along_k, aligned)
        b_operand = _loader(real, columns, depth, threads, not b_along_n, aligned)
        first_of_a, first_of_b = first_row, first_column
        a_steps, b_steps = (a_operand.word, warp_rows * part), (b_operand.word, warp_columns * part)
        add = outer_products(real, thread_rows, thread_columns, depth, a_steps, b_steps)
    load_a, store_a, a_width, a_size = a_operand.load, a_operand.store, a_operand.registers, a_operand.size
    load_b, store_b, b_width, b_size = b_operand.load, b_operand.store, b_operand.registers, b_operand.size

    @jit.inline
    def multiply(block, sizes, a, b, shared, c):
        m, n, k = sizes.m, sizes.n, sizes.k
        a_next = cuda.local.array(a_width, real)
        b_next = cuda.local.array(b_width, real)
        thread = cuda.threadIdx.x
        across = (n + columns - 1) // columns
        i0, j0 = block // across * rows, block % across * columns
        i, j = first_of_a(thread), first_of_b(thread)
        for e in range(thread_rows * thread_columns):
            c[e] = zero
        steps = (k + depth - 1) // depth
        start = k - k  # 0, but not the literal, for whose type Numba would compile all four once more
        load_a(thread, a, i0, m, start, k, a_next)
        load_b(thread, b, j0, n, start, k, b_next)
        store_a(thread, a_next, shared.a, start)
        store_b(thread, b_next, shared.b, start)
        cuda.syncthreads()
        for step in range(steps):
            now, then = step % 2, (step + 1) % 2
            if step + 1 < steps:
                load_a(thread, a, i0, m, (step + 1) * depth, k, a_next)
                load_b(thread, b, j0, n, (step + 1) * depth, k, b_next)
            add(c, shared.a, now * a_size + i, shared.b, now * b_size + j)
            if step + 1 < steps:
                store_a(thread, a_next, shared.a, then * a_size)
                store_b(thread, b_next, shared.b, then * b_size)
            cuda.syncthreads()

    @jit.inline
    def stage(r, c, target):
        thread = cuda.threadIdx.x
        at = thread // warp_threads // warps_across * warp_rows + thread % warp_threads // warp_columns
        copy_row(r, c, target, at * columns + first_column(thread))

    @jit.inline
    def staged_row(o, r):
        return o // warp_rows * (warp_rows * thread_rows) + (r // part * warp_rows + o % warp_rows) * part + r % part

    return Gemm(multiply, stage, staged_row, staged, a_shared=2 * a_size, b_shared=max(2 * b_size, staged))


@functools.cache
def _loader(real: Any, length: int, depth: int, threads: int, along_k: bool, aligned: bool) -> Loader:
    """A Loader that keeps lines along k apart. along_k: x has rows (k, m), else (m, k) and is transposed on the way."""
    width, copy, read = lanes(real), vector_copy(real), vector_read(real, aligned)
    vectors = depth * length // width // threads
    if vectors * width * threads != depth * length or (depth if not along_k else length) % width:
        raise ValueError(f"threads must share {depth} x {length} elements evenly in vectors of {width}, got {threads}")
    per_row = (length if along_k else depth) // width
    stride = length + width  # the padding spreads what is written transposed over the banks

    @jit.inline
    def load(thread, x, i0, m, k0, k, registers):
        for v in range(vectors):
            vector = thread + v * threads
            if along_k:
                p, i = k0 + vector // per_row, i0 + vector % per_row * width
                read(x.array, x.at + p * x.row + i, m - i if p < k else 0, registers, v * width)
            else:
                i, p = i0 + vector // per_row, k0 + vector % per_row * width
                read(x.array, x.at + i * x.row + p, k - p if i < m else 0, registers, v * width)

    @jit.inline
    def store(thread, registers, target, at):
        for v in range(vectors):
            vector = thread + v * threads
            if along_k:
                copy(target, at + vector // per_row * stride + vector % per_row * width, registers, v * width)
            else:
                i, p = vector // per_row, vector % per_row * width
                for q in range(width):
                    target[at + (p + q) * stride + i] = registers[v * width + q]

    return Loader(load, store, registers=vectors * width, size=depth * stride, line=1, word=stride)
