"""MLPRegressor: scikit-learn's estimator of the same name, trained by fastnn."""

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastnn.inputs import Targets, array, check_numbers
from fastnn.losses import checked_loss
from fastnn.sklearn.base import Perceptron
from fastnn.sklearn.parameters import store
from fastnn.sklearn.solvers import Problem
from kernels.losses import LOSSES, LossChoice, loss_and_parameter, names_for

REGRESSION = ("identity", "exp")  # output activations
SQUARED_ERROR = {"mean_squared_error": "squared_error"}  # by its name in kernels and in scikit-learn


class MLPRegressor(RegressorMixin, Perceptron):
    """scikit-learn's MLPRegressor, with the same parameters, defaults, methods and attributes, trained by fastnn.

    What scikit-learn's has not: activation, learning_rate, dropout, clip_norm, callbacks, threads, device and the
    validation set of `fit` as in MLPClassifier; logs have r2 in the place of accuracy.

    loss: also any other of numbers that docs/losses.md has for averages over rows, such as "absolute_error"; one with a
        parameter is a pair, ("quantile", 0.9) say, or its name alone where the parameter has a default.
    """

    def __init__(
        self,
        loss: LossChoice = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        callbacks: Any = None,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        store(self, locals())

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> "MLPRegressor":  # fmt: skip
        """Train, from new weights unless warm_start.

        X: (n, features), dense or sparse. y: (n,) or (n, outputs) numbers. sample_weight: (n,).
        X_val, y_val, sample_weight_val: what to validate on, in the place of rows set aside.
        Raises ValueError or TypeError for input or parameters that do not fit.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._has_epochs())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train one epoch on these rows."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The predicted numbers, (n,) or (n, outputs)."""
        outputs = self._outputs(X)
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        checked_loss(self.loss, _losses())
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, y_numeric=True, dtype=(np.float64, np.float32),
            reset=reset,
        )  # fmt: skip
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        return X, y

    def _problem(self, X: Any, y: np.ndarray, weight: np.ndarray | None) -> Problem:
        values = array(y[:, np.newaxis] if y.ndim == 1 else y, "y")
        loss = checked_loss(self.loss, _losses())
        loss = "mean_squared_error" if loss == "squared_error" else loss
        check_numbers(values, loss)
        outputs = loss_and_parameter(loss)[0].outputs
        output = next(output for output in REGRESSION if output in outputs)
        return Problem(X, Targets(values, None, None), weight, loss, output, values.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self.loss in names_for("exp")
        return tags


def _losses() -> list[str]:
    """The losses of numbers that are averaged over rows, scikit-learn's own first."""
    names = [name for output in REGRESSION for name in names_for(output) if LOSSES[name].averaged]
    return [SQUARED_ERROR.get(name, name) for name in dict.fromkeys(names)]
