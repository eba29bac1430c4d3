"""Every check that scikit-learn has for estimators, in several configurations."""

import pytest
from sklearn.linear_model import SGDClassifier
from sklearn.neural_network import MLPClassifier as TheirClassifier
from sklearn.neural_network import MLPRegressor as TheirRegressor
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastnn import EarlyStopping, MLPClassifier, MLPRegressor
from fastnn.schedules import CosineDecay

ESTIMATORS = [
    MLPClassifier(max_iter=100),
    MLPClassifier(50, solver="sgd", learning_rate="adaptive", max_iter=100),
    MLPClassifier(solver="lbfgs", activation="tanh", max_iter=100),
    MLPClassifier(
        (30, 20), ["gelu", "tanh"], learning_rate_init=0.01, early_stopping=True, validation_fraction=0.3, max_iter=100
    ),
    MLPClassifier(class_weight="balanced", max_iter=100, threads=1),
    MLPClassifier(warm_start=True, max_iter=100),
    MLPClassifier(dropout=0.2, clip_norm=1.0, max_iter=100),
    MLPClassifier(learning_rate=CosineDecay(0.01, 500), callbacks=[EarlyStopping("loss", 30)], max_iter=100),
    MLPRegressor(max_iter=100),
    MLPRegressor(hidden_layer_sizes=50, solver="sgd", momentum=0.8, nesterovs_momentum=False),
    MLPRegressor(solver="lbfgs", activation="logistic", max_iter=100),
    MLPRegressor(
        hidden_layer_sizes=(30, 20), activation=["silu", "relu"], early_stopping=True, validation_fraction=0.3
    ),
    MLPRegressor("poisson", learning_rate_init=0.01),
    MLPRegressor(("quantile", 0.5), max_iter=100),
    MLPRegressor("huber", solver="lbfgs", max_iter=100),
]  # fmt: skip

PARTIAL_FIT_FIRST = ("check_n_features_in_after_fitting", "check_estimators_partial_fit_n_features")
PARTIAL_FIT = ("check_fit_score_takes_y", *PARTIAL_FIT_FIRST)
WEIGHTS_OR_COPIES = (
    "check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data",
)  # fmt: skip
FITS_TWICE = ("check_classifiers_multilabel_representation_invariance", "check_supervised_y_2d")


def expected(estimator):
    """Checks that what was asked for makes impossible, each with the reason."""
    reasons = {}
    if estimator.early_stopping:
        reasons |= dict.fromkeys(PARTIAL_FIT, "scikit-learn's own test_mlp_partial_fit_after_fit wants the ValueError")
        reasons |= dict.fromkeys(WEIGHTS_OR_COPIES, "a row of weight 2 is set aside whole, two copies one by one")
    if estimator.get_params().get("class_weight") == "balanced":
        reasons |= dict.fromkeys(PARTIAL_FIT_FIRST, "no first call knows how often each class will come")
    if estimator.warm_start:
        reasons |= dict.fromkeys(FITS_TWICE, "a second fit goes on from the first, and learns more")
    if estimator.dropout:
        reasons |= dict.fromkeys(WEIGHTS_OR_COPIES, "two copies of a row drop different elements")
    if estimator.callbacks:
        reasons["check_estimators_overwrite_params"] = "a callback notes what it saw for its owner, best_epoch say"
    return reasons


CHECKS = parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# scikit-learn 1.7 gives a generator, which pytest 9 warns of
@pytest.mark.parametrize(CHECKS.args[0], list(CHECKS.args[1]), **CHECKS.kwargs)
def test_check(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("estimator", "checks"),
    [
        (TheirClassifier(early_stopping=True, learning_rate_init=0.01), PARTIAL_FIT + WEIGHTS_OR_COPIES),
        (TheirRegressor(early_stopping=True, learning_rate_init=0.01), PARTIAL_FIT + WEIGHTS_OR_COPIES),
        (TheirClassifier(warm_start=True, max_iter=100), FITS_TWICE),
        (SGDClassifier(class_weight="balanced"), PARTIAL_FIT_FIRST),
    ],
    ids=str,
)
def test_scikit_learn_fails_them_as_well(estimator, checks):
    for check in checks:
        with pytest.raises((AssertionError, ValueError)):
            getattr(estimator_checks, check)(type(estimator).__name__, estimator)
