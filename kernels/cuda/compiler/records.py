"""Records: words of an array that Python writes and kernels read, by the same names.

A record class lists its fields, each of which is an element of the array that the record lies in:

    @record_class
    class Product(Record):
        m: Size  # rows of c
        bias: Offset = 0

Python makes one with `Product(m=8)`, and arrays of `words(...)`. Kernels get the record in an array from
`record_at(Product)` and read `product.m`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, dataclass_transform

import numpy as np
from numba import from_dtype, types

from kernels.cuda.compiler.target import SIMULATED


class Record:
    """The base of all record classes."""

    names: ClassVar[tuple[str, ...]]  # of the fields, in their order


R = TypeVar("R", bound=Record)


@dataclass_transform(kw_only_default=True)
def record_class(cls: type[R]) -> type[R]:
    """Make a dataclass of a class's annotated fields, which are given by name."""
    made = dataclasses.dataclass(kw_only=True)(cls)
    made.names = tuple(field.name for field in dataclasses.fields(made))  # type: ignore[arg-type]
    return made


def size(cls: type[Record]) -> int:
    """How many elements a record takes."""
    return len(cls.names)


def words(*records: Record) -> list[int]:
    """The fields of these records, one after the other."""
    return [int(getattr(record, name)) for record in records for name in record.names]


def rows(record: Record, n: int) -> np.ndarray:
    """A table (n, size) of float64, with a record in each row. A field may be an array (n,)."""
    return np.stack([np.broadcast_to(np.float64(getattr(record, name)), n) for name in record.names], axis=1)


def record_at(cls: type[Record]) -> Callable[..., Any]:
    """f(array, at): the record of this class whose fields are array[at], array[at + 1] and so on."""
    if SIMULATED:
        return _view(cls)

    from numba.cuda.extending import intrinsic

    @intrinsic
    def record(typingctx: Any, array: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(sig.args[0])(context, builder, args[0]).data
            first = builder.gep(data, [context.cast(builder, args[1], sig.args[1], types.int64)])
            return builder.bitcast(first, context.get_value_type(sig.return_type))

        return _record_type(cls, array.dtype)(array, at), codegen

    return record


def _record_type(cls: type[Record], element: Any) -> Any:
    """Numba's type of a record whose fields are elements of this type."""
    return from_dtype(np.dtype([(name, str(element)) for name in cls.names], align=True))


def _view(cls: type[Record]) -> Callable[..., Any]:
    """What `record_at` is in the simulator: f(array, at), an object that reads and writes the array."""

    def field(n: int) -> property:
        def read(view: Any) -> Any:
            return view._array[view._at + n]

        def write(view: Any, value: Any) -> None:
            view._array[view._at + n] = value

        return property(read, write)

    def start(view: Any, array: Any, at: int) -> None:
        view._array, view._at = array, at

    fields = {name: field(n) for n, name in enumerate(cls.names)}
    return type(f"{cls.__name__}View", (), {"__slots__": ("_array", "_at"), "__init__": start, **fields})
