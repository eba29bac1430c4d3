"""Records: memory that Python writes and compiled code reads, by the same names.

A record class lists its fields with their types:

    @record_class
    class Phase(Record):
        operation: Code  # what is done
        rows: Size  # of each tile

Python makes one with `Phase.from_buffer(memory)` and writes `phase.rows = 8`. NumPy has arrays of `dtype_of(Phase)`.
Compiled code gets the record at an address from `record_at(Phase)` and reads `phase.rows`.

A field of type `int`, or of one of the words for it in declaration.py or below, is an int64. A `float` is a float64.
"""

import ctypes
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_type_hints

import numpy as np

from kernels import deferred
from kernels.cpu.compiler.attributes import pointer_of
from kernels.deferred import intrinsic, types

numpy_support = deferred.module("numba.np.numpy_support")

CACHE_LINE = 64  # bytes
_OWN_LINE = "on a cache line of its own"

Shared = Annotated[int, _OWN_LINE]  # a word that all threads write

_C_TYPES: dict[type, Any] = {int: ctypes.c_int64, float: ctypes.c_double}


class Record(ctypes.Structure):
    """The base of all record classes."""


R = TypeVar("R", bound=type[Record])


def record_class(cls: R) -> R:
    """Lay out a record class by its annotations, in their order. With a Shared field it fills whole cache lines."""
    fields: list[tuple[str, Any]] = []
    words, line = 0, CACHE_LINE // 8
    hints = get_type_hints(cls, include_extras=True)
    shared = {name for name, hint in hints.items() if _OWN_LINE in getattr(hint, "__metadata__", ())}

    def fill_line() -> None:
        nonlocal words
        if words % line:
            fields.append((f"_unused_{words}", ctypes.c_int64 * (line - words % line)))
            words += line - words % line

    for name, kind in get_type_hints(cls).items():
        if name in shared or (fields and fields[-1][0] in shared):
            fill_line()
        fields.append((name, _C_TYPES[kind]))
        words += 1
    if shared:
        fill_line()
    cls._fields_ = fields
    return cls


def dtype_of(cls: type[Record]) -> np.dtype:
    """NumPy's dtype of a record class."""
    names = [name for name, *_ in cls._fields_ if not name.startswith("_")]
    formats = [np.dtype(kind) for name, kind, *_ in cls._fields_ if not name.startswith("_")]
    offsets = [offset(cls, name) for name in names]
    described: Any = {"names": names, "formats": formats, "offsets": offsets, "itemsize": ctypes.sizeof(cls)}
    return np.dtype(described, align=True)


def offset(cls: type[Record], name: str) -> int:
    """Bytes from the beginning of a record to a field."""
    return int(getattr(cls, name).offset)


def record_at(cls: type[Record]) -> Callable[..., Any]:
    """An intrinsic: address (int64) -> the record of this class that lies there."""
    return record_of(dtype_of(cls))


def record_of(dtype: np.dtype) -> Callable[..., Any]:
    """An intrinsic: address (int64) -> the record of this structured dtype that lies there."""

    @intrinsic
    def as_record(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return pointer_of(builder, args[0], context.get_value_type(sig.return_type))

        return numpy_support.from_dtype(dtype)(types.int64), codegen

    return as_record


@intrinsic
def record_address(typingctx: Any, record: Any) -> Any:
    """The address (int64) of a record."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], context.get_value_type(types.int64))

    return types.int64(record), codegen
