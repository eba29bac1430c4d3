"""The transpose of a matrix, by squares that fit into the registers."""

from collections.abc import Callable
from typing import Any

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Size, Stride
from kernels.cpu.ir import memory, simd

NARROW = 2  # rows or columns that are copied number by number: 50 x 2 in 50 ns, by vectors in 90


@jit.kernel
def transpose(real: Any) -> Callable[..., Any]:
    """target (columns, rows) = source (rows, columns).T."""
    size, elements = simd.itemsize(real), memory.pointer(real)
    lanes = simd.chosen().lanes(size)
    square, part = simd.transpose_square(real), simd.transpose_part(real)

    def function(
        rows: Size, columns: Size, source: Address, lds: Stride, target: Address, ldt: Stride
    ) -> None:  # fmt: skip
        if rows <= NARROW or columns <= NARROW:
            for i in range(rows):
                for j in range(columns):
                    elements(target + j * ldt)[i] = elements(source + i * lds)[j]
            return
        for i in range(0, rows, lanes):
            for j in range(0, columns, lanes):
                at, to, height = source + i * lds + j * size, target + j * ldt + i * size, min(lanes, rows - i)
                if height == lanes and j + lanes <= columns:
                    square(at, lds, to, ldt)
                else:
                    part(height, min(lanes, columns - j), at, lds, to, ldt, height)

    return function
