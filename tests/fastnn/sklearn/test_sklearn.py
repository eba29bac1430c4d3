"""The estimators beside scikit-learn's: the same numbers from the same seed; and what scikit-learn's have not."""

import functools
import pickle

import joblib
import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
import sklearn.neural_network as theirs
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_classification, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_pinball_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import MLPClassifier, MLPRegressor
from fastnn.schedules import CosineDecay, StepDecay
from fastnn.training.learner import Learner
from tests.oracle import random_row_weights

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # scikit-learn 1.7 with SciPy 1.16 and 1.17
    pytest.mark.filterwarnings("ignore:scipy.optimize. The `disp` and `iprint` options:DeprecationWarning"),
]

X, Y = make_classification(450, 12, n_informative=6, n_classes=3, random_state=0)
NAMES = np.array(["ant", "bee", "cow"])[Y]
TWO = Y > 0
X_MULTI, Y_MULTI = make_multilabel_classification(300, 10, n_classes=4, random_state=0)
X_NUMBERS, NUMBERS = load_diabetes(return_X_y=True)
NUMBERS = (NUMBERS - NUMBERS.mean()) / NUMBERS.std()
SEVERAL = np.column_stack([NUMBERS, NUMBERS**2, -NUMBERS])
COUNTS = np.round(np.exp(NUMBERS))
WEIGHT = random_row_weights(1, len(X_NUMBERS))

CLASSIFIERS = [
    {}, {"solver": "sgd"}, {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.1}, {"solver": "sgd", "momentum": 0.0},
    {"solver": "sgd", "nesterovs_momentum": False}, {"shuffle": False}, {"batch_size": 77, "alpha": 1.0},
    {"hidden_layer_sizes": (20, 15, 10), "activation": "tanh"}, {"activation": "logistic"}, {"activation": "identity"},
    {"early_stopping": True, "tol": 1e-2}, {"epsilon": 1e-2}, {"hidden_layer_sizes": ()}, {"hidden_layer_sizes": 7},
    {"n_iter_no_change": 2, "tol": 0.05},
]  # fmt: skip


BRIEF = {"max_iter": 3, "random_state": 0}


def same(ours, reference, rtol=1e-6):
    """What was learnt and what was noted while learning are scikit-learn's."""
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(reference, name), strict=True):
            np.testing.assert_allclose(a, b, rtol, rtol * np.abs(b).max())
            assert a.dtype == b.dtype
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(reference, name), name
    for name in ("loss_", "best_loss_", "loss_curve_", "validation_scores_", "best_validation_score_"):
        assert hasattr(ours, name) == hasattr(reference, name), name
        expected = getattr(reference, name, None)
        if expected is None:
            assert getattr(ours, name, None) is None
        else:
            np.testing.assert_allclose(getattr(ours, name), expected, rtol)
    assert type(ours.loss_) is float


def pair(kind, **options):
    options = {"max_iter": 15, "random_state": 3} | options
    return getattr(fastnn, kind)(**options), getattr(theirs, kind)(**options)


