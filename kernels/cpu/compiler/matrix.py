"""Matrices to Numba and to C: an address, a row stride, and two sizes that are known by letters."""

import operator
from collections.abc import Sequence
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.datamodel import StructModel
from numba.extending import lower_builtin, make_attribute_wrapper, register_model, type_callable

from kernels.cpu.compiler.attributes import pointer_of

FIELDS = ("address", "rows", "columns", "stride")


class MatrixType(types.Type):
    """A matrix of one dtype; the letters of its rows and columns are part of the type."""

    def __init__(self, dtype: Any, letters: tuple[str, str]) -> None:
        self.dtype, self.letters = dtype, letters
        super().__init__(name=f"Matrix({dtype}, {' '.join(letters)})")


@register_model(MatrixType)
class _Model(StructModel):
    def __init__(self, manager: Any, kind: MatrixType) -> None:
        super().__init__(manager, kind, [(name, types.int64) for name in FIELDS])


for _name in FIELDS:
    make_attribute_wrapper(MatrixType, _name, _name)


@type_callable(operator.getitem)
def _type_of_row(context: Any) -> Any:
    def typer(matrix: Any, row: Any) -> Any:
        if isinstance(matrix, MatrixType) and isinstance(row, types.Integer):
            return types.CPointer(matrix.dtype)
        return None

    return typer


@lower_builtin(operator.getitem, MatrixType, types.Integer)
def _row(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A pointer to a row's elements."""
    matrix = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
    row = context.cast(builder, args[1], sig.args[1], types.int64)
    at = builder.add(matrix.address, builder.mul(row, matrix.stride))
    return pointer_of(builder, at, context.get_value_type(sig.return_type))


def flat(argtypes: Sequence[Any]) -> tuple[Any, ...]:
    """What C is given for arguments of these types: each letter's size, in order, then a matrix as address, stride."""
    words = [types.int64 for _ in _letters(argtypes)]
    for kind in argtypes:
        words += [types.int64, types.int64] if isinstance(kind, MatrixType) else [kind]
    return tuple(words)


def gathered(context: Any, builder: Any, argtypes: Sequence[Any], words: Sequence[Any]) -> list[Any]:
    """The arguments of these types, out of the values that C has been given for them."""
    letters, rest, values = _letters(argtypes), iter(words), []
    sizes = {letter: next(rest) for letter in letters}
    for kind in argtypes:
        if not isinstance(kind, MatrixType):
            values.append(next(rest))
            continue
        matrix = cgutils.create_struct_proxy(kind)(context, builder)
        matrix.address, matrix.stride = next(rest), next(rest)
        matrix.rows, matrix.columns = (sizes[letter] for letter in kind.letters)
        values.append(matrix._getvalue())
    return values


def _letters(argtypes: Sequence[Any]) -> list[str]:
    matrices = (kind for kind in argtypes if isinstance(kind, MatrixType))
    return list(dict.fromkeys(letter for matrix in matrices for letter in matrix.letters))
