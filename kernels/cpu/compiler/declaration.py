"""What a kernel takes and returns, as annotations say it.

    def function(m: Size, x: Address, ldx: Stride, floor: Real) -> None: ...

A kernel's C function takes its arguments in that order, one word each: int64 where the annotation is one of the words
for `int` below, float64 where it is `float`, the kernel's dtype where it is `Real`. Kernels that have one signature in
common share a protocol, a class whose `__call__` is annotated.
"""

import inspect
from typing import Any, TypeAlias

from numba import types

REAL = {"float32": types.float32, "float64": types.float64}

Size: TypeAlias = int  # how many rows, columns, steps
Index: TypeAlias = int  # which one
Stride: TypeAlias = int  # from one row to the next, in bytes
Address: TypeAlias = int  # 0 stands for none where a kernel says so
Flag: TypeAlias = int  # 1 or 0
Code: TypeAlias = int  # one of a kernel's own numbers for what it can do


class Real(float):
    """A number of the kernel's dtype."""


_TYPES: dict[Any, Any] = {int: types.int64, float: types.float64, None: types.void}


def parameters_of(declared: Any) -> tuple[str, ...]:
    """The names of a function's parameters, or of a protocol's."""
    names = tuple(inspect.signature(_function(declared)).parameters)
    return names[1:] if inspect.isclass(declared) else names


def types_of(declared: Any, real: Any) -> tuple[Any, tuple[Any, ...]]:
    """(what a kernel of dtype `real` returns, its arguments' types), by the annotations of a function or protocol."""
    function, known = _function(declared), _TYPES | {Real: real}
    found = []
    for name in ("return", *parameters_of(declared)):
        annotation = function.__annotations__.get(name, "missing")
        if annotation not in known:
            where = f"{function.__module__}.{function.__qualname__}"
            raise TypeError(f"{where}: the annotation of {name!r} must be int, float, Real or None, got {annotation!r}")
        found.append(known[annotation])
    return found[0], tuple(found[1:])


def _function(declared: Any) -> Any:
    return declared.__call__ if inspect.isclass(declared) else declared