class TestSameAsScikitLearn:
    @pytest.mark.parametrize("options", CLASSIFIERS, ids=str)
    @pytest.mark.parametrize("y", [Y, TWO], ids=["three", "two"])
    def test_classifier(self, options, y):
        ours, reference = (model.fit(X, y) for model in pair("MLPClassifier", **options))
        same(ours, reference)
        np.testing.assert_array_equal(ours.predict(X), reference.predict(X))
        np.testing.assert_allclose(ours.predict_proba(X), reference.predict_proba(X), 1e-5, 1e-9)
        np.testing.assert_allclose(ours.predict_log_proba(X), reference.predict_log_proba(X), 1e-5, 1e-5)
        assert ours.score(X, y) == reference.score(X, y)
        assert list(ours.classes_) == list(reference.classes_)

    @pytest.mark.parametrize(
        "labels", [["ant", "bee", "cow"], [-3, 2, 7], [1.0, 3.0, 4.0], [True, False, True]], ids=str
    )
    def test_labels_of_any_type(self, labels):
        y = np.array(labels)[Y]
        for each in (y, y.astype(object) if y.dtype.kind == "U" else y, y.tolist()):
            ours, reference = (model.fit(X, each) for model in pair("MLPClassifier"))
            same(ours, reference)
            np.testing.assert_array_equal(ours.predict(X), reference.predict(X))
            assert ours.predict(X).dtype == reference.predict(X).dtype

    @pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "sgd"}], ids=str)
    def test_several_labels(self, options):
        ours, reference = (model.fit(X_MULTI, Y_MULTI) for model in pair("MLPClassifier", **options))
        same(ours, reference)
        np.testing.assert_array_equal(ours.predict(X_MULTI), reference.predict(X_MULTI))

    @pytest.mark.parametrize(
        "options",
        [{}, {"solver": "sgd"}, {"early_stopping": True}, {"activation": "logistic", "batch_size": 50},
         {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "max_iter": 60}],
        ids=str,
    )  # fmt: skip
    def test_regressor(self, options):
        ours, reference = (model.fit(X_NUMBERS, NUMBERS) for model in pair("MLPRegressor", **options))
        same(ours, reference)
        np.testing.assert_allclose(ours.predict(X_NUMBERS), reference.predict(X_NUMBERS), 1e-5, 1e-6)

    def test_several_numbers(self):
        """Without a penalty: of its part scikit-learn reports three times as much as its steps follow."""
        ours, reference = (model.fit(X_NUMBERS, SEVERAL) for model in pair("MLPRegressor", alpha=0.0))
        same(ours, reference)
        assert ours.predict(X_NUMBERS).shape == SEVERAL.shape

    def test_poisson(self):
        ours, reference = (model.fit(X_NUMBERS, COUNTS) for model in pair("MLPRegressor", loss="poisson"))
        same(ours, reference)
        assert (ours.predict(X_NUMBERS) > 0).all()
        assert ours.out_activation_ == "exp"

    @pytest.mark.parametrize(
        ("y", "options"),
        [(NUMBERS, {}), (NUMBERS, {"solver": "sgd"}), (NUMBERS, {"early_stopping": True}),
         (SEVERAL, {"alpha": 0.0}), (SEVERAL, {"alpha": 0.0, "solver": "sgd"})],
        ids=str,
    )  # fmt: skip
    def test_the_squared_error_is_a_huber_loss_that_no_error_reaches(self, y, options):
        """Half a square, summed over outputs where steps are made, averaged where it is reported."""
        ours, reference = pair("MLPRegressor", **options)
        same(ours.set_params(loss=("huber", 1e9)).fit(X_NUMBERS, y), reference.fit(X_NUMBERS, y))

    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    def test_sample_weight(self, solver):
        """One batch an epoch: scikit-learn averages the losses of batches by their rows, not by their weights."""
        models = pair("MLPRegressor", solver=solver, batch_size=len(X_NUMBERS))
        ours, reference = (model.fit(X_NUMBERS, NUMBERS, WEIGHT) for model in models)
        same(ours, reference)

    @pytest.mark.parametrize("X_, options", [(X_NUMBERS, {"alpha": 1e-3}), (X_NUMBERS, {"activation": "tanh"})])
    def test_lbfgs(self, X_, options):
        ours, reference = (model.fit(X_, NUMBERS) for model in pair("MLPRegressor", solver="lbfgs", **options))
        same(ours, reference, rtol=1e-4)
        assert ours.n_iter_ == 15

    def test_partial_fit_and_warm_start(self):
        for ours, reference in (pair("MLPClassifier"), pair("MLPClassifier", solver="sgd", learning_rate="invscaling")):
            for model in (ours, reference):
                for rows in (slice(0, 100), slice(100, 350), slice(350, 450)):
                    model.partial_fit(X[rows], NAMES[rows], classes=["ant", "bee", "cow", "dog"])
            same(ours, reference)
            ours, reference = (clone(model).set_params(warm_start=True) for model in (ours, reference))
            for model in (ours, reference):
                model.fit(X, NAMES).fit(X[::-1], NAMES[::-1])
            same(ours, reference)

    def test_float32(self):
        ours, reference = (
            model.fit(X.astype(np.float32), NAMES) for model in pair("MLPClassifier", hidden_layer_sizes=20)
        )
        same(ours, reference, rtol=1e-3)
        assert ours.predict_proba(X.astype(np.float32)).dtype == np.float32

    @pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
    def test_numbers_of_numpy(self, kind):
        """As a grid search passes them, np.arange say."""
        options = {"hidden_layer_sizes": np.array([100, 4]), "batch_size": np.int32(20), "alpha": np.float32(0.5)}
        options |= {"max_iter": np.int64(3), "n_iter_no_change": np.int64(2), "shuffle": np.True_}
        ours, reference = (model.fit(X, Y) for model in pair(kind, **options))
        same(ours, reference)

    @pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
    def test_parameters_and_defaults(self, kind):
        ours, reference = getattr(fastnn, kind)().get_params(), getattr(theirs, kind)().get_params()
        assert {name: ours[name] for name in reference} == reference


class TestLossesOfNumbers:
    """Those that scikit-learn's regressor has not."""

    @pytest.mark.parametrize("y", [NUMBERS, SEVERAL], ids=["one", "several"])
    @pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
    def test_what_is_reported_are_the_metrics_of_scikit_learn(self, y, weight):
        for loss, metric in (
            ("absolute_error", mean_absolute_error),
            (("quantile", 0.9), functools.partial(mean_pinball_loss, alpha=0.9)),
            (("quantile", 0.1), functools.partial(mean_pinball_loss, alpha=0.1)),
        ):
            model = MLPRegressor(loss, max_iter=3, random_state=0)
            model.fit(X_NUMBERS, y, X_val=X_NUMBERS, y_val=y, sample_weight_val=weight)
            expected = metric(y, model.predict(X_NUMBERS), sample_weight=weight)
            assert model.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)

    @pytest.mark.parametrize(
        "options", [{}, {"solver": "sgd", "learning_rate_init": 0.01}, {"solver": "lbfgs"}], ids=str
    )
    @pytest.mark.parametrize("level", [0.1, 0.9])
    def test_quantiles(self, level, options):
        model = MLPRegressor(("quantile", level), 20, random_state=0, max_iter=300, **options)
        model.fit(10 * X_NUMBERS, NUMBERS)
        assert abs((model.predict(10 * X_NUMBERS) > NUMBERS).mean() - level) < 0.04

    @pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
    @pytest.mark.parametrize("loss", ["absolute_error", "huber", ("huber", 0.1)], ids=str)
    def test_outliers(self, loss, solver):
        y = np.where(np.arange(len(NUMBERS)) % 20 == 0, 50.0, NUMBERS)
        options = {"solver": solver, "random_state": 0, "max_iter": 300, "learning_rate_init": 0.01}
        model = MLPRegressor(loss, 20, **options).fit(10 * X_NUMBERS, y)
        assert abs(np.mean(model.predict(10 * X_NUMBERS))) < 0.5
        assert np.mean(MLPRegressor("squared_error", 20, **options).fit(10 * X_NUMBERS, y).predict(10 * X_NUMBERS)) > 2

    def test_where_parameters_go(self):
        losses = ["squared_error", "absolute_error", "huber", ("huber", 0.5), ("quantile", 0.9)]
        search = GridSearchCV(MLPRegressor(max_iter=3), {"loss": losses}, cv=2).fit(X_NUMBERS, NUMBERS)
        assert list(search.cv_results_["param_loss"]) == losses
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        model = clone(MLPRegressor(("huber", 0.5), random_state=0)).partial_fit(X_NUMBERS, NUMBERS)
        loss = model.loss_
        assert pickle.loads(pickle.dumps(model)).partial_fit(X_NUMBERS, NUMBERS).loss_ < loss


