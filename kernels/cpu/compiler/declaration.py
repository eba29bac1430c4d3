"""What a kernel takes and returns, as a string of letters."""

from typing import Any

from numba import types

REAL = {"float32": types.float32, "float64": types.float64}
_LETTERS = {"i": types.int64, "d": types.float64, "v": types.void}


def types_of(signature: str, real: Any) -> tuple[Any, tuple[Any, ...]]:
    """(what a kernel of that signature returns, its arguments' types)."""
    letters: dict[str, Any] = {**_LETTERS, "r": real}
    restype, *argtypes = (letters[word[-1]] for word in signature.split() for _ in range(int(word[:-1] or 1)))
    return restype, tuple(argtypes)
