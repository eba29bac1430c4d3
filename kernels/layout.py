"""How a network's parameters lie in one flat buffer: per layer w (I, O) with padded rows, then b (O,)."""

import ctypes
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Rows start at multiples of the widest register. A row stride that is a multiple of 1 KiB would map the rows of a
# block onto a few cache sets, so one register more is added there: 65 -> 108 GFLOP/s for a forward product of 512 x
# 1024 x 2048 on 2 cores of AMD Zen 4.
ALIGNMENT = 64


def leading_dimension(columns: int, itemsize: int) -> int:
    """The row stride, in elements, of a matrix with `columns` columns."""
    stride = -(-columns * itemsize // ALIGNMENT) * ALIGNMENT
    if stride % 1024 == 0:
        stride += ALIGNMENT
    return stride // itemsize


def address(array: np.ndarray) -> int:
    """The address of an array's first element."""
    if _HEADER == 0:
        return int(array.ctypes.data)
    return ctypes.c_void_p.from_address(id(array) + _HEADER).value or 0


# array.ctypes.data takes 0.7 us, reading the field itself 0.15 us: every NumPy so far has the pointer to the data first
# in the object, after what all objects begin with. Should one have it elsewhere, `address` asks NumPy.
_HEADER = object.__basicsize__
_example = np.zeros(1)
if address(_example) != _example.ctypes.data:
    _HEADER = 0


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A new array whose first byte is aligned to a register, which a store then seldom straddles."""
    return _aligned(np.empty, shape, np.dtype(dtype))


def aligned_zeros(n: int, dtype: Any) -> np.ndarray:
    """A zero array of n elements whose first byte is aligned to a register."""
    return _aligned(np.zeros, (n,), np.dtype(dtype))


def _aligned(make: Callable[..., np.ndarray], shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    raw = make(math.prod(shape) * dtype.itemsize + ALIGNMENT, np.uint8)
    return np.ndarray(shape, dtype, raw, -address(raw) % ALIGNMENT)


def aligned_copy(array: np.ndarray) -> np.ndarray:
    """A copy of an array (n,) whose first byte is aligned to a register."""
    copy = aligned_zeros(len(array), array.dtype)
    copy[...] = array
    return copy


@dataclass(frozen=True)
class Layout:
    """Offsets, in elements, of every layer's w and b in the flat buffer of a network with these widths."""

    widths: tuple[int, ...]
    dtype: str
    bias: bool
    strides: tuple[int, ...]  # row stride of a matrix with widths[i] columns
    w_offsets: tuple[int, ...]
    b_offsets: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, widths: Sequence[int], dtype: str, bias: bool = True) -> "Layout":
        strides = tuple(leading_dimension(width, np.dtype(dtype).itemsize) for width in widths)
        w_offsets, b_offsets, at = [], [], 0
        for rows, stride in zip(widths, strides[1:]):
            w_offsets.append(at)
            at += rows * stride
            b_offsets.append(at)
            at += stride if bias else 0
        return cls(tuple(widths), dtype, bias, strides, tuple(w_offsets), tuple(b_offsets), at)

    def weights(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (I, O) of each layer's weights."""
        views = []
        for i, (rows, columns) in enumerate(zip(self.widths, self.widths[1:])):
            at, stride = self.w_offsets[i], self.strides[i + 1]
            views.append(flat[at : at + rows * stride].reshape(rows, stride)[:, :columns])
        return views

    def biases(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (O,) of each layer's bias; an empty list for a network without."""
        if not self.bias:
            return []
        return [flat[at : at + columns] for at, columns in zip(self.b_offsets, self.widths[1:], strict=True)]