@pytest.mark.parametrize("make", [scipy.sparse.csr_array, scipy.sparse.csc_matrix, scipy.sparse.coo_array])
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_sparse_is_dense(make, options, monkeypatch):
    monkeypatch.setattr("fastnn.sklearn.solvers.BLOCK_BYTES", 100 * 8 * X.shape[1])  # several blocks
    sparse = np.where(np.abs(X) < 1, 0, X)
    dense, other = (
        MLPClassifier(random_state=0, max_iter=8, **options),
        MLPClassifier(random_state=0, max_iter=8, **options),
    )
    dense.fit(sparse, NAMES), other.fit(make(sparse), NAMES)
    np.testing.assert_allclose(other.predict_proba(make(sparse)), dense.predict_proba(sparse), 1e-6)
    np.testing.assert_allclose(other.loss_, dense.loss_, 1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("hidden", [(), (5,), (7, 4)], ids=str)
@pytest.mark.parametrize(
    "fitted",
    [lambda m, X_: MLPClassifier(m, **BRIEF).fit(X_, Y), lambda m, X_: MLPClassifier(m, "gelu", **BRIEF).fit(X_, TWO),
     lambda m, X_: MLPClassifier(m, **BRIEF).fit(X_, np.column_stack([Y > 0, Y > 1])),
     lambda m, X_: MLPRegressor("huber", m, **BRIEF).fit(X_, X[:, 0]),
     lambda m, X_: MLPRegressor("poisson", m, "tanh", **BRIEF).fit(X_, np.abs(X[:, :2]))],
    ids=["classes", "two", "labels", "number", "counts"],
)  # fmt: skip
def test_sparse_rows_are_predicted_as_they_are(fitted, hidden, dtype, monkeypatch):
    monkeypatch.setattr("fastnn.sklearn.solvers.SPARSE_ROWS", 200)  # three blocks
    dense = np.where(np.abs(X) < 1, 0, X).astype(dtype)
    model, sparse = fitted(hidden, dense), scipy.sparse.csr_array(dense)
    expected = model.network_.predict(dense)
    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", None)
    outputs = model.predict_proba(sparse) if hasattr(model, "classes_") else model.predict(sparse)
    assert outputs.dtype == dtype
    np.testing.assert_allclose(outputs.reshape(len(X), -1)[:, -expected.shape[1] :], expected, 1e-4, 1e-6)
    assert model.predict(sparse[:1]).shape == model.predict(dense[:1]).shape


class TestMoreThanScikitLearn:
    def test_activations_per_layer(self):
        model = MLPClassifier((20, 10), ["gelu", "tanh"], max_iter=30, random_state=0).fit(X, NAMES)
        assert model.network_.activations == ("gelu", "tanh")
        assert model.loss_curve_[-1] < 0.8 * model.loss_curve_[0]
        np.testing.assert_array_equal(model.network_.predict(X), model.predict_proba(X))

    def test_schedules_with_adam(self):
        last = np.arange(1, 11) * 3 - 1  # the last step of each of ten epochs
        for schedule, expected in (
            (StepDecay(0.01, 0.5, every=3), 0.01 * 0.5 ** (last // 3)),
            (CosineDecay(0.01, steps=30), CosineDecay(0.01, steps=30)(last)),
            ("invscaling", [1e-3, *1e-3 / np.sqrt(450 * np.arange(1, 10) + 1)]),
        ):
            rates = []
            recorder = fastnn.Callback()
            recorder.on_epoch_end = lambda model, epoch, logs, rates=rates: rates.append(logs["learning_rate"])
            MLPClassifier(learning_rate=schedule, max_iter=10, random_state=0, callbacks=[recorder]).fit(X, NAMES)
            np.testing.assert_allclose(rates, expected, 1e-12)

    def test_class_weight(self):
        rare = np.concatenate([np.flatnonzero(TWO), np.flatnonzero(~TWO)[:15]])
        plain = MLPClassifier(random_state=0, max_iter=20).fit(X[rare], TWO[rare])
        balanced = MLPClassifier(random_state=0, max_iter=20, class_weight="balanced").fit(X[rare], TWO[rare])
        per_class = len(rare) / 2 / np.bincount(TWO[rare])
        weighted = MLPClassifier(random_state=0, max_iter=20).fit(X[rare], TWO[rare], per_class[TWO[rare].astype(int)])
        given = MLPClassifier(random_state=0, max_iter=20, class_weight={False: per_class[0], True: per_class[1]})
        given.fit(X[rare], TWO[rare])
        for model in (balanced, given):
            np.testing.assert_allclose(model.coefs_[0], weighted.coefs_[0], 1e-6, 1e-9)
        assert (~balanced.predict(X)).sum() > (~plain.predict(X)).sum()

    def test_class_weight_in_partial_fit_is_by_its_rows(self):
        """Of which some classes may be missing."""
        rows = np.concatenate([np.flatnonzero(Y == 0)[:90], np.flatnonzero(Y == 2)[:30]])
        models = [MLPClassifier(random_state=0, max_iter=3).fit(X, NAMES) for _ in range(2)]
        models[0].set_params(class_weight="balanced").partial_fit(X[rows], NAMES[rows])
        models[1].partial_fit(X[rows], NAMES[rows], sample_weight=np.where(Y[rows] == 0, 120 / 180, 120 / 60))
        np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], 1e-9, 1e-12)

    @pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
    def test_a_validation_set_of_ones_own(self, kind):
        X_, y = (X, NAMES) if kind == "MLPClassifier" else (X_NUMBERS, NUMBERS)
        weight = random_row_weights(0, 100)
        model = getattr(fastnn, kind)(
            max_iter=40, random_state=0, early_stopping=True, learning_rate_init=0.05, alpha=0
        )
        model.fit(X_[100:], y[100:], X_val=X_[:100], y_val=y[:100], sample_weight_val=weight)
        assert model.t_ == model.n_iter_ * (len(X_) - 100)
        assert model.best_validation_score_ == max(model.validation_scores_)
        assert len(model.validation_loss_curve_) == model.n_iter_
        np.testing.assert_allclose(model.score(X_[:100], y[:100], weight), model.best_validation_score_, 1e-9)
        best = int(np.argmax(model.validation_scores_))
        loss = (
            log_loss(y[:100], model.predict_proba(X_[:100]), sample_weight=weight)
            if kind == "MLPClassifier"
            else 0.5 * np.average((model.predict(X_[:100]) - y[:100]) ** 2, weights=weight)
        )
        np.testing.assert_allclose(model.validation_loss_curve_[best], loss, 1e-6)

    def test_validation_without_early_stopping(self):
        model = MLPClassifier(max_iter=5, random_state=0).fit(X, NAMES, X_val=X[:50], y_val=NAMES[:50])
        plain = MLPClassifier(max_iter=5, random_state=0).fit(X, NAMES)
        np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
        assert len(model.validation_scores_) == 5
        assert plain.validation_scores_ is None
        assert plain.validation_loss_curve_ is None
        assert model.validation_scores_[-1] == accuracy_score(NAMES[:50], model.predict(X[:50]))

    def test_callbacks(self):
        stopping = fastnn.EarlyStopping("val_loss", patience=3)
        model = MLPClassifier(max_iter=100, learning_rate_init=0.1, random_state=0, callbacks=[stopping])
        model.fit(X[100:], NAMES[100:], X_val=X[:100], y_val=NAMES[:100])
        assert stopping.stopped_epoch == model.n_iter_ - 1
        assert model.validation_loss_curve_[stopping.best_epoch] == stopping.best == min(model.validation_loss_curve_)
        np.testing.assert_allclose(log_loss(NAMES[:100], model.predict_proba(X[:100])), stopping.best, 1e-6)

    @pytest.mark.parametrize("options", [{}, {"dropout": 0.5, "clip_norm": 0.1}], ids=str)
    def test_the_same_bits_with_any_number_of_threads(self, options):
        models = [
            MLPClassifier((64, 64), random_state=0, max_iter=5, threads=n, **options).fit(X, NAMES) for n in (1, 2, 3)
        ]
        for model in models[1:]:
            for a, b in zip(model.coefs_, models[0].coefs_, strict=True):
                np.testing.assert_array_equal(a, b)


class TestDropoutAndClipping:
    def test_they_are_those_of_the_network(self):
        """The same first weights, order, seed and options by hand."""
        options = {"dropout": [0.5, 0.2], "clip_norm": 0.3, "learning_rate_init": 0.1, "alpha": 0.0, "solver": "sgd"}
        model = MLPClassifier((30, 20), shuffle=False, batch_size=50, max_iter=4, random_state=0, **options)
        start = clone(model).set_params(max_iter=1, learning_rate_init=1e-300).fit(X, NAMES)
        model.fit(X, NAMES)
        net = fastnn.MLP([12, 30, 20, 3], dropout=[0.5, 0.2], seed=model.network_.noise.seed, dtype="float64")
        for view, array in zip([*net.weights, *net.biases], [*start.coefs_, *start.intercepts_], strict=True):
            view[...] = array
        history = net.fit(X, Y, 4, 50, fastnn.SGD(0.1, 0.9, True, 0.3), shuffle=False, progress=False)
        np.testing.assert_allclose(model.loss_curve_, history.loss, 1e-9)
        np.testing.assert_allclose(model.coefs_[0], net.weights[0], 1e-9, 1e-9)
        assert model.network_.noise.step == 4 * 9

    def test_a_seed_means_the_same_first_weights_and_rows_set_aside(self):
        models = [
            MLPClassifier(
                (30, 20), max_iter=1, learning_rate_init=1e-300, epsilon=1.0, early_stopping=True, random_state=0,
                dropout=rate,
            ).fit(X, NAMES)
            for rate in (0.0, 0.5)
        ]  # fmt: skip
        for a, b in zip(models[0].coefs_, models[1].coefs_, strict=True):
            np.testing.assert_array_equal(a, b)
        assert models[0].validation_scores_ == models[1].validation_scores_

    @pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
    def test_a_copy_goes_on_with_the_same_bits(self, kind):
        X_, y = (X, NAMES) if kind == "MLPClassifier" else (X_NUMBERS, NUMBERS)
        model = getattr(fastnn, kind)(hidden_layer_sizes=20, dropout=0.5, max_iter=3, random_state=0)
        model.fit(X_, y)
        copy = pickle.loads(pickle.dumps(model))
        again = clone(model).fit(X_, y)
        np.testing.assert_array_equal(again.coefs_[0], model.coefs_[0])
        for each in (model, copy):
            each.partial_fit(X_, y).partial_fit(X_, y)
        np.testing.assert_array_equal(copy.coefs_[0], model.coefs_[0])
        assert copy.network_.noise == model.network_.noise

    def test_dropout_that_comes_later_goes_by_random_state(self):
        models = [MLPClassifier(20, random_state=0).partial_fit(X, NAMES, classes=np.unique(NAMES)) for _ in range(2)]
        for model in models:
            model.set_params(dropout=0.5).partial_fit(X, NAMES)
        np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])

    def test_prediction_drops_nothing(self):
        model = MLPClassifier(20, dropout=0.5, max_iter=3, random_state=0).fit(X, NAMES)
        proba = model.predict_proba(X)
        np.testing.assert_array_equal(model.set_params(dropout=0.0).predict_proba(X), proba)

    def test_epochs_that_nobody_watches_go_on_counting_steps(self):
        models = []
        for callbacks in (None, [fastnn.Callback()]):
            model = MLPClassifier(
                20, dropout=0.5, clip_norm=0.1, tol=0.02, n_iter_no_change=3, random_state=0, callbacks=callbacks
            )
            model.fit(X[:150], Y[:150]).partial_fit(X[:150], Y[:150])
            models.append(model)
        ahead, watched = models
        assert ahead.n_iter_ == watched.n_iter_
        np.testing.assert_array_equal(ahead.network_.parameters, watched.network_.parameters)


