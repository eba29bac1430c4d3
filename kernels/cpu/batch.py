"""Gathering a batch: rows by index, out of an array of any strides and number type, into the network's dtype."""

from typing import Any

import numpy as np
from numba import types

from . import jit, memory

# what an array's elements may be, and the code that compiled code knows it by
SOURCE_TYPES = [
    types.float32, types.float64, types.int8, types.uint8, types.int16, types.uint16, types.int32, types.uint32,
    types.int64, types.uint64, types.float16,
]  # fmt: skip
SOURCE_CODES = {np.dtype(str(t)): code for code, t in enumerate(SOURCE_TYPES)} | {np.dtype(bool): 3}


@jit.kernel("v 10i")
def gather(real: Any) -> Any:
    """target (rows, columns) = source[order[first : first + rows]], converted, overwritten.

    source: element (i, j) at i * row_stride + j * column_stride bytes, of type `code` (SOURCE_CODES). order: int64 row
    numbers, or 0 for the rows first, first + 1, ...; target rows `ldt` bytes apart.
    """
    integers, elements = memory.pointer(types.int64), memory.pointer(real)
    copies = [_copy_row(real, kind) for kind in SOURCE_TYPES]
    f32, f64, i8, u8, i16, u16, i32, u32, i64, u64, f16 = copies

    def function(rows, columns, source, row_stride, column_stride, code, order, first, target, ldt):
        for r in range(rows):
            row = integers(order)[first + r] if order != 0 else first + r
            at, to = source + row * row_stride, elements(target + r * ldt)
            if code == 0:
                f32(columns, at, column_stride, to)
            elif code == 1:
                f64(columns, at, column_stride, to)
            elif code == 2:
                i8(columns, at, column_stride, to)
            elif code == 3:
                u8(columns, at, column_stride, to)
            elif code == 4:
                i16(columns, at, column_stride, to)
            elif code == 5:
                u16(columns, at, column_stride, to)
            elif code == 6:
                i32(columns, at, column_stride, to)
            elif code == 7:
                u32(columns, at, column_stride, to)
            elif code == 8:
                i64(columns, at, column_stride, to)
            elif code == 9:
                u64(columns, at, column_stride, to)
            elif code == 10:
                f16(columns, at, column_stride, to)

    return function


def _copy_row(real: Any, kind: Any) -> Any:
    half = kind == types.float16
    source = memory.pointer(types.uint16 if half else kind)  # Numba has no float16 on the CPU
    size = np.dtype(str(kind)).itemsize
    number = _half if half else _same

    @jit.inline
    def copy(columns, at, stride, target):
        if stride == size:
            row = source(at)
            for j in range(columns):
                target[j] = real(number(row[j]))
        else:
            for j in range(columns):
                target[j] = real(number(source(at + j * stride)[0]))

    return copy


@jit.inline
def _same(value):
    return value


@jit.inline
def _half(value):
    """The float32 of a float16's bits, exactly: exponent and mantissa moved in place, then 2^(127 - 15) times that."""
    bits = np.int32(value & 0x7FFF) << np.int32(13)
    if value & 0x7C00 == 0x7C00:  # infinity, NaN
        magnitude = memory.float_of_bits(bits | np.int32(0x7F800000))
    else:
        magnitude = memory.float_of_bits(bits) * np.float32(2.0**112)
    return -magnitude if value & 0x8000 != 0 else magnitude
