"""What a kernel takes and returns, as annotations say it.

    def function(m: Size, x: Address, ldx: Stride, floor: Real) -> None: ...
    def function(z: Matrix[B, O], y: Matrix[B, O]) -> None: ...

A kernel's C function takes its arguments in that order, one word each: int64 where the annotation is one of the words
for `int` below, float64 where it is `float`, the kernel's dtype where it is `Real`. Of matrices it takes first each
letter's size, in the order of their first use, and then each matrix as an address and a stride: the second function
above takes (B, O, z, ldz, y, ldy). Kernels that have one signature in common share a protocol, a class whose `__call__`
is annotated.
"""

import inspect
from typing import Any, Generic, NewType, TypeAlias, TypeVar, get_args, get_origin

from kernels import deferred
from kernels.deferred import types

matrix = deferred.module("kernels.cpu.compiler.matrix")

DTYPES = ("float32", "float64")  # of kernels

Size: TypeAlias = int  # how many rows, columns, steps
Index: TypeAlias = int  # which one
Stride: TypeAlias = int  # from one row, or array, to the next, in bytes
Address: TypeAlias = int  # 0 stands for none where a kernel says so
Flag: TypeAlias = int  # 1 or 0
Code: TypeAlias = int  # one of a kernel's own numbers for what it can do


class Real(float):
    """A number of the kernel's dtype."""


B = NewType("B", int)  # rows of a batch
I = NewType("I", int)  # inputs
O = NewType("O", int)  # outputs

Rows = TypeVar("Rows")
Columns = TypeVar("Columns")


class Matrix(Generic[Rows, Columns]):
    """A matrix of the kernel's dtype whose rows have a unit stride, as a kernel's body sees it."""

    address: Address
    rows: Size
    columns: Size
    stride: Stride

    def __getitem__(self, row: Index) -> Any:
        """A pointer to a row's elements."""


_TYPES = {int: "int64", float: "float64", None: "void"}  # by their names in Numba


def real_of(dtype: str) -> Any:
    """Numba's type of a kernel's dtype."""
    return getattr(types, dtype)


def parameters_of(declared: Any) -> tuple[str, ...]:
    """The names of a function's parameters, or of a protocol's."""
    names = tuple(inspect.signature(_function(declared)).parameters)
    return names[1:] if inspect.isclass(declared) else names


def types_of(declared: Any, real: Any) -> tuple[Any, tuple[Any, ...]]:
    """(what a kernel of dtype `real` returns, its arguments' types), by the annotations of a function or protocol."""
    function, known = _function(declared), _TYPES | {Real: str(real)}
    found = []
    for name in ("return", *parameters_of(declared)):
        annotation = function.__annotations__.get(name, "missing")
        if get_origin(annotation) is Matrix:
            rows, columns = (letter.__name__ for letter in get_args(annotation))
            found.append(matrix.MatrixType(real, (rows, columns)))
        elif annotation in known:
            found.append(getattr(types, known[annotation]))
        else:
            where = f"{function.__module__}.{function.__qualname__}"
            wanted = "int, float, Real, a Matrix or None"
            raise TypeError(f"{where}: the annotation of {name!r} must be {wanted}, got {annotation!r}")
    return found[0], tuple(found[1:])


def _function(declared: Any) -> Any:
    return declared.__call__ if inspect.isclass(declared) else declared
