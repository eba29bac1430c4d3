import warnings

import numpy as np
import pytest

from fastnn.tables.baseline import Measured, warn_if_worse
from fastnn.tables.targets import Target

FORMULAS = {
    "mean_squared_error": lambda error: error**2,
    "absolute_error": np.abs,
    ("huber", 0.5): lambda error: np.where(np.abs(error) <= 0.5, error**2 / 2, 0.5 * (np.abs(error) - 0.25)),
    ("quantile", 0.9): lambda error: np.where(error < 0, -0.9 * error, 0.1 * error),
}


def warned_of(metrics, y, loss=None, seen=None, classes=("no", "yes"), stopped_early=False):
    """What is said of a model that has these metrics on rows held out, and none on those learnt from."""
    names = None if y.ndim == 2 else classes
    target = Target("y", names, np.zeros(1), np.ones(1))
    measured = [Measured("the rows learnt from", {}, y if seen is None else seen), Measured("new rows", metrics, y)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_worse(measured, target, loss, stopped_early=stopped_early)
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(("loss", "answer"), [
    ("mean_squared_error", "the mean"), ("absolute_error", "the median"), (("huber", 0.5), "the median"),
    (("quantile", 0.9), "the 0.9 quantile"), (("quantile", 0.5), "the median"),
])  # fmt: skip
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_constant_is_the_best_one_for_the_loss(monkeypatch, loss, answer, n_outputs):
    monkeypatch.setattr("fastnn.tables.baseline.BLOCK_ROWS", 7)
    rng = np.random.default_rng(n_outputs)
    seen = rng.gamma(1, 3, (101, n_outputs)).astype(np.float32)
    y = rng.gamma(2, 3, (40, n_outputs)).astype(np.float32)
    level = loss[1] if loss[0] == "quantile" else 0.5
    constant = seen.mean(0, dtype=np.float64) if answer == "the mean" else np.quantile(seen, level, axis=0)
    formula = FORMULAS.get(loss, lambda error: np.abs(error) / 2)
    theirs = float(formula(constant - y.astype(np.float64)).mean())
    assert warned_of({"loss": theirs * (1 - 1e-9)}, y, loss, seen) == []
    (said,) = warned_of({"loss": theirs * (1 + 1e-9)}, y, loss, seen)
    assert said.startswith(f"on new rows the model is worse than always saying {answer}: loss {theirs:.4g} against")
    if answer != "the mean" and loss[0] != "huber":
        # No other number is better on the rows learnt from.
        best = formula(constant - seen.astype(np.float64)).mean(axis=0)
        others = formula(seen[:, None].astype(np.float64) - seen).mean(axis=1)
        assert (best <= others.min(axis=0) * (1 + 1e-12)).all()


def test_a_sum_over_rows_stays_a_sum(monkeypatch):
    monkeypatch.setattr("fastnn.tables.baseline.BLOCK_ROWS", 3)
    y = np.arange(8, dtype=np.float32)[:, None]
    assert warned_of({"loss": 41.9}, y, "sum_squared_error") == []  # 2 (3.5^2 + 2.5^2 + 1.5^2 + 0.5^2) = 42
    assert len(warned_of({"loss": 42.1}, y, "sum_squared_error")) == 1


def test_the_class_is_the_most_frequent_one_of_the_rows_learnt_from():
    seen, y = np.array([1, 1, 1, 0]), np.array([0, 0, 1, 0])
    assert warned_of({"accuracy": 0.25}, y, seen=seen) == []
    (said,) = warned_of({"accuracy": 0.24}, y, seen=seen, stopped_early=True)
    assert said == (
        "on new rows the model is worse than always saying 'yes': accuracy 0.24 against 0.25; "
        "try --l2 0.001, --dropout 0.2 or narrower --layers"
    )
