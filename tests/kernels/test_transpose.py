"""Transposes of squares and of parts of squares: what they write, and that they write nothing else."""

import numpy as np
import pytest

from kernels.cpu.compiler import jit
from kernels.cpu.ir import instruction_sets, simd
from kernels.cpu.ir.transpose import transpose


@jit.kernel
def square_or_part(real):
    """A part of a square, or a whole one where there are no rows."""
    square, part = simd.transpose_square(real), simd.transpose_part(real)

    def function(
        rows: int, columns: int, source: int, lds: int, target: int, ldt: int, width: int
    ) -> None:  # fmt: skip
        if rows == 0:
            square(source, lds, target, ldt)
        else:
            part(rows, columns, source, lds, target, ldt, width)

    return function


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_part_of_a_square(dtype):
    size = np.dtype(dtype).itemsize
    lanes = instruction_sets.chosen().lanes(size)
    source = np.random.default_rng(0).random((lanes, lanes + 3)).astype(dtype)
    for rows in range(lanes + 1):
        for columns in range(1, lanes + 1) if rows else (lanes,):
            height = rows or lanes
            for width in {height, lanes}:
                target = np.full((lanes, lanes + 1), np.nan, dtype)
                given = np.full_like(source, np.nan)  # what is past the part must not be read
                given[:height, :columns] = source[:height, :columns]
                square_or_part[dtype](
                    rows, columns, given.ctypes.data, source.strides[0], target.ctypes.data, target.strides[0], width
                )  # fmt: skip
                expected = np.full_like(target, np.nan)
                expected[:columns, :height] = source[:height, :columns].T
                expected[:columns, height:width] = source[height - 1, :columns, np.newaxis]
                np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 2), (2, 1), (3, 3), (16, 16), (17, 15), (31, 64), (65, 33)])
def test_a_matrix(shape, dtype):
    source = np.full((shape[0] + 1, shape[1] + 3), np.nan, dtype)
    source[: shape[0], : shape[1]] = np.random.default_rng(0).random(shape)
    target = np.full((shape[1] + 1, shape[0] + 5), -1.0, dtype)
    expected = target.copy()
    expected[: shape[1], : shape[0]] = source[: shape[0], : shape[1]].T
    transpose[dtype](*shape, source.ctypes.data, source.strides[0], target.ctypes.data, target.strides[0])
    np.testing.assert_array_equal(target, expected)
