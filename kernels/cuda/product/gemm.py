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
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.ir.ptx import lanes, outer_products, row_copy, vector_copy, vector_read
from kernels.cuda.product import tensor_layout


@dataclass(frozen=True)
class Tile:
    """The shape of a block's work: see the module's text. warp_rows, warp_columns: threads of a warp, 32 on a GPU.

    precision: "tf32" or "bf16" for products on tensor cores, see tensor_layout.py, whose warps have 8 x 4 threads.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    warp_rows: int = 4
    warp_columns: int = 8
    precision: str = ""

    @property
    def threads(self) -> int:
        """The threads of a block."""
        return self.rows * self.columns // (self.thread_rows * self.thread_columns)

    def blocks(self, m: int, n: int) -> int:
        """How many blocks a product takes."""
        return -(-m // self.rows) * -(-n // self.columns)


# Which tile for which product: the first that is less than half empty and gives every multiprocessor something to do.
# The shapes are the usual ones (Boehm 2022, "How to Optimize a CUDA Matmul Kernel for cuBLAS-like Performance"), as
# large as registers allow without spills (see the tests), and narrower ones for narrow layers. They have not been
# tuned: no GPU was there.
TILES = {
    "float32": (
        Tile(128, 128, 8, 8, 8),  # 4096 x 4096
        Tile(128, 64, 8, 8, 8),  # 65536 x 64
        Tile(128, 32, 16, 8, 4),  # 65536 x 10
        Tile(64, 64, 16, 4, 4),  # 512 x 256
        Tile(32, 32, 16, 4, 4),  # 128 x 256
    ),
    "float64": (Tile(64, 64, 8, 4, 4), Tile(32, 32, 8, 4, 4)),
    "tf32": (
        Tile(128, 128, 8, 8, 16, 8, 4, "tf32"), Tile(128, 64, 16, 8, 8, 8, 4, "tf32"),
        Tile(64, 64, 16, 4, 8, 8, 4, "tf32"), Tile(32, 32, 16, 4, 4, 8, 4, "tf32"),
    ),
    "bf16": (
        Tile(128, 128, 16, 8, 16, 8, 4, "bf16"), Tile(128, 64, 32, 8, 8, 8, 4, "bf16"),
        Tile(64, 64, 32, 4, 8, 8, 4, "bf16"), Tile(32, 32, 32, 4, 4, 8, 4, "bf16"),
    ),
}  # fmt: skip
# Tensor cores, where they are asked for, multiply in layers whose inputs and outputs both are at least so many; others
# have too little to multiply to gain by it what they lose in digits. Unmeasured: no GPU was there.
TENSOR_WIDTH = 32
# Where dw has few tiles, the sum over the batch's rows is split into parts: as many as make SPLIT_BLOCKS blocks of the
# smallest tile, of SPLIT_ROWS rows at least. Untuned, too.
SPLIT_BLOCKS, SPLIT_ROWS = 256, 128


def arithmetic(dtype: np.dtype, precision: str, *widths: int) -> str:
    """What the products of a layer of these widths are made in, the name of its TILES: a dtype, "tf32" or "bf16"."""
    return precision if precision != "float32" and min(widths) >= TENSOR_WIDTH else dtype.name


def tile_for(m: int, n: int, arithmetic: str, processors: int, parts: int = 1) -> Tile:
    """The tile for a product c (m, n), summed in so many parts; the sums are the same with any."""
    tiles = TILES[arithmetic]
    fitting = (tile for tile in tiles if tile.rows < 2 * m and tile.columns < 2 * n)
    return next((tile for tile in fitting if parts * tile.blocks(m, n) >= processors), tiles[-1])


def parts_for(m: int, n: int, k: int, arithmetic: str) -> int:
    """Into how many parts the sums over k of c (m, n) are split: by the sizes alone, since it decides the bits."""
    return max(1, min(SPLIT_BLOCKS // TILES[arithmetic][-1].blocks(m, n), k // SPLIT_ROWS))


def chunk_for(k: int, parts: int) -> int:
    """The terms of each part but the last, which may have fewer."""
    return -(-k // parts)


# How the operands lie: a with rows along m (x, dz) or along k (x.T); b with rows along k (w, dz) or along n (w.T).
LAYOUTS = {"x @ w": (False, False), "dz @ w.T": (False, True), "x.T @ dz": (True, False)}


@functools.cache
def gemm(real: Any, tile: Tile, layout: str, aligned: bool) -> SimpleNamespace:
    """The parts of a kernel that multiplies.

    multiply(block, m, n, k, a, a_at, lda, b, b_at, ldb, a_tile, b_tile, c): the thread's part of tile number `block`
    into c, its registers (thread_rows * thread_columns,). a_tile (a_shared,), b_tile (b_shared,): shared memory, free
    again afterwards. aligned: whether a, b, their offsets and row strides are multiples of 16 bytes.

    share(r, c, target): row r of every thread's part into target (staged,), rows of `columns` in shared memory, for
    whoever does what comes after the product; b_tile has room for it. staged_row(o, r): where row o of that lies in the
    tile, r at least. (To do it in the registers would be to compile it once for each.)
    """
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
        a_steps, b_steps = (a_operand.stride, warp_rows * part), (b_operand.stride, warp_columns * part)
        add = outer_products(real, thread_rows, thread_columns, depth, a_steps, b_steps)
    load_a, store_a, a_width, a_size = a_operand.load, a_operand.store, a_operand.registers, a_operand.size
    load_b, store_b, b_width, b_size = b_operand.load, b_operand.store, b_operand.registers, b_operand.size

    @jit.inline
    def multiply(block, m, n, k, a, a_at, lda, b, b_at, ldb, a_tile, b_tile, c):
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
        load_a(thread, a, a_at, lda, i0, m, start, k, a_next)
        load_b(thread, b, b_at, ldb, j0, n, start, k, b_next)
        store_a(thread, a_next, a_tile, start)
        store_b(thread, b_next, b_tile, start)
        cuda.syncthreads()
        for step in range(steps):
            now, then = step % 2, (step + 1) % 2
            if step + 1 < steps:
                load_a(thread, a, a_at, lda, i0, m, (step + 1) * depth, k, a_next)
                load_b(thread, b, b_at, ldb, j0, n, (step + 1) * depth, k, b_next)
            add(c, a_tile, now * a_size + i, b_tile, now * b_size + j)
            if step + 1 < steps:
                store_a(thread, a_next, a_tile, then * a_size)
                store_b(thread, b_next, b_tile, then * b_size)
            cuda.syncthreads()

    @jit.inline
    def share(r, c, target):
        thread = cuda.threadIdx.x
        at = thread // warp_threads // warps_across * warp_rows + thread % warp_threads // warp_columns
        copy_row(r, c, target, at * columns + first_column(thread))

    @jit.inline
    def staged_row(o, r):
        return o // warp_rows * (warp_rows * thread_rows) + (r // part * warp_rows + o % warp_rows) * part + r % part

    return SimpleNamespace(
        multiply=multiply, share=share, staged_row=staged_row, staged=staged, a_shared=2 * a_size,
        b_shared=max(2 * b_size, staged),
    )  # fmt: skip


@functools.cache
def _loader(real: Any, length: int, depth: int, threads: int, along_k: bool, aligned: bool) -> SimpleNamespace:
    """How a block brings (depth, length) elements of an operand into shared memory.

    load(thread, x, at, ldx, i0, m, k0, k, registers) reads the thread's share of x, zeros beyond m and k. along_k: x
    has rows (k, m), else (m, k) and is transposed on the way. store(thread, registers, target, at) writes it into
    target (size,), rows `stride` apart.
    """
    width, copy, read = lanes(real), vector_copy(real), vector_read(real, aligned)
    vectors = depth * length // width // threads
    if vectors * width * threads != depth * length or (depth if not along_k else length) % width:
        raise ValueError(f"threads must share {depth} x {length} elements evenly in vectors of {width}, got {threads}")
    per_row = (length if along_k else depth) // width
    stride = length + width  # the padding spreads what is written transposed over the banks

    @jit.inline
    def load(thread, x, at, ldx, i0, m, k0, k, registers):
        for v in range(vectors):
            vector = thread + v * threads
            if along_k:
                p, i = k0 + vector // per_row, i0 + vector % per_row * width
                read(x, at + p * ldx + i, m - i if p < k else 0, registers, v * width)
            else:
                i, p = i0 + vector // per_row, k0 + vector % per_row * width
                read(x, at + i * ldx + p, k - p if i < m else 0, registers, v * width)

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

    return SimpleNamespace(
        load=load, store=store, registers=vectors * width, stride=stride, size=depth * stride
    )  # fmt: skip
