"""How a network's parameters lie in one flat buffer: per layer w with padded rows, then b, then statistics."""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kernels.engine.network import Network, Stage

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


class _Norm(NamedTuple):
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray | None = None
    variance: np.ndarray | None = None


class Norm(_Norm):
    """Views (O,) into a buffer of what a normalisation has; mean, variance: the running ones, where it keeps them."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        """Take back an array that is here already, as `norm.gamma *= 2` does; refuse any other."""
        if value is not getattr(self, name):
            raise AttributeError(f"{name} cannot be replaced: write into it, as in {name}[...] = values")


@dataclass(frozen=True)
class Layout:
    """Where each stage's w, b and statistics lie in the flat buffer of a network: offsets in elements.

    widths: of the inputs and of each stage's outputs. strides: those of rows of these widths.
    """

    stages: tuple[Stage, ...]
    dtype: str
    widths: tuple[int, ...]
    strides: tuple[int, ...]
    w_offsets: tuple[int, ...]
    b_offsets: tuple[int, ...]
    statistics: tuple[int, ...]  # offsets of the first one of each stage
    size: int

    @classmethod
    def of(cls, network: Network, dtype: str) -> "Layout":
        widths = (network.inputs, *(stage.outputs for stage in network.stages))
        strides = tuple(leading_dimension(width, np.dtype(dtype).itemsize) for width in widths)
        w_offsets, b_offsets, statistics, at = [], [], [], 0
        for stage, stride in zip(network.stages, strides[1:], strict=True):
            w_offsets.append(at)
            at += stage.w_rows * stride
            b_offsets.append(at)
            at += stride if stage.layer.bias else 0
            statistics.append(at)
            at += stage.layer.statistics * stride
        return cls(
            network.stages, dtype, widths, strides, tuple(w_offsets), tuple(b_offsets), tuple(statistics), at
        )  # fmt: skip

    @property
    def bias(self) -> bool:
        """Whether the last layer has a bias; all dense ones of a perceptron have one, or none has."""
        return self.stages[-1].layer.bias

    def weights(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (I, O) of each dense layer's weights."""
        return [w for stage, (w, *_) in self.arrays(flat) if stage.is_dense]

    def biases(self, flat: np.ndarray) -> list[np.ndarray]:
        """Views (O,) of each dense layer's bias; an empty list for a network without."""
        return [b for stage, (_, *rest) in self.arrays(flat) if stage.is_dense for b in rest]

    def norms(self, flat: np.ndarray) -> list[Norm]:
        """What each normalisation has."""
        return [Norm(w[0], *rest) for stage, (w, *rest) in self.arrays(flat) if not stage.is_dense]

    def arrays(self, flat: np.ndarray) -> list[tuple[Stage, tuple[np.ndarray, ...]]]:
        """Each stage with views: its w, its b (O,) where there is one, and its statistics (O,)."""
        found = []
        for n, stage in enumerate(self.stages):
            columns, stride, first = self.widths[n + 1], self.strides[n + 1], self.w_offsets[n]
            w = flat[first : self.b_offsets[n]].reshape(stage.w_rows, stride)[:, :columns]
            vectors = [self.b_offsets[n]] * stage.layer.bias
            vectors += [self.statistics[n] + k * stride for k in range(stage.layer.statistics)]
            found.append((stage, (w, *(flat[at : at + columns] for at in vectors))))
        return found
