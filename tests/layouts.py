"""The same numbers in every layout of memory that a caller may bring. Gaps hold NaN, so that reading them shows."""

import itertools
from collections.abc import Sequence

import numpy as np


def _gaps(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.full(shape, np.nan if dtype.kind == "f" else 0, dtype)


def contiguous(a: np.ndarray) -> np.ndarray:
    """Rows one after another."""
    return a.copy(order="C")


def fortran(a: np.ndarray) -> np.ndarray:
    """Columns one after another: the transpose of an array in C order."""
    return a.copy(order="F")


def spread(a: np.ndarray) -> np.ndarray:
    """Every second row of every third column of a larger array."""
    larger = _gaps(tuple(n * step for n, step in zip(a.shape, (2, 3))), a.dtype)
    view = larger[tuple(slice(None, None, step) for step in (2, 3)[: a.ndim])]
    view[...] = a
    return view


def padded(a: np.ndarray) -> np.ndarray:
    """The middle of a larger array: a unit stride, and rows further apart than they are long."""
    larger = _gaps(tuple(n + 5 for n in a.shape), a.dtype)
    view = larger[tuple(slice(2, 2 + n) for n in a.shape)]
    view[...] = a
    return view


def rows_reversed(a: np.ndarray) -> np.ndarray:
    """A negative stride between rows."""
    return a[::-1].copy()[::-1]


def reversed_everywhere(a: np.ndarray) -> np.ndarray:
    """Negative strides along every axis."""
    backwards = (slice(None, None, -1),) * a.ndim
    return a[backwards].copy()[backwards]


def misaligned(a: np.ndarray) -> np.ndarray:
    """Elements at addresses that are no multiple of their size."""
    raw = np.empty(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def read_only(a: np.ndarray) -> np.ndarray:
    """An array that may not be written to."""
    view = a.copy()
    view.flags.writeable = False
    return view


def strided(a: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Elements `steps` apart along each axis; with a step of 0 the first one stands for all of that axis."""
    larger = _gaps(tuple(max(1, n * abs(step)) for n, step in zip(a.shape, steps)), a.dtype)
    view = larger[tuple(slice(None, None, step or 1) for step in steps)]
    view[...] = a[tuple(slice(None if step else 1) for step in steps)]
    strides = [stride if step else 0 for stride, step in zip(view.strides, steps)]
    return np.lib.stride_tricks.as_strided(view, a.shape, strides)


def lone_strides(a: np.ndarray) -> np.ndarray:
    """Where an axis has one element, a stride along it that says nothing: an odd number of bytes, far outside."""
    strides = [stride if n > 1 else 1_000_003 for n, stride in zip(a.shape, a.strides)]
    return np.lib.stride_tricks.as_strided(a.copy(), a.shape, strides)


def every(a: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers of an array that is not empty in all layouts, by name."""
    found = {f"steps {steps}": strided(a, steps) for steps in itertools.product((1, -1, 2, 0), repeat=a.ndim)}
    return found | {layout.__name__: layout(a) for layout in (fortran, padded, misaligned, read_only, lone_strides)}


def memory_of(view: np.ndarray) -> np.ndarray:
    """The array that owns what a view shows, gaps included."""
    while view.base is not None:
        view = view.base
    return view


WRITABLE = (contiguous, fortran, spread, padded, rows_reversed, reversed_everywhere, misaligned)
LAYOUTS = (*WRITABLE, read_only)
