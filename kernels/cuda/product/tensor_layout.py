"""Products on tensor cores: what a block of `gemm` puts into shared memory, and which of it a thread multiplies.

Shared memory holds words of 32 bits: an element rounded to tf32, or two neighbours along k rounded to bf16. mma.sync
multiplies, for a warp, a (16, 8 words) and b (8 words, 8) of them. Thread 4 g + t of the warp gives it of a the rows g
and g + 8, of b the column g, of each the words t and t + 4, and has the sums of a's rows in columns 2 t and 2 t + 1
(NVIDIA, "PTX ISA", "Matrix Fragments for mma.m16n8k8" with .tf32 and "... mma.m16n8k16 with floating point type").

Which rows, columns and words of a tile these are is for us to say, if a and b agree on the words:

    words     t and t + 4 are 2 t and 2 t + 1 of eight
    rows      g and g + 8 of instruction i are rows 2 i and 2 i + 1 of those that `gemm` gives to the thread
    columns   column n of instructions 2 i and 2 i + 1 are columns 2 n and 2 n + 1 of 16

So each thread has the part of c that `gemm` says, and what it reads lies side by side: words of a row, rows of a word.
The sums go along k in steps of eight words, whatever the tile; what a step adds, and how, is the tensor core's affair.
"""

from typing import Any

from numba import types

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.target import cuda
from kernels.cuda.ir.ptx import lanes, vector_copy, vector_read
from kernels.cuda.ir.tensor_mma import STEP, WORD_ELEMENTS, Loads, Products, matrix_products, word
from kernels.cuda.product.blocks import Loader, Tile

WARP = 32  # threads, of which a tile has 8 x 4
# Paddings of rows in shared memory, in words, with which the threads that read at once read from different banks: of
# rows along m or n, and of rows along k, of a and of b
PADDING, A_PADDING, B_PADDING = 4, 2, 4


def operands(tile: Tile, a_along_k: bool, b_along_n: bool, aligned: bool) -> tuple[Loader, Loader, Any, Any, Any]:
    """What `gemm` needs of its operands: how each is loaded, where a thread's words of each begin, and `add`."""
    a = _operand(tile, tile.rows, a_along_k, A_PADDING, aligned)
    b = _operand(tile, tile.columns, not b_along_n, B_PADDING, aligned)
    down, side, part = tile.warp_rows, tile.warp_columns, lanes(types.float32)  # 8 threads, 4, and 4 elements
    a_rows, b_columns = down * tile.thread_rows, side * tile.thread_columns  # of a warp
    across = tile.columns // b_columns  # warps
    a_line, a_word, b_line, b_word = a.line, a.word, b.line, b.word

    @jit.inline
    def first_of_a(thread):
        row = thread // WARP // across * a_rows + thread % WARP // side * part
        return row * a_line + 2 * (thread % side) * a_word

    @jit.inline
    def first_of_b(thread):
        column = thread // WARP % across * b_columns + 2 * (thread % WARP // side)
        return column * b_line + 2 * (thread % side) * b_word

    # a's rows come in groups of `part`, as gemm has them; b's columns in pairs
    rows = [n // part * (down * part) + n % part for n in range(tile.thread_rows)]
    columns = [n // 2 * (side * part) + n % 2 for n in range(tile.thread_columns // 2)]
    add = matrix_products(
        tile.precision, tile.depth // WORD_ELEMENTS[tile.precision] // STEP, _loads(rows, part, a_line, a_word),
        STEP * a_word, _loads(columns, 2, b_line, b_word), STEP * b_word, _products(tile),
    )  # fmt: skip
    return a, b, first_of_a, first_of_b, add


def _loads(lines: list[int], together: int, line: int, word: int) -> Loads:
    """Words 0 and 1 of these lines, rows of a or columns of b, each called (line's number, word)."""
    if word == 1:
        return tuple((place * line, ((n, 0), (n, 1))) for n, place in enumerate(lines))
    groups = range(0, len(lines), together)
    return tuple(
        (lines[n] * line + w * word, tuple((m, w) for m in range(n, n + together))) for w in range(2) for n in groups
    )


def _products(tile: Tile) -> Products:
    """The instructions of a step, each on two rows and a column of the thread's."""
    width, products = tile.thread_columns, []
    for i in range(0, tile.thread_rows, 2):
        for n in range(width // 2):
            at = i * width + n // 2 * 4 + n % 2  # of the sums, two of which are two columns apart
            a, b = ((i, 0), (i + 1, 0), (i, 1), (i + 1, 1)), ((n, 0), (n, 1))
            products.append((a, b, (at, at + 2, at + width, at + width + 2)))
    return tuple(products)


def _operand(tile: Tile, length: int, along_k: bool, padding: int, aligned: bool) -> Loader:
    """A Loader that writes words. Rows stay rows."""
    real, n, depth, threads = types.float32, WORD_ELEMENTS[tile.precision], tile.depth, tile.threads
    width, read, rounded = lanes(real), vector_read(real, aligned), word(tile.precision)
    per_row, stride = (length // width, length + PADDING) if along_k else (depth // width, depth // n + padding)
    # A thread has some tasks: out of the vectors that it `reads`, to make words that lie side by side, and
    # to store some `together`. The first word of a task is of its elements 0 and `apart`, the next `step` further on.
    if along_k:
        reads, made, together, step, apart = n, width, width, 1, (n - 1) * width
    else:
        reads, made, together, step, apart = 1, width // n, 2, n, n - 1
    tasks = depth * length // (reads * width) // threads
    if tasks * threads * reads * width != depth * length:
        raise ValueError(f"threads must share {depth} x {length} elements evenly in vectors of {width}, got {threads}")
    copy = vector_copy(real, together)

    @jit.inline
    def load(thread, x, i0, m, k0, k, registers):
        for v in range(tasks):
            task = thread + v * threads
            if along_k:
                p, i = k0 + task // per_row * n, i0 + task % per_row * width
                for q in range(n):
                    left = m - i if p + q < k else 0
                    read(x.array, x.at + (p + q) * x.row + i, left, registers, (v * n + q) * width)
            else:
                i, p = i0 + task // per_row, k0 + task % per_row * width
                read(x.array, x.at + i * x.row + p, k - p if i < m else 0, registers, v * width)

    @jit.inline
    def store(thread, registers, target, at):
        words = cuda.local.array(made, real)
        for v in range(tasks):
            task, first = thread + v * threads, v * reads * width
            for q in range(made):
                words[q] = rounded(registers[first + q * step], registers[first + q * step + apart])
            to = at + task // per_row * stride + task % per_row * made
            for q in range(0, made, together):
                copy(target, to + q, words, q)

    line, of_word = (1, stride) if along_k else (stride, 1)
    size = (depth // n if along_k else length) * stride
    return Loader(load, store, registers=tasks * reads * width, size=size, line=line, word=of_word)
