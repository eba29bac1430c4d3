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

    More than scikit-learn's has: other losses and activations, schedules, dropout, clip_norm, callbacks, device,
    threads, and the validation set of `fit`.

    Parameters
    ----------
    loss : str or tuple
        "squared_error", "poisson", or any other loss of numbers that docs/losses.md has as an average over rows. One
        with a parameter is a pair, ("quantile", 0.9) say, or its name alone where the parameter has a default.
    hidden_layer_sizes : int or sequence of int
        The widths of the hidden layers.
    activation : str or sequence of str
        "identity", "logistic", "tanh", "relu" or any other of docs/activations.md, one name or one per hidden layer.
    solver : str
        "adam", "sgd", or "lbfgs", which has neither batches nor epochs. Or the name of any other optimiser
        (docs/optimizers.md), one of your own among them, with its own defaults for what is no parameter here.
    alpha : float
        The strength of the penalty on squared weights, at least 0. It is divided by the weight of a batch's rows.
    batch_size : int or "auto"
        The rows of a batch. "auto" is the smaller of 200 and the number of rows. More than all rows are clipped, with a
        warning.
    learning_rate : str or schedule
        "constant"; "invscaling", learning_rate_init / (rows seen + 1) ** power_t after each epoch; "adaptive", a fifth
        whenever training stalls; or a schedule of the step, see fastnn.schedules, which learning_rate_init has no part
        in. Each works with adam as well as with sgd.
    learning_rate_init : float
        The first learning rate, above 0.
    power_t : float
        The exponent of "invscaling", at least 0.
    max_iter : int
        The most epochs, or iterations of lbfgs.
    shuffle : bool
        Whether the rows are shuffled in each epoch.
    random_state : int, RandomState or None
        What the first weights, the rows set aside, the order of rows and dropout are drawn by.
    tol : float
        An epoch that is not better by this does not count as an improvement. For lbfgs it is the largest component of
        the gradient at which it ends.
    verbose : bool or int
        Whether each epoch prints a line.
    warm_start : bool
        Whether `fit` goes on from the weights of the fit before.
    momentum : float
        The momentum of sgd, from 0 to 1.
    nesterovs_momentum : bool
        Whether that momentum is Nesterov's.
    early_stopping : bool
        Whether training stalls by the score on rows that are validated on, instead of by the loss. The weights of the
        best epoch are kept.
    validation_fraction : float
        The share of the rows that early_stopping sets aside, from 0 to below 1.
    beta_1, beta_2 : float
        The decay rates of adam's moments, from 0 to below 1.
    epsilon : float
        What adam adds to its denominators, above 0.
    n_iter_no_change : int or inf
        Training that has not improved for more epochs than this stalls.
    max_fun : int
        The most evaluations of the loss by lbfgs.
    dropout : float or sequence of float
        The share of a hidden layer's outputs that training drops, from 0 to below 1, one number or one per hidden
        layer.
    clip_norm : float, optional
        The largest norm of a batch's whole gradient. A longer one is shortened to it.
    callbacks : list of Callback, optional
        What is told of epochs and slices. The model that they see is `network_`. Logs: loss, val_loss, val_r2,
        learning_rate.
    device : str
        "auto", "cpu" or "cuda", as MLP's.
    threads : int, optional
        The most threads that run it; all by default. The results are the same bits with any number.

    Attributes
    ----------
    coefs_, intercepts_ : list of ndarray
        The weights (inputs, outputs) and the biases (outputs,) of each layer. They are the network's own arrays.
    network_ : MLP
        The fitted network.
    loss_ : float
        The loss of the last epoch, with the penalty.
    loss_curve_ : list of float
        That loss in every epoch; not of lbfgs.
    best_loss_ : float or None
        The smallest loss; None with early_stopping.
    validation_scores_, validation_loss_curve_ : list of float or None
        R² and the loss, without the penalty, on what is validated on, epoch by epoch. None where there is nothing.
    best_validation_score_ : float or None
        The best of the scores; None without early_stopping.
    n_iter_ : int
        The epochs of the last fit, or the iterations of lbfgs.
    t_ : int
        The rows that training has seen.
    n_layers_, n_outputs_ : int
        The layers, those of inputs and outputs counted, and the outputs.
    out_activation_ : str
        The output activation.
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

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows. float32 is trained in float32, all else in float64.
        y : array-like (n,) or (n, outputs)
            The numbers to predict.
        sample_weight : array-like (n,), optional
            The weights of the rows, at least 0 and not all 0.
        X_val, y_val, sample_weight_val : optional
            What to validate on after each epoch, in the place of rows set aside.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            For input or parameters that do not fit, and where training ends with parameters that are not finite.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._has_epochs())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> "MLPRegressor":
        """Train one epoch on these rows.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows.
        y : array-like (n,) or (n, outputs)
            The numbers to predict.
        sample_weight : array-like (n,), optional
            The weights of the rows, at least 0 and not all 0.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        AttributeError
            For the solver lbfgs.
        TypeError, ValueError
            For input or parameters that do not fit.
        """
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The predicted numbers.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows.

        Returns
        -------
        ndarray (n,) or (n, outputs)
            Numbers, of the dtype that `fit` had.
        """
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
