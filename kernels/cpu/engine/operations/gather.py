"""Gathering a batch: rows by index, out of an array of any strides and number type, into the network's dtype."""

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Index, Size, Stride
from kernels.cpu.ir import floats, memory
from kernels.deferred import intrinsic, ir


class Gather(Protocol):
    """target (rows, columns) = source[order[first : first + rows]], converted, overwritten.

    NaN for what is no row of the source. source: element (i, j) at i * row_stride + j * column_stride bytes. order:
    uint32 row numbers, or address 0 for the rows first, first + 1, ...
    """

    def __call__(
        self, rows: Size, columns: Size, source: Address, source_rows: Size, row_stride: Stride,
        column_stride: Stride, order: Address, first: Index, target: Address, ldt: Stride,
    ) -> None: ...  # fmt: skip


def _gather(dtype: np.dtype) -> jit.Family:
    # Numba has no float16, and takes a bool for a single bit
    kind = {"float16": "uint16", "bool": "uint8"}.get(dtype.name, dtype.name)
    source_elements = memory.pointer(kind)
    size = dtype.itemsize
    number = {"float16": _half, "bool": _truth}.get(dtype.name, _same)
    in_order = _same if dtype.isnative else _swapped

    @jit.kernel(like=Gather, name=f"gather_{dtype.name}" + ("" if dtype.isnative else "_swapped"))
    def gather(real: Any) -> Callable[..., Any]:
        numbers_of_rows, elements, nothing = memory.pointer("uint32"), memory.pointer(real), real(float("nan"))

        def function(rows, columns, source, source_rows, row_stride, column_stride, order, first, target, ldt):
            for r in range(rows):
                row = numbers_of_rows(order)[first + r] if order != 0 else first + r
                at, to = source + row * row_stride, elements(target + r * ldt)
                if row >= source_rows:
                    for j in range(columns):
                        to[j] = nothing
                elif column_stride == size:
                    numbers = source_elements(at)
                    for j in range(columns):
                        to[j] = real(number(in_order(numbers[j])))
                else:
                    for j in range(columns):
                        to[j] = real(number(in_order(source_elements(at + j * column_stride)[0])))

        return function

    return gather


@jit.plain
def _same(value):
    return value


@jit.plain
def _truth(value):
    """1 for True, which a view of other bytes may hold as any byte but 0."""
    return 1 if value != 0 else 0


@intrinsic
def _swapped(typingctx: Any, value: Any) -> Any:
    """The number whose bytes are these in the opposite order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = ir.IntType(value.bitwidth)
        return builder.bitcast(builder.bswap(builder.bitcast(args[0], bits)), args[0].type)

    return value(value), codegen


@jit.plain
def _half(value):
    """The float32 of a float16's bits, exactly: exponent and mantissa moved in place, then 2^(127 - 15) times that.

    A subnormal, a multiple of 2^-24, would be one of float32 on the way, which counts as zero in training.
    """
    bits = np.int32(value & 0x7FFF) << np.int32(13)
    if value & 0x7C00 == 0x7C00:  # infinity, NaN
        magnitude = floats.of_bits(bits | np.int32(0x7F800000))
    elif value & 0x7C00 == 0:
        magnitude = np.float32(value & 0x3FF) * np.float32(2.0**-24)
    else:
        magnitude = floats.of_bits(bits) * np.float32(2.0**112)
    return -magnitude if value & 0x8000 != 0 else magnitude


_ELEMENTS = [
    "float16", "float32", "float64", "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
]  # fmt: skip
_DTYPES = [np.dtype(name) for name in _ELEMENTS]
_SWAPPED = [dtype.newbyteorder() for dtype in _DTYPES if dtype.itemsize > 1]  # big-endian ones, on most machines
gathers = {dtype: _gather(dtype) for dtype in _DTYPES + _SWAPPED}  # by what an array's elements are
