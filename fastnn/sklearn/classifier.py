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

    What scikit-learn's has not:

    activation: also any other of docs/activations.md, or a list with one name per hidden layer.
    learning_rate: also a schedule of fastnn.schedules; each works with adam as well as with sgd.
    class_weight: None, "balanced" or {class: weight}, multiplied with sample_weight.
    dropout: the share of a hidden layer's outputs that training drops, or a list with one per hidden layer.
    clip_norm: None, or the largest norm of a batch's whole gradient; a longer one is shortened to it.
    callbacks: a list of fastnn.Callback; the model they see is `network_`. Logs: loss, accuracy, val_loss,
        val_accuracy, learning_rate.
    threads: the most that run it; the results are the same bits with any number. device: as MLP's.

    fit takes X_val, y_val and sample_weight_val, which are validated on in the place of rows set aside.
    validation_loss_curve_ is the loss on them, epoch by epoch, without the penalty. network_ is the fitted fastnn.MLP.
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

        X: (n, features), dense or sparse. y: (n,) labels of any type, or (n, labels) of 0 and 1. sample_weight: (n,).
        X_val, y_val, sample_weight_val: what to validate on, in the place of rows set aside.
        Raises ValueError or TypeError for input or parameters that do not fit.
        """
        return self._fit(X, y, sample_weight, (X_val, y_val, sample_weight_val))

    @available_if(lambda estimator: estimator._has_epochs())
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        """Train one epoch on these rows. classes: all that will ever come, needed in the first call.

        class_weight "balanced" is refused in a first call, as by SGDClassifier; after a fit it is by these rows alone.
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
        """The classes (n,), or 0 and 1 for each label (n, labels)."""
        outputs = self._outputs(X)
        return self._binarizer.inverse_transform(outputs[:, 0] if outputs.shape[1] == 1 else outputs)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n, classes), in the order of classes_; of several labels each on its own."""
        outputs = self._outputs(X)
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """The logarithm of predict_proba, -inf for a probability of 0."""
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