class TestAhead:
    """Short epochs are run many at once; what is left behind is as if they had been run one by one."""

    @pytest.mark.parametrize("solver", ["adam", "sgd"])
    @pytest.mark.parametrize(
        "options",
        [{"tol": 0.01, "n_iter_no_change": 3}, {"max_iter": 77}, {"max_iter": 30, "n_iter_no_change": np.inf},
         {"batch_size": 40, "tol": 0.01}, {"learning_rate": "adaptive", "tol": 0.01, "n_iter_no_change": 3}],
        ids=str,
    )  # fmt: skip
    @pytest.mark.parametrize("weight", [None, random_row_weights(5, 150)], ids=["plain", "weighted"])
    def test_to_the_same_bits(self, solver, options, weight):
        models, draws = [], []
        for callbacks in (None, [fastnn.Callback()]):  # who watches sees every epoch
            random = np.random.RandomState(0)
            model = MLPClassifier(20, solver=solver, random_state=random, callbacks=callbacks, **options)
            model.fit(X[:150], Y[:150], weight)
            model.partial_fit(X[:150], Y[:150], weight)  # the optimiser has not run ahead either
            models.append(model)
            draws.append(random.random_sample())
        ahead, watched = models
        np.testing.assert_array_equal(ahead.network_.parameters, watched.network_.parameters)
        assert ahead.loss_curve_ == watched.loss_curve_
        assert ahead.t_ == watched.t_
        assert draws[0] == draws[1]

    @pytest.mark.parametrize("n", [450, 150], ids=["several batches", "one batch"])
    def test_random_numbers_are_taken_as_by_scikit_learn(self, n):
        draws = []
        for kind in (MLPClassifier, theirs.MLPClassifier):
            random = np.random.RandomState(0)
            kind(20, random_state=random, tol=0.01).fit(X[:n], Y[:n]).partial_fit(X[:n], Y[:n])
            draws.append(random.random_sample())
        assert draws[0] == draws[1]

    def test_it_does_so(self, monkeypatch):
        calls, original = [], Learner.epochs
        monkeypatch.setattr(
            Learner, "epochs", lambda learner, next_order, n: calls.append(n) or original(learner, next_order, n)
        )
        MLPClassifier(5, max_iter=100, random_state=0, n_iter_no_change=50).fit(X[:50], Y[:50])
        assert max(calls) > 8
        assert sum(calls) <= 99

    @pytest.mark.parametrize("where", ["consumer", "compiled code"])
    def test_interrupted(self, where, monkeypatch):
        count = iter(range(10**6))

        def interrupt(*args):
            if next(count) == (20 if where == "consumer" else 2):
                raise KeyboardInterrupt

        def epochs(learner, next_order, n, original=Learner.epochs):
            ended = original(learner, next_order, n)
            interrupt()
            return ended

        model = MLPClassifier(20, random_state=0)
        if where == "consumer":
            monkeypatch.setattr(MLPClassifier, "_say", interrupt)
        else:
            monkeypatch.setattr(Learner, "epochs", epochs)
        with pytest.warns(UserWarning, match="interrupted"):
            model.fit(X[:150], Y[:150])
        monkeypatch.undo()
        steps = model._optimizer.memory.step
        expected = MLPClassifier(20, random_state=0, max_iter=steps).fit(X[:150], Y[:150])
        np.testing.assert_array_equal(model.coefs_[0], expected.coefs_[0])
        assert model.n_iter_ <= steps <= model.n_iter_ + 11


