"""What a user's own @njit code passes to a kernel: its types, checked when that code is compiled; how arrays lie."""

import functools
from typing import Any

from numba import types
from numba.core.errors import TypingError

from kernels.activations import ACTIVATIONS, Activation
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import DTYPES

_NONE = (types.NoneType, types.Omitted)


def is_none(kind: Any) -> bool:
    """Whether an argument is None or left out."""
    return kind is None or isinstance(kind, _NONE)


def check_array(kind: Any, name: str, ndim: int, function: str) -> None:
    """An array of real numbers."""
    if not isinstance(kind, types.Array) or kind.ndim != ndim or str(kind.dtype) not in DTYPES:
        wanted = f"a float32 or float64 array of {ndim} dimension{'s' * (ndim > 1)}"
        raise TypingError(f"{function}: {name} must be {wanted}, got {kind}")


def check_given(kind: Any, name: str, function: str) -> None:
    """What has a default in Python's call, and must be there all the same."""
    if is_none(kind):
        raise TypingError(f"{function}: {name} must be given")


def check_written(kind: Any, name: str, ndim: int, function: str) -> None:
    """An output: given, since compiled code allocates nothing, and writable."""
    if is_none(kind):
        raise TypingError(f"{function}: {name} must be given inside compiled code, where nothing is allocated")
    check_array(kind, name, ndim, function)
    if not kind.mutable:
        raise TypingError(f"{function}: {name} must be writable, got {kind}")


def one_dtype(function: str, **kinds: Any) -> Any:
    """The dtype that all arrays have."""
    dtypes = {name: kind.dtype for name, kind in kinds.items() if not is_none(kind)}
    if len(set(dtypes.values())) > 1:
        got = ", ".join(f"{name} {dtype}" for name, dtype in dtypes.items())
        raise TypingError(f"{function}: all arrays must have one dtype, got {got}")
    return next(iter(dtypes.values()))


def declared(activation: Any, function: str) -> Activation:
    """An activation, whose name is part of the caller's code."""
    value = getattr(activation, "literal_value", None) or getattr(activation, "value", None) or activation
    if value not in ACTIVATIONS:
        known = ", ".join([*ACTIVATIONS, *ACTIVATIONS.aliases])
        raise TypingError(f"{function}: activation must be a literal string, one of {known}; got {value}")
    ACTIVATIONS.kept.add(ACTIVATIONS.canonical(value))  # Numba compiles a call once in a process
    return ACTIVATIONS[value]


@jit.plain
def at(array):
    """The address of an array's first element."""
    return types.int64(array.ctypes.data)


@functools.cache
def row_stride(function: str, name: str, written: bool = False) -> Any:
    """f(array): bytes between the rows of this argument; raises for columns that are not next to each other, and for
    rows that overlap where they are written.
    """
    message = f"{function}: {name} must have a unit stride along its last axis"
    overlap = f"{function}: {name} must have strides that keep its elements apart"

    @jit.plain
    def stride(array):
        if array.shape[-1] > 1 and array.strides[-1] != array.itemsize and array.size > 0:
            raise ValueError(message)
        if written and array.shape[0] > 1 and abs(array.strides[0]) < array.shape[-1] * array.itemsize:
            raise ValueError(overlap)
        return array.strides[0]

    return stride


@functools.cache
def rows_of(function: str, name: str, ndim: int, written: bool = False) -> Any:
    """f(array): (rows, columns, bytes between rows) of this argument; a vector, a bias say, is one row."""
    stride = row_stride(function, name, written and ndim == 2)

    @jit.plain
    def of_matrix(array):
        return array.shape[0], array.shape[1], stride(array)

    @jit.plain
    def of_vector(array):
        stride(array)
        return 1, array.shape[0], 0

    return of_vector if ndim == 1 else of_matrix
