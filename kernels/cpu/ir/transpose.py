"""The transpose of a matrix, by squares that fit into the registers."""

from collections.abc import Callable
from typing import Any

from kernels import deferred
from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import B, Matrix, O
from kernels.cpu.ir.instruction_sets import chosen, itemsize

simd = deferred.module("kernels.cpu.ir.simd")


@jit.kernel
def transpose(real: Any) -> Callable[..., Any]:
    """target = source.T."""
    size = itemsize(real)
    lanes = chosen().lanes(size)
    square, part = simd.transpose_square(real), simd.transpose_part(real)

    def function(source: Matrix[B, O], target: Matrix[O, B]) -> None:
        rows, columns = source.rows, source.columns
        if rows <= tuning.NARROW or columns <= tuning.NARROW:
            for i in range(rows):
                for j in range(columns):
                    target[j][i] = source[i][j]
            return
        for i in range(0, rows, lanes):
            for j in range(0, columns, lanes):
                at, to = source.address + i * source.stride + j * size, target.address + j * target.stride + i * size
                height = min(lanes, rows - i)
                if height == lanes and j + lanes <= columns:
                    square(at, source.stride, to, target.stride)
                else:
                    part(height, min(lanes, columns - j), at, source.stride, to, target.stride, height)

    return function
