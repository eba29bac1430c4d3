"""What describes a block's part of a product: its tile, the matrices, its shared memory, how that is filled."""

from dataclasses import dataclass
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Tile:
    """The shape of a block's work: see gemm.py. warp_rows, warp_columns: threads of a warp, 32 on a GPU.

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


class Matrix(NamedTuple):
    """A matrix in an array, as kernels pass it on: its rows are `row` elements apart, the first begins at `at`."""

    array: Any
    at: Any
    row: Any


class Sizes(NamedTuple):
    """Of a product: c (m, n) = a (m, k) @ b (k, n)."""

    m: Any
    n: Any
    k: Any


class Shared(NamedTuple):
    """A block's shared memory."""

    a: Any  # (Gemm.a_shared,)
    b: Any  # (Gemm.b_shared,)


class Loader(NamedTuple):
    """How a block brings (depth, length) elements of an operand into shared memory.

    load(thread, x, i0, m, k0, k, registers) reads the thread's elements of the Matrix x, zeros beyond m and k.
    store(thread, registers, target, at) writes them into target[at : at + size].
    """

    load: Any
    store: Any
    registers: int  # of a thread
    size: int
    # in shared memory: from one line along k to the next, and from one element of a line, or word, to the next
    line: int
    word: int
