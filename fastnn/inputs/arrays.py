"""What people pass in, checked and made ready for compiled code. Nothing is changed before everything is checked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels import arrays
from kernels.losses import LossChoice, loss_and_parameter
from kernels.ranges import check_number

_BLOCK_LABELS = 1 << 16
_BLOCK_BYTES = 1 << 24  # of an array that is looked through at a time, so that a memory map stays one


@dataclass(frozen=True)
class Targets:
    """Targets as the engine reads them.

    values: labels (n,), integers in this machine's byte order, or numbers (n, outputs). metric: what accuracy counts,
    see METRICS in kernels.engine.codes; None where there is no accuracy. labels: the labels (n,) if those were given.
    """

    values: Any
    metric: str | None
    labels: Any


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


def targets(
    y: Any, n_rows: int, n_outputs: int, output: str, loss: LossChoice, name: str = "y", *, dtype: str = "float64"
) -> Targets:
    """y for a network with these outputs: labels, one-hot rows or probabilities, several labels, or numbers.

    dtype: what numbers are to be converted to, and must be finite in.
    """
    values = array(y, name)
    if values.ndim not in (1, 2) or len(values) != n_rows:
        raise ValueError(f"{name} must have {n_rows} rows, one for each row of X, got shape {values.shape}")
    if values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "iub" and n_outputs > 1:
        values = values.reshape(len(values))
    classes = output in ("softmax", "sigmoid")
    if values.ndim == 1 and n_outputs > 1:
        return _from_labels(values, n_outputs, classes, loss, name)
    if values.ndim == 1:
        values = values.reshape(len(values), 1)
    if values.shape[1] != n_outputs:
        raise ValueError(f"{name} must have {n_outputs} columns, one for each output, got shape {values.shape}")
    check_finite(values, name, dtype)
    low, high = bounds(values) if len(values) and classes else (0, 0)
    if low < 0 or high > 1:
        got = f"numbers from {low} to {high}"
        if isinstance(values, np.ndarray):
            bad = np.argwhere((values < 0) | (values > 1))[0]
            got = f"{values[tuple(bad)]} at [{bad[0]}, {bad[1]}]"
        raise ValueError(f"{name} must lie in [0, 1] for {output} outputs, got {got}")
    if not classes:
        check_numbers(values, loss, name)
    labels = None
    if n_outputs == 1 and classes and values.dtype.kind in "iub":
        labels = values.reshape(len(values))
    metric = None if not classes else ("largest" if output == "softmax" else "outputs")
    return Targets(values, metric, labels)


def check_numbers(values: Any, loss: LossChoice, name: str = "y") -> None:
    """Raise ValueError for numbers (n, outputs) that the loss does not take."""
    declared, _ = loss_and_parameter(loss)
    targets, got = declared.targets, ""
    if targets.only:
        got = targets.other(on_host(values))
    elif targets.must and len(values):
        low, high = bounds(values)
        got = f"{low}" if low < targets.least else f"{high}" if high > targets.most else ""
    if got:
        raise ValueError(f"{name} must {targets.must} for loss {declared.name!r}, got {got}")


def _from_labels(values: Any, n_outputs: int, classes: bool, loss: LossChoice, name: str) -> Targets:
    if not classes:
        raise ValueError(f"{name} must have {n_outputs} columns, one for each output, got shape {values.shape}")
    if values.dtype.kind not in "iub":
        raise TypeError(f"{name} must hold integer labels or have {n_outputs} columns, got dtype {values.dtype}")
    low, high = bounds(values) if len(values) else (0, 0)
    if low < 0 or high >= n_outputs:
        got = f"labels from {low} to {high}"
        if isinstance(values, np.ndarray):
            bad = int(np.flatnonzero((values < 0) | (values >= n_outputs))[0])
            got = f"{values[bad]} at [{bad}]"
        raise ValueError(f"{name} must hold labels from 0 to {n_outputs - 1}, got {got}")
    takes_labels = loss_and_parameter(loss)[0].targets.labels
    if not isinstance(values, np.ndarray):
        if takes_labels:
            return Targets(values, "label", values)
        values = values.read()
    # As an index, NumPy takes booleans for a mask
    labels = values.astype(np.uint8 if values.dtype == bool else values.dtype.newbyteorder("="), copy=False)
    if takes_labels:
        return Targets(labels, "label", labels)
    one_hot = np.zeros((len(labels), n_outputs), np.uint8)
    one_hot[np.arange(len(labels)), labels] = 1
    return Targets(one_hot, "largest", labels)


def row_weights(
    sample_weight: Any, class_weight: Any, target: Targets, n_rows: int, name: str = "sample_weight", *,
    dtype: str = "float64",
) -> np.ndarray | None:  # fmt: skip
    """One float64 weight per row, finite in `dtype`, or None when all weigh the same."""
    weights = None
    if sample_weight is not None:
        weights = np.ascontiguousarray(on_host(array(sample_weight, name)), np.float64)
        if weights.shape != (n_rows,):
            raise ValueError(f"{name} must have shape ({n_rows},), got {weights.shape}")
        check_finite(weights, name, dtype)
        if weights.min() < 0 or weights.sum() == 0:
            got = f"a minimum of {weights.min()} and a sum of {weights.sum()}"
            raise ValueError(f"{name} must be >= 0 and not all zero, got {got}")
    if class_weight is None:
        return weights
    labels = _labels(target)
    per_class, by_class = _per_class(class_weight, labels), np.empty(n_rows)
    for block in _blocks(labels):
        by_class[block] = per_class[labels[block]]
    weights = by_class if weights is None else np.multiply(weights, by_class, out=by_class)
    if weights.sum() == 0:
        raise ValueError("class_weight must leave some row a weight, got only zeros for the labels of y")
    return weights


def _labels(target: Targets) -> np.ndarray:
    """The labels (n,) that were given, or those that one-hot rows say."""
    if target.labels is not None:
        labels = on_host(target.labels)
        return labels.astype(np.uint8) if labels.dtype == bool else labels
    rows = on_host(target.values)
    if target.metric is None:
        raise ValueError("class_weight must be None unless y holds integer labels or one-hot rows, got numbers")
    labels = np.empty(len(rows), np.intp)
    for block in _blocks(labels):
        part = rows[block]
        ones = part == 1
        one_hot = (ones | (part == 0)).all(1)
        if part.shape[1] > 1:  # the one column of a single output is 0 or 1
            one_hot &= ones.sum(1) == 1
        if not one_hot.all():
            row = int(one_hot.argmin())
            raise ValueError(
                "class_weight must be None unless y holds integer labels or one-hot rows, with a single 1 and else 0, "
                f"got {part[row]} at [{row + block.start}]"
            )
        labels[block] = ones.argmax(1) if part.shape[1] > 1 else ones[:, 0]
    return labels


def _blocks(labels: np.ndarray) -> Iterator[slice]:
    """Some labels at a time: to count with them, or by them, NumPy copies them to int64."""
    return (slice(start, start + _BLOCK_LABELS) for start in range(0, len(labels), _BLOCK_LABELS))


def _per_class(class_weight: Any, labels: np.ndarray) -> np.ndarray:
    """The weight of each class; "balanced" as in scikit-learn: n / (classes * count), of the classes that occur."""
    counts = np.zeros(int(labels.max()) + 1, np.int64)
    for block in _blocks(labels):
        counts += np.bincount(labels[block], minlength=len(counts))
    if isinstance(class_weight, str) and class_weight == "balanced":
        return np.divide(len(labels), np.count_nonzero(counts) * counts, out=np.zeros(len(counts)), where=counts > 0)
    if not isinstance(class_weight, Mapping):
        raise TypeError(f"class_weight must be a dict of label: weight, 'balanced' or None, got {class_weight!r}")
    per_class = np.ones(len(counts))
    for label, weight in class_weight.items():
        if not isinstance(label, (int, np.integer, np.bool_)) or label < 0:
            raise ValueError(f"class_weight must have labels >= 0 as keys, got {label!r}")
        check_number(f"class_weight[{label}]", weight, 0)
        if label < len(per_class):
            per_class[int(label)] = weight
    return per_class
