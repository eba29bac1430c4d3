"""Weights of rows, and of classes, checked and made one float64 number a row."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn.inputs.arrays import array, check_finite, on_host
from fastnn.inputs.labels import Targets
from kernels.declarations.ranges import check_number

_BLOCK_LABELS = 1 << 16


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
