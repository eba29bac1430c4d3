"""Arrays that people pass in, checked and made ready for compiled code."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels import arrays

_BLOCK_BYTES = 1 << 24  # of an array that is looked through at a time, so that a memory map stays one


def check_device(device: str, **given: Any) -> None:
    """Raise ValueError naming the first of these that lies on a GPU where the model does not."""
    for name, value in given.items():
        if device != "cuda" and arrays.on_cuda(value):
            raise ValueError(f"{name} must be in the host's memory for a model on the {device}, got a CUDA array")


def check_raw(metadata: Mapping[str, Any]) -> None:
    """Raise ValueError for a network whose file tells how `fastnn train` prepared what it has seen: rows are not yet.

    Where the preparation left rows and targets as they were, they are.
    """
    parts: list[Any] = [metadata.get("inputs"), metadata.get("target")]
    lists = [part.get(key) for part in parts if isinstance(part, dict) for key in ("shift", "scale")]
    if len(lists) < 4 or not all(isinstance(numbers, list) for numbers in lists):
        return  # metadata of the caller's own
    if parts[0].get("categories") or any(any(part["shift"]) or any(x != 1 for x in part["scale"]) for part in parts):
        raise ValueError(
            "model has learnt from rows that `fastnn train` had prepared: give raw rows to `fastnn predict` on the "
            "command line, or, where yours are prepared, take model.metadata['inputs'] out first"
        )


def array(value: Any, name: str) -> Any:
    """Real numbers of a type that compiled code reads, a new view of the caller's memory where that can be.

    Those on a GPU stay there.
    """
    return arrays.of("cuda" if arrays.on_cuda(value) else "cpu").placed(value, name)


def on_host(values: Any) -> np.ndarray:
    """An array as NumPy's: copied if it lies on a GPU."""
    return values if isinstance(values, np.ndarray) else values.read()


def bounds(values: Any) -> tuple[Any, Any]:
    """The smallest and the largest number, both NaN where there is one."""
    if isinstance(values, np.ndarray):
        return values.min(), values.max()
    return arrays.of("cuda").bounds(values.flat)


def check_finite(values: Any, name: str, dtype: str = "float64") -> None:
    """Raise ValueError naming the first number of a (n, ...) array that is NaN, infinite or too large for `dtype`."""
    if values.dtype.kind != "f":
        return
    largest = np.finfo(dtype).max
    if not isinstance(values, np.ndarray):
        low, high = bounds(values)
        if not (low >= -largest and high <= largest):
            raise ValueError(f"{name} must be finite in {dtype}, got numbers from {low} to {high}")
        return
    rows = max(1, _BLOCK_BYTES // max(1, values[:1].nbytes))
    for start in range(0, len(values), rows):
        block = values[start : start + rows]
        if block.size == 0 or (block.min() >= -largest and block.max() <= largest):  # a NaN makes both NaN
            continue
        row, *column = np.argwhere(~(np.abs(block) <= largest))[0]
        place = ", ".join(str(i) for i in (row + start, *column))
        raise ValueError(f"{name} must be finite in {dtype}, got {block[(row, *column)]} at [{place}]")


def matrix(
    X: Any, n_columns: int, name: str = "X", *, dtype: str = "float64", finite: bool = True, empty: bool = False
) -> Any:
    """X as (n, n_columns), unless told otherwise with n >= 1 and finite in `dtype`, what it is to be converted to."""
    result = array(X, name)
    if result.ndim != 2:
        hint = f"; for one row pass {name}.reshape(1, -1)" if result.ndim == 1 and name.isidentifier() else ""
        raise ValueError(f"{name} must have 2 dimensions (rows, {n_columns}), got shape {result.shape}{hint}")
    if result.shape[1] != n_columns:
        raise ValueError(f"{name} must have {n_columns} columns, as the network's input, got shape {result.shape}")
    if len(result) == 0 and not empty:
        raise ValueError(f"{name} must have at least one row, got shape {result.shape}")
    if finite:
        check_finite(result, name, dtype)
    return result
