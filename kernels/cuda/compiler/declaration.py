"""What a kernel takes, as annotations say it.

    def function(z: Array[Real], y: Array[Real], rows: Size, columns: Size, ldz: Stride, ldy: Stride) -> None: ...

A kernel takes its arguments in that order: int64 where the annotation is one of the words for `int` below, and a
contiguous array (n,) where it is an Array. Kernels that have one signature in common share a protocol, a class whose
`__call__` is annotated. The fields of records are declared by the same words.
"""

import inspect
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, get_args, get_origin

from numba import types

Size: TypeAlias = int  # how many rows, columns, steps
Index: TypeAlias = int  # which one
Offset: TypeAlias = int  # where something begins in an array, in elements
Stride: TypeAlias = int  # from one row, or one part, to the next, in elements
Flag: TypeAlias = int  # 1 or 0
Code: TypeAlias = int  # one of a list of constants

Real = Annotated[Any, "a number of the kernel's dtype; in records.rows also an array of one for each row"]


class Data:
    """A number of the type that a caller's array has; the kernel's factory names it."""


Element = TypeVar("Element")


class Array(Generic[Element]):
    """A contiguous array (n,), as a kernel's body sees it: of int64, float64, Real or Data."""

    def __getitem__(self, at: Offset) -> Any:
        """An element."""

    def __setitem__(self, at: Offset, value: Any) -> None:
        """Write an element."""


def parameters_of(declared: Any) -> tuple[str, ...]:
    """The names of a function's parameters, or of a protocol's."""
    names = tuple(inspect.signature(_function(declared)).parameters)
    return names[1:] if inspect.isclass(declared) else names


def types_of(declared: Any, real: Any, data: Any = None) -> tuple[Any, ...]:
    """The types of a kernel's arguments, by the annotations of a function or protocol. real, data: Real and Data."""
    function, elements = _function(declared), {int: types.int64, float: types.float64, Real: real}
    elements |= {} if data is None else {Data: data}
    found: list[Any] = []
    for name in parameters_of(declared):
        annotation = function.__annotations__.get(name, "missing")
        if annotation is int:
            found.append(types.int64)
        elif get_origin(annotation) is Array and get_args(annotation)[0] in elements:
            found.append(types.Array(elements[get_args(annotation)[0]], 1, "C"))
        else:
            where = f"{function.__module__}.{function.__qualname__}"
            wanted = f"int, or an Array of int, float{' or Real' if data is None else ', Real or Data'}"
            raise TypeError(f"{where}: the annotation of {name!r} must be {wanted}, got {annotation!r}")
    return tuple(found)


def _function(declared: Any) -> Any:
    return declared.__call__ if inspect.isclass(declared) else declared