class TestAttributes:
    def test_network_and_coefs_are_one(self):
        model = MLPClassifier(5, max_iter=3, random_state=0).fit(X, NAMES)
        before = model.predict_proba(X)
        assert model.network_ is model.network_
        model.coefs_[0][...] *= 2
        changed = model.predict_proba(X)
        assert not np.allclose(changed, before)
        model.coefs_[0] = model.coefs_[0] / 2
        np.testing.assert_array_equal(model.predict_proba(X), before)
        model.network_.weights[0][...] *= 2
        np.testing.assert_array_equal(model.predict_proba(X), changed)
        model.coefs_, model.intercepts_ = [w.tolist() for w in model.coefs_], [b.tolist() for b in model.intercepts_]
        np.testing.assert_array_equal(model.predict_proba(X), changed)

    def test_parameters_changed_after_fit_count(self):
        model = MLPClassifier(5, max_iter=3, random_state=0, warm_start=True).fit(X, NAMES)
        before = model.predict_proba(X)
        assert not np.allclose(model.set_params(activation="tanh").predict_proba(X), before)
        assert model.fit(X, NAMES).network_.activations == ("tanh",)
        assert model.set_params(threads=1).network_.engine().threads == 1

    def test_nothing_before_fit(self):
        for call in (lambda m: m.predict(X), lambda m: m.network_, lambda m: m.predict_proba(X)):
            with pytest.raises(NotFittedError):
                call(MLPClassifier())
        assert not hasattr(MLPClassifier(), "network_")

    def test_a_new_fit_leaves_the_old_arrays(self):
        model = MLPClassifier(5, max_iter=3, random_state=0).fit(X, NAMES)
        coefs, copies = model.coefs_, [w.copy() for w in model.coefs_]
        model.fit(-X, NAMES)
        for a, b in zip(coefs, copies, strict=True):
            np.testing.assert_array_equal(a, b)

    @pytest.mark.parametrize("options", [{}, {"solver": "sgd", "learning_rate": "invscaling"}], ids=str)
    def test_pickles_go_on_where_they_were(self, options, tmp_path):
        model = MLPClassifier(random_state=0, max_iter=5, **options).fit(X, NAMES)
        joblib.dump(model, tmp_path / "model")
        copies = [
            pickle.loads(pickle.dumps(model)),
            joblib.load(tmp_path / "model"),
            joblib.load(tmp_path / "model", "r"),
        ]
        for copy in copies:
            np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
        model.partial_fit(X, NAMES)
        for copy in copies:
            np.testing.assert_array_equal(copy.partial_fit(X, NAMES).coefs_[0], model.coefs_[0])

    def test_clone_and_display(self):
        model = MLPClassifier((3, 4), learning_rate=CosineDecay(0.1, 100), class_weight={1: 2.0})
        assert repr(clone(model)) == repr(model)
        assert "CosineDecay" in repr(model)
        assert "MLPClassifier" in model._repr_html_()


