"""fastnn's estimators on the GPU, or in the simulator, beside the CPU."""

import copy
import pickle

import numpy as np
import pytest
from scipy import sparse

from fastnn import MLPClassifier, MLPRegressor
from tests.kernels.cuda import device  # noqa: F401 (skips where there is none)
from tests.oracle import assert_close, network_depth

RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 3))
LABELS = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
DEPTH = 8 * network_depth([3, 4, 1], 12)
OPTIONS = {"hidden_layer_sizes": (4,), "random_state": 0, "max_iter": 3}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # max_iter is small

CASES = {
    "batches": {"batch_size": 5},
    "sgd": {"batch_size": 5, "solver": "sgd", "momentum": 0.9, "learning_rate": "invscaling"},
    "one batch": {},
    "early stopping": {"batch_size": 5, "early_stopping": True, "validation_fraction": 0.25},
    "two layers": {"hidden_layer_sizes": (4, 2), "activation": ["tanh", "relu"], "batch_size": 5, "alpha": 0.1},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_a_classifier_learns_what_it_learns_on_the_cpu(options):
    on_cpu, on_cuda = (MLPClassifier(**{**OPTIONS, **options}, device=name).fit(X, LABELS) for name in ("cpu", "cuda"))
    assert on_cuda.n_iter_ == on_cpu.n_iter_
    assert_close(np.float64(on_cuda.loss_curve_), on_cpu.loss_curve_, "float64", DEPTH)
    for actual, expected in zip(on_cuda.coefs_ + on_cuda.intercepts_, on_cpu.coefs_ + on_cpu.intercepts_, strict=True):
        assert_close(actual, expected, "float64", DEPTH, scale=1.0)
    assert_close(on_cuda.predict_proba(X), on_cpu.predict_proba(X), "float64", DEPTH)
    np.testing.assert_array_equal(on_cuda.predict(X), on_cpu.predict(X))


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_regressor_learns_what_it_learns_on_the_cpu(solver):
    on_cpu, on_cuda = (MLPRegressor(**OPTIONS, solver=solver, device=name).fit(X, X[:, 0]) for name in ("cpu", "cuda"))
    assert_close(on_cuda.predict(X), on_cpu.predict(X), "float64", DEPTH)


def test_where_nothing_improves_both_stop_at_the_same_epoch_with_the_same_weights():
    options = {**OPTIONS, "max_iter": 40, "tol": 1.0, "n_iter_no_change": 4}
    on_cpu, on_cuda = (MLPClassifier(**options, device=name).fit(X, LABELS) for name in ("cpu", "cuda"))
    assert on_cuda.n_iter_ == on_cpu.n_iter_ < 40
    assert_close(on_cuda.coefs_[0], on_cpu.coefs_[0], "float64", DEPTH, scale=1.0)


def test_partial_fit_goes_on_and_so_does_a_copy():
    results = []
    for name in ("cpu", "cuda"):
        model = MLPClassifier(**{**OPTIONS, "batch_size": 5}, device=name)
        model.partial_fit(X, LABELS, classes=["no", "yes"])
        model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
        model.partial_fit(X, LABELS)
        results.append(model.predict_proba(X))
    assert_close(results[1], results[0], "float64", DEPTH)


def test_sparse_data_are_learnt_from():
    on_cpu, on_cuda = (
        MLPClassifier(**{**OPTIONS, "batch_size": 5}, device=name).fit(sparse.csr_matrix(X), LABELS)
        for name in ("cpu", "cuda")
    )
    assert_close(on_cuda.predict_proba(X), on_cpu.predict_proba(X), "float64", DEPTH)
