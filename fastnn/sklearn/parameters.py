"""What the estimators are told: kept as it is by `__init__`, checked by `fit`."""

import math
import numbers
from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.utils import check_array

from fastnn import optimizers
from fastnn.inputs import architectures
from kernels.declarations.ranges import check_count, check_number
from kernels.optimizers.declaration import check_clip_norm

SOLVERS = ("lbfgs", "sgd", "adam")  # scikit-learn's; besides these all optimisers that are known
SCHEDULES = ("constant", "invscaling", "adaptive")


def store(estimator: Any, arguments: dict[str, Any]) -> None:
    """Keep the arguments of `__init__`, as they are, under their names."""
    for name, value in arguments.items():
        if name != "self":
            setattr(estimator, name, value)


def check(estimator: Any) -> list[int]:
    """Raise ValueError or TypeError naming the parameter that is wrong. Returns the hidden layers' widths."""
    sizes = estimator.hidden_layer_sizes
    hidden = list(sizes) if isinstance(sizes, Iterable) else [sizes]
    for size in hidden:
        if isinstance(size, numbers.Real) and size <= 0:
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}")
        check_count("hidden_layer_sizes", size)
    architectures.activations(estimator.activation, len(hidden))
    architectures.dropout(estimator.dropout, len(hidden))
    check_choice("solver", estimator.solver, tuple(dict.fromkeys((*SOLVERS, *optimizers.known))))
    if not callable(estimator.learning_rate):
        check_choice("learning_rate", estimator.learning_rate, SCHEDULES)
    for name in ("alpha", "tol", "power_t"):
        check_number(name, getattr(estimator, name), 0)
    for name in ("learning_rate_init", "epsilon"):
        check_number(name, getattr(estimator, name), 0, closed="neither")
    check_clip_norm("clip_norm", estimator.clip_norm)
    check_number("momentum", estimator.momentum, 0, 1)
    for name in ("beta_1", "beta_2", "validation_fraction"):
        check_number(name, getattr(estimator, name), 0, 1, closed="left")
    for name in ("max_iter", "max_fun", "batch_size", "n_iter_no_change", "threads"):
        value = getattr(estimator, name)
        if (name, value) not in (("batch_size", "auto"), ("n_iter_no_change", math.inf), ("threads", None)):
            check_count(name, value)
    for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
        value = getattr(estimator, name)
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name} must be True or False, got {value!r}")
    if not isinstance(estimator.verbose, (bool, np.bool_)):
        check_count("verbose", estimator.verbose, 0)
    return [int(size) for size in hidden]


def check_for_lbfgs(estimator: Any, validated: bool) -> None:
    """Raise ValueError for what the solver lbfgs can do nothing with."""
    given = {
        "dropout": np.any(estimator.dropout), "clip_norm": estimator.clip_norm is not None,
        "callbacks": bool(estimator.callbacks), "X_val": validated,
        "a schedule as learning_rate": callable(estimator.learning_rate),
    }  # fmt: skip
    for name, there in given.items():
        if there:
            raise ValueError(f"{name} needs the solver 'adam' or 'sgd', which have batches and epochs, got 'lbfgs'")


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def row_weights(value: Any, n_rows: int, name: str = "sample_weight") -> np.ndarray | None:
    """One float64 weight per row, or None for none: they must be finite, >= 0 and not all 0."""
    if value is None:
        return None
    if isinstance(value, numbers.Real):
        value = np.full(n_rows, value)
    weight = check_array(value, ensure_2d=False, dtype=np.float64, order="C", input_name=name)
    if weight.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), got {weight.shape}")
    if weight.min() < 0 or weight.sum() == 0:
        raise ValueError(f"{name} must be >= 0 and not all zero, got a minimum of {weight.min()}")
    return weight.view()  # see inputs.array