class TestInput:
    @pytest.mark.parametrize("frame", [pandas.DataFrame, polars.DataFrame])
    def test_data_frames(self, frame):
        columns = [f"column {n}" for n in range(X.shape[1])]
        table = frame(dict(zip(columns, X.T, strict=True)))
        series = pandas.Series(NAMES) if frame is pandas.DataFrame else polars.Series(NAMES)
        if not hasattr(LogisticRegression().fit(table, series), "feature_names_in_"):
            pytest.skip("this scikit-learn does not know the columns of this polars")
        model = MLPClassifier(max_iter=5, random_state=0, early_stopping=True).fit(table, series)
        assert list(model.feature_names_in_) == columns
        plain = MLPClassifier(max_iter=5, random_state=0, early_stopping=True).fit(X, NAMES)
        np.testing.assert_array_equal(model.predict_proba(table), plain.predict_proba(X))
        with pytest.raises(ValueError, match="feature names should match"):
            model.predict(frame(dict(zip(columns[::-1], X.T, strict=True))))
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            model.predict(X)

    def test_memory_maps(self, tmp_path):
        joblib.dump(X, tmp_path / "X")
        mapped = joblib.load(tmp_path / "X", mmap_mode="r")
        model = MLPClassifier(max_iter=3, random_state=0).fit(mapped, NAMES)
        np.testing.assert_array_equal(
            model.coefs_[0], MLPClassifier(max_iter=3, random_state=0).fit(X, NAMES).coefs_[0]
        )

    def test_routed_weights(self):
        with config_context(enable_metadata_routing=True):
            model = MLPRegressor(max_iter=3, random_state=0).set_fit_request(sample_weight=True, X_val=True, y_val=True)
            scaler = StandardScaler().set_fit_request(sample_weight=False)
            pipe = make_pipeline(scaler, model, transform_input=["X_val"])
            pipe.fit(X_NUMBERS, NUMBERS, sample_weight=WEIGHT, X_val=X_NUMBERS[:50], y_val=NUMBERS[:50])
        scaled = StandardScaler().fit_transform(X_NUMBERS)
        plain = MLPRegressor(max_iter=3, random_state=0)
        plain.fit(scaled, NUMBERS, WEIGHT, X_val=scaled[:50], y_val=NUMBERS[:50])
        np.testing.assert_array_equal(pipe[-1].coefs_[0], plain.coefs_[0])
        assert pipe[-1].validation_scores_ == plain.validation_scores_

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"hidden_layer_sizes": (3, 0)}, ValueError, r"hidden_layer_sizes must be > 0, got \[3, 0\]"),
            ({"hidden_layer_sizes": 2.5}, TypeError, "hidden_layer_sizes must be an integer >= 1, got 2.5"),
            ({"activation": "softness"}, ValueError, "activation must be one of .*identity, .*relu"),
            ({"activation": ["relu", "relu"]}, ValueError, "activation must be one name or one per hidden layer"),
            ({"solver": "lions"}, ValueError, "solver must be one of 'lbfgs', 'sgd', 'adam', .*'lion'.*, got 'lions'"),
            ({"alpha": -1}, ValueError, r"alpha must be a finite number in \[0, inf\), got -1"),
            ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, got 0"),
            ({"batch_size": "all"}, TypeError, "batch_size must be an integer >= 1, got 'all'"),
            ({"learning_rate": "cosine"}, ValueError, "learning_rate must be one of 'constant', 'invscaling'"),
            ({"learning_rate_init": 0}, ValueError, "learning_rate_init must be"),
            ({"learning_rate": lambda step: step - 1.0}, ValueError, "learning_rate must return finite rates"),
            ({"power_t": -1}, ValueError, "power_t must be"),
            ({"max_iter": 0}, ValueError, "max_iter must be an integer >= 1, got 0"),
            ({"shuffle": 1}, TypeError, "shuffle must be True or False, got 1"),
            ({"tol": "small"}, TypeError, "tol must be"),
            ({"momentum": 2}, ValueError, "momentum must be"),
            ({"beta_1": 1.0}, ValueError, "beta_1 must be"),
            ({"epsilon": 0}, ValueError, "epsilon must be"),
            ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be"),
            ({"n_iter_no_change": 2.5}, TypeError, "n_iter_no_change must be an integer"),
            ({"verbose": "yes"}, TypeError, "verbose must be an integer >= 0, got 'yes'"),
            ({"threads": 0}, ValueError, "threads must be an integer >= 1, got 0"),
            ({"device": "tpu"}, ValueError, "device must be 'auto', 'cpu' or 'cuda'"),
            ({"random_state": "seed"}, ValueError, "seed"),
            ({"callbacks": 3}, TypeError, "callbacks must be a list of callbacks"),
            ({"callbacks": [fastnn.EarlyStopping()]}, ValueError, "got 'val_loss'; it needs validation data"),
            ({"class_weight": "heavy"}, ValueError, "class_weight"),
            ({"class_weight": {"ant": -1.0}}, ValueError, "class_weight must be finite, >= 0 and leave some row"),
            ({"class_weight": {"ant": np.nan}}, ValueError, "class_weight must be finite, .*, got {'ant': nan}"),
            ({"class_weight": dict.fromkeys(["ant", "bee", "cow"], 0)}, ValueError, "class_weight must be finite"),
            ({"dropout": 1.0}, ValueError, "dropout must be"),
            ({"dropout": [0.1, 0.2]}, ValueError, "dropout must be one rate or one per hidden layer"),
            ({"clip_norm": 0}, ValueError, "clip_norm must be"),
            ({"clip_norm": "1"}, TypeError, "clip_norm must be"),
            ({"solver": "lbfgs", "callbacks": [fastnn.Callback()]}, ValueError, "callbacks needs the solver 'adam'"),
            ({"solver": "lbfgs", "learning_rate": CosineDecay(0.1, 9)}, ValueError, "a schedule as learning_rate"),
            ({"solver": "lbfgs", "dropout": 0.1}, ValueError, "dropout needs the solver 'adam' or 'sgd'"),
            ({"solver": "lbfgs", "clip_norm": 1.0}, ValueError, "clip_norm needs the solver 'adam' or 'sgd'"),
        ],
        ids=str,
    )  # fmt: skip
    def test_parameters_that_are_wrong(self, options, error, message):
        with pytest.raises(error, match=message):
            MLPClassifier(**options).fit(X, NAMES)

    def test_data_that_is_wrong(self):
        model = MLPClassifier(max_iter=2, random_state=0, warm_start=True).fit(X, NAMES)
        coefs = model.coefs_[0].copy()
        for arguments, message in (
            ((X[:, 1:], NAMES), "X has 11 features, but MLPClassifier is expecting 12"),
            ((X, NAMES[1:]), "inconsistent numbers of samples"),
            ((np.full_like(X, np.nan), NAMES), "contains NaN"),
            ((X, NAMES, np.ones(3)), r"sample_weight must have shape \(450,\), got \(3,\)"),
            ((X, NAMES, -np.ones(450)), "sample_weight must be >= 0 and not all zero, got a minimum of -1.0"),
            ((X, NAMES, np.zeros(450)), "not all zero"),
            ((X, np.where(NAMES == "ant", "dog", NAMES)), "warm_start can only be used where"),
            ((X, NUMBERS[: len(X)]), "warm_start can only be used where|inconsistent|Unknown label"),
        ):
            with pytest.raises(ValueError, match=message):
                model.fit(*arguments)
            np.testing.assert_array_equal(model.coefs_[0], coefs)
        for validation, message in (
            ({"X_val": X}, "X_val and y_val must be given together"),
            ({"sample_weight_val": np.ones(3)}, "X_val and y_val must be given together, and with sample_weight_val"),
            ({"X_val": X[:, 1:], "y_val": NAMES}, "X_val and y_val: X has 11 features"),
            ({"X_val": X[:9], "y_val": ["emu"] * 9}, "X_val and y_val: `y` has classes"),
            ({"X_val": X[:9], "y_val": NAMES[:9], "sample_weight_val": [1]}, "sample_weight_val must have shape"),
        ):
            with pytest.raises(ValueError, match=message):
                model.fit(X, NAMES, **validation)
        with pytest.raises(ValueError, match=r"the network has the widths \[12, 100, 3\] of the fit before"):
            model.set_params(hidden_layer_sizes=50).fit(X, NAMES)
        regressor = MLPRegressor(max_iter=2).fit(X_NUMBERS, SEVERAL)
        with pytest.raises(ValueError, match=r"\[10, 100, 3\] of the fit before"):
            regressor.partial_fit(X_NUMBERS, NUMBERS)
        with pytest.raises(ValueError, match="y_val must have 3 columns"):
            regressor.fit(X_NUMBERS, SEVERAL, X_val=X_NUMBERS, y_val=NUMBERS)
        with pytest.raises(ValueError, match="y must be >= 0 for loss 'poisson', got -"):
            MLPRegressor("poisson").fit(X_NUMBERS, NUMBERS)
        with pytest.raises(TypeError, match="y must hold real numbers, got dtype <U"):
            MLPRegressor().fit(X, NAMES)
        for loss, message in (
            ("hing", r"loss must be one of 'squared_error', 'absolute_error', .*, 'poisson', got 'hing'"),
            ("quantile", r"loss must be \('quantile', level\) with level in \(0, 1\), got 'quantile'"),
            (("huber", 0), r"loss: delta must be a finite number in \(0, inf\), got 0"),
        ):
            with pytest.raises(ValueError, match=message):
                MLPRegressor(loss).fit(X_NUMBERS, NUMBERS)

    def test_partial_fit_that_is_wrong(self):
        with pytest.raises(ValueError, match="classes must be passed on the first call"):
            MLPClassifier().partial_fit(X, NAMES)
        model = MLPClassifier().partial_fit(X, NAMES, classes=["ant", "bee", "cow"])
        with pytest.raises(ValueError, match="classes must be those of the first call"):
            model.partial_fit(X, NAMES, classes=["ant", "bee"])
        with pytest.raises(ValueError, match="`y` has classes not in"):
            model.partial_fit(X[:1], ["dog"])
        with pytest.raises(ValueError, match=r"class_weight must be None or \{class: weight\} in a first partial_fit"):
            MLPClassifier(class_weight="balanced").partial_fit(X, NAMES, classes=["ant", "bee", "cow"])
        with pytest.raises(AttributeError, match="partial_fit"):
            _ = MLPRegressor(solver="lbfgs").partial_fit


