"""The same numbers in every layout of memory that a caller may bring. Gaps hold NaN, so that reading them shows."""

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


WRITABLE = (contiguous, fortran, spread, padded, rows_reversed, reversed_everywhere, misaligned)
LAYOUTS = (*WRITABLE, read_only)
