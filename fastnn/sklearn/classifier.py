"""MLPClassifier: scikit-learn's estimator of the same name, trained by fastnn."""

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastnn.inputs import Targets
from fastnn.sklearn.base import Perceptron
from fastnn.sklearn.parameters import store
from fastnn.sklearn.solvers import Problem


class MLPClassifier(ClassifierMixin, Perceptron):
    """scikit-learn's MLPClassifier, with the same parameters, defaults, methods and attributes, trained by fastnn.

    More than scikit-learn's has: other activations, schedules, class_weight, dropout, clip_norm, callbacks, device,
    threads, and the validation set of `fit`.

    Parameters
    ----------
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
    class_weight : dict, "balanced" or None
        {class: weight}, or weights that make all classes weigh the same. They are multiplied with sample_weight.
    dropout : float or sequence of float
        The share of a hidden layer's outputs that training drops, from 0 to below 1, one number or one per hidden
        layer.
    clip_norm : float, optional
        The largest norm of a batch's whole gradient. A longer one is shortened to it.
    callbacks : list of Callback, optional
        What is told of epochs and slices. The model that they see is `network_`. Logs: loss, accuracy, val_loss,
        val_accuracy, learning_rate.
    device : str
        "auto", "cpu" or "cuda", as MLP's.
    threads : int, optional
        The most threads that run it; all by default. The results are the same bits with any number.

    Attributes
    ----------
    classes_ : ndarray
        The classes, sorted.
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
        The accuracy and the loss, without the penalty, on what is validated on, epoch by epoch. None where there is
        nothing.
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
        class_weight: Any = None,
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
    ) -> "MLPClassifier":  # fmt: skip
        """Train, from new weights unless warm_start.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows. float32 is trained in float32, all else in float64.
        y : array-like (n,) or (n, labels)
            A label of any type for each row, or 0 and 1 for each of several labels.
        sample_weight : array-like (n,), optional
            The weights of the rows, at least 0 and not all 0.
        X_val, y_val, sample_weight_val : optional
            What to validate on after each epoch, in the place of rows set aside.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        TypeError, ValueError
            For input or parameters that do not fit, and where training ends with parameters that are not finite.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._has_epochs())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        """Train one epoch on these rows.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows.
        y : array-like (n,) or (n, labels)
            Their labels, as for `fit`.
        sample_weight : array-like (n,), optional
            The weights of the rows, at least 0 and not all 0.
        classes : array-like, optional
            All classes that will ever come, needed in the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        AttributeError
            For the solver lbfgs.
        TypeError, ValueError
            For input or parameters that do not fit. class_weight "balanced" is refused in a first call, as by
            SGDClassifier; after a fit it is by these rows alone.
        """
        if not hasattr(self, "classes_"):
            if self.class_weight == "balanced":
                raise ValueError("class_weight must be None or {class: weight} in a first partial_fit, got 'balanced'")
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            binarizer = LabelBinarizer()
            self._binarizer = binarizer.fit(y if type_of_target(y).startswith("multilabel") else classes)
            self.classes_ = unique_labels(classes)
        elif classes is not None and not np.array_equal(self.classes_, unique_labels(classes)):
            raise ValueError(f"classes must be those of the first call to partial_fit, {self.classes_}, got {classes}")
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows.

        Returns
        -------
        ndarray (n,) or (n, labels)
            Classes, or 0 and 1 for each of several labels.
        """
        outputs = self._outputs(X)
        return self._binarizer.inverse_transform(outputs[:, 0] if outputs.shape[1] == 1 else outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows.

        Returns
        -------
        ndarray (n, classes)
            Probabilities in the order of classes_; of several labels each on its own.
        """
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of `predict_proba`.

        Parameters
        ----------
        X : array-like or sparse matrix (n, features)
            The rows.

        Returns
        -------
        ndarray (n, classes)
            Logarithms, -inf for a probability of 0.
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def _checked(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = validate_data(
            self, X, y, accept_sparse="csr", multi_output=True, dtype=(np.float64, np.float32), reset=reset
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            self._binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._binarizer.classes_
            return X, y
        classes = unique_labels(y)
        if self.warm_start and not incremental and set(classes) != set(self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous call to fit. Previously "
                f"got {self.classes_}, `y` has {classes}"
            )
        if len(np.setdiff1d(classes, self.classes_)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has {classes}."
            )
        return X, y

    def _problem(self, X: Any, y: np.ndarray, weight: np.ndarray | None) -> Problem:
        if self._binarizer.y_type_ == "multiclass":
            labels = np.searchsorted(self.classes_, y)
            target = Targets(labels, "label", labels)
            return Problem(X, target, weight, "softmax_cross_entropy", "softmax", len(self.classes_))
        values = self._binarizer.transform(y)
        values = (values if isinstance(values, np.ndarray) else values.toarray()).astype(bool)
        target = Targets(values, "outputs", None)
        return Problem(X, target, weight, "sigmoid_cross_entropy", "logistic", values.shape[1])

    def _weighted(self, weight: np.ndarray | None, y: np.ndarray, incremental: bool) -> np.ndarray | None:
        if self.class_weight is None:
            return weight
        if y.ndim == 2:
            per_row = compute_sample_weight(self.class_weight, y)
        else:
            classes = np.unique(y) if self.class_weight == "balanced" else self.classes_
            with np.errstate(divide="ignore"):  # a class whose rows weigh nothing
                per_class = compute_class_weight(self.class_weight, classes=classes, y=y, sample_weight=weight)
            if self.class_weight == "balanced":
                per_class = np.where(np.isinf(per_class), 0.0, per_class)
            per_row = per_class[np.searchsorted(classes, y)]
        total = per_row if weight is None else per_row * weight
        if not (np.isfinite(total).all() and per_row.min() >= 0 and total.any()):
            raise ValueError(
                f"class_weight must be finite, >= 0 and leave some row of y a weight, got {self.class_weight!r}"
            )
        return total

    def _strata(self, problem: Problem) -> np.ndarray | None:
        return problem.target.values if problem.n_outputs == 1 else None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