class TestWarnings:
    def test_not_converged(self):
        with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\) reached"):
            MLPClassifier(max_iter=2).fit(X, NAMES)
        with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge after 2 iteration"):
            MLPClassifier(max_iter=2, solver="lbfgs").fit(X, NAMES)

    def test_a_batch_larger_than_the_data(self):
        with pytest.warns(UserWarning, match="batch_size 1000 is larger than the 450 rows"):
            MLPClassifier(max_iter=2, batch_size=1000).fit(X, NAMES)

    def test_interrupted(self):
        class Interrupt(fastnn.Callback):
            def on_epoch_end(self, model, epoch, logs):
                if epoch == 3:
                    raise KeyboardInterrupt

        with pytest.warns(UserWarning, match="Training interrupted by user"):
            model = MLPClassifier(callbacks=[Interrupt()]).fit(X, NAMES)
        assert model.n_iter_ == 4
        assert model.predict(X).shape == NAMES.shape

    def test_verbose(self, capsys):
        MLPClassifier(max_iter=2, verbose=True).fit(X, NAMES)
        MLPRegressor(max_iter=2, verbose=True, solver="lbfgs").fit(X_NUMBERS, NUMBERS)
        MLPClassifier(max_iter=50, tol=1.0, n_iter_no_change=2, verbose=True).fit(X, NAMES)
        out = capsys.readouterr().out.splitlines()
        assert [line.split(",")[0] for line in out[:4]] == ["Iteration 1", "Iteration 2"] * 2
        assert out[-1] == "Training loss did not improve more than tol=1.000000 for 2 consecutive epochs. Stopping."
        for kind in (MLPClassifier, theirs.MLPClassifier):
            kind(max_iter=9, tol=0.2, n_iter_no_change=2, verbose=1, early_stopping=True, random_state=0).fit(X, Y)
        ours, reference = np.array_split(capsys.readouterr().out.splitlines(), 2)
        assert list(ours) == list(reference)


def test_it_learns():
    X_, y = load_iris(return_X_y=True)
    for solver, rate in (("adam", 0.01), ("sgd", 0.1), ("lbfgs", 1.0)):
        model = make_pipeline(
            StandardScaler(), MLPClassifier(solver=solver, learning_rate_init=rate, random_state=0, max_iter=300)
        ).fit(X_[::2], y[::2])
        linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(X_[::2], y[::2])
        assert model.score(X_[1::2], y[1::2]) >= linear.score(X_[1::2], y[1::2]) - 0.03
