"""What MLPClassifier and MLPRegressor share: fit and partial_fit as scikit-learn's, on the engine.

The parameters are those of scikit-learn's estimators of the same names, drawn from the same random numbers and shown
the same rows in the same order: where both can do a thing, they learn the same weights up to rounding.
"""

import math
import numbers
import warnings
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn import architectures, training
from fastnn.model import MLP
from fastnn.progress import line
from fastnn.schedules import check_count, check_number
from fastnn.solvers import Pace, Problem, blocks, minimise

SOLVERS = ("lbfgs", "sgd", "adam")
SCHEDULES = ("constant", "invscaling", "adaptive")
NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class Perceptron(BaseEstimator):
    """The base of both estimators; these say what y means: `_checked`, `_problem` and `predict`."""

    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    loss_curve_: list[float]
    best_loss_: Any
    best_validation_score_: Any
    validation_scores_: Any
    validation_loss_curve_: Any

    @property
    def network_(self) -> MLP:
        """The fitted network. Its parameters are those of coefs_ and intercepts_, in either direction."""
        check_is_fitted(self, "coefs_")
        net, views = self.__dict__.get("_network", (None, []))
        given = [*self.coefs_, *self.intercepts_]
        if len(given) == len(views) and all(view is array for view, array in zip(views, given)):
            return net
        widths = [len(self.coefs_[0]), *(len(b) for b in self.intercepts_)]
        dtype = "float32" if np.asarray(self.coefs_[0]).dtype == np.float32 else "float64"
        net = MLP(
            widths, self.activation, self.out_activation_, init="zeros", dtype=dtype, device=self.device,
            threads=self.threads,
        )  # fmt: skip
        views = [*net.weights, *net.biases]
        for view, array in zip(views, given, strict=True):
            view[...] = array
        self._network = net, views
        self.coefs_, self.intercepts_ = views[: len(self.coefs_)], views[len(self.coefs_) :]
        return net

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any] = (None, None, None),
        incremental: bool = False,
    ) -> Any:
        hidden = self._check_parameters()
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, incremental, reset=first)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        weight = row_weights(sample_weight, X.shape[0])
        problem = self._problem(X, y, self._weighted(weight, y, incremental))
        held_out = self._held_out(problem, *validation)
        self._random_state = check_random_state(self.random_state)
        widths = [X.shape[1], *hidden, problem.n_outputs]
        if first:
            self._initialize(problem, widths, X.dtype)
        net = self.network_
        if net.layers != widths:
            raise ValueError(
                f"the network has the widths {net.layers} of the fit before, and X, y and hidden_layer_sizes {widths}"
            )
        if self.solver == "lbfgs":
            net.prepare(line, problem.loss)
            self.loss_, self.n_iter_ = minimise(
                net, problem, self.alpha, self.tol, self.max_iter, self.max_fun, self._say
            )
        else:
            self._descend(net, problem, held_out, incremental)
        if not np.isfinite(net.parameters).all():
            raise ValueError(NON_FINITE)
        return self

    def _initialize(self, problem: Problem, widths: list[int], dtype: np.dtype) -> None:
        """What a first fit starts from: weights and biases as Glorot & Bengio 2010, in scikit-learn's order."""
        self.n_iter_, self.t_, self.n_layers_ = 0, 0, len(widths)
        self.n_outputs_, self.out_activation_ = problem.n_outputs, problem.output
        names = architectures.activations(self.activation, len(widths) - 2) or ["identity"]
        self.coefs_, self.intercepts_ = [], []
        for n, (fan_in, fan_out) in enumerate(pairwise(widths)):
            bound = math.sqrt((2.0 if names[min(n, len(names) - 1)] == "sigmoid" else 6.0) / (fan_in + fan_out))
            for parameters, shape in ((self.coefs_, (fan_in, fan_out)), (self.intercepts_, (fan_out,))):
                parameters.append(self._random_state.uniform(-bound, bound, shape).astype(dtype))
        for name in ("_optimizer", "loss_curve_"):
            self.__dict__.pop(name, None)

    def _start_records(self) -> None:
        """What an epoch adds to."""
        self._no_improvement_count = 0
        self.loss_curve_ = []
        self.validation_scores_ = self.validation_loss_curve_ = None
        self.best_loss_ = None if self.early_stopping else math.inf
        self.best_validation_score_ = -math.inf if self.early_stopping else None

    def _descend(self, net: MLP, problem: Problem, held_out: Problem | None, incremental: bool) -> None:
        """Train by sgd or adam until max_iter, or until nothing improves; partial_fit for one epoch."""
        order, held_out = self._split(problem, held_out)
        n = len(order)
        batch_size = min(200, n) if self.batch_size == "auto" else min(self.batch_size, n)
        if self.batch_size != "auto" and self.batch_size > n:
            warnings.warn(f"batch_size {self.batch_size} is larger than the {n} rows: it is clipped", stacklevel=4)
        callbacks = training.checked_callbacks(self.callbacks or ())
        training.check_monitors(callbacks, problem, held_out is not None)

        def tell(event: str, *args: Any) -> bool:
            return any([getattr(callback, event, training.nothing)(net, *args) for callback in callbacks])

        if not hasattr(self, "loss_curve_") or (self.best_loss_ is None) != self.early_stopping:
            self._start_records()
        pace = self.__dict__.get("_optimizer") if incremental else None
        if pace is None or not pace.fits(net):
            options = (
                {"momentum": self.momentum, "nesterov": self.nesterovs_momentum}
                if self.solver == "sgd"
                else {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
            )
            pace = Pace(net, self.solver, self.learning_rate, self.learning_rate_init, self.power_t, **options)
        self._optimizer, memory = pace, pace.memory
        net.prepare(line, *problem.needs(memory.optimizer))
        learner = training.Learner(net, problem, memory, batch_size, self.alpha)
        shuffled = self.shuffle and batch_size < n
        best = net.parameters.copy() if self.early_stopping else None
        self.n_iter_ = 0
        try:
            tell("on_train_begin")
            while self.n_iter_ < (1 if incremental else self.max_iter):
                if shuffled:
                    permutation = np.arange(n)
                    self._random_state.shuffle(permutation)
                    order = order[permutation]
                for _, logs in learner.epoch(order if shuffled or n < problem.X.shape[0] else None):
                    if stop := tell("on_slice_end", memory.step - 1, logs):
                        break
                self.n_iter_ += 1
                self.t_ += n
                self.loss_ = logs["loss"]
                self.loss_curve_.append(self.loss_)
                self._say(f"Iteration {self.n_iter_}, loss = {self.loss_:.8f}")
                if held_out is not None:
                    logs |= {f"val_{name}": value for name, value in held_out.measure(net).items()}
                if self._improved(logs) and best is not None:
                    best[...] = net.parameters
                logs["learning_rate"] = memory.learning_rate
                pace.end_epoch(self.t_)
                stop |= tell("on_epoch_end", self.n_iter_ - 1, logs)
                if self._no_improvement_count > self.n_iter_no_change:
                    what = "Validation score" if self.early_stopping else "Training loss"
                    message = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} epochs."
                    if pace.stalled(message, self._say):
                        break
                    self._no_improvement_count = 0
                if stop or incremental:
                    break
            else:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't "
                    "converged yet.", ConvergenceWarning, stacklevel=4,
                )  # fmt: skip
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        finally:
            tell("on_train_end")
        if best is not None:
            net.parameters[...] = best

    def _improved(self, logs: dict[str, float]) -> bool:
        """Note what an epoch reached, and how many have passed without progress; whether it is the best so far."""
        score = logs.get("val_accuracy", logs.get("val_r2", math.nan))
        if "val_loss" in logs:
            self.validation_scores_ = [*(self.validation_scores_ or []), score]
            self.validation_loss_curve_ = [*(self.validation_loss_curve_ or []), logs["val_loss"]]
        if not self.early_stopping:
            stalled, better = self.loss_ > self.best_loss_ - self.tol, self.loss_ < self.best_loss_
            self.best_loss_ = self.loss_ if better else self.best_loss_
        else:
            stalled, better = score < self.best_validation_score_ + self.tol, score > self.best_validation_score_
            self.best_validation_score_ = score if better else self.best_validation_score_
        self._no_improvement_count = self._no_improvement_count + 1 if stalled else 0
        return better

    def _split(self, problem: Problem, held_out: Problem | None) -> tuple[np.ndarray, Problem | None]:
        """The rows to train on, and what to validate on: what the caller gave, or what early_stopping sets aside."""
        order = np.arange(problem.X.shape[0])
        if not self.early_stopping or held_out is not None:
            return order, held_out
        order, chosen = train_test_split(
            order, random_state=self._random_state, test_size=self.validation_fraction, stratify=self._strata(problem)
        )
        if len(chosen) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return order, problem.rows(chosen)

    def _held_out(self, problem: Problem, X: Any, y: Any, sample_weight: Any) -> Problem | None:
        """The caller's own validation set."""
        if X is None and y is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together, got one of them")
        X, y = self._checked(X, y, incremental=True, reset=False)
        held_out = self._problem(X, y, row_weights(sample_weight, X.shape[0], "sample_weight_val"))
        if held_out.n_outputs != problem.n_outputs:
            raise ValueError(f"y_val must have {problem.n_outputs} columns, as y, got {held_out.n_outputs}")
        return held_out

    def _weighted(self, weight: np.ndarray | None, y: np.ndarray, incremental: bool) -> np.ndarray | None:
        """Row weights, with those of classes."""
        return weight

    def _strata(self, problem: Problem) -> np.ndarray | None:
        """What a split is to keep the shares of."""
        return None

    def _outputs(self, X: Any) -> np.ndarray:
        """The network's outputs (n, n_outputs) for X as it was given."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=(np.float64, np.float32), reset=False)
        net = self.network_
        if isinstance(X, np.ndarray):
            return net.predict(X)
        return np.concatenate([net.predict(X[block].toarray()) for block in blocks(X, net)])

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

    def _check_parameters(self) -> list[int]:
        """Raise ValueError or TypeError naming the parameter that is wrong. Returns the hidden layers' widths."""
        sizes = self.hidden_layer_sizes
        hidden = list(sizes) if isinstance(sizes, Iterable) else [sizes]
        for size in hidden:
            if isinstance(size, numbers.Real) and size <= 0:
                raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}")
            check_count("hidden_layer_sizes", size)
        architectures.activations(self.activation, len(hidden))
        check_choice("solver", self.solver, SOLVERS)
        if not callable(self.learning_rate):
            check_choice("learning_rate", self.learning_rate, SCHEDULES)
        for name in ("alpha", "tol", "power_t"):
            check_number(name, getattr(self, name), 0)
        for name in ("learning_rate_init", "epsilon"):
            check_number(name, getattr(self, name), 0, closed="neither")
        check_number("momentum", self.momentum, 0, 1)
        for name in ("beta_1", "beta_2", "validation_fraction"):
            check_number(name, getattr(self, name), 0, 1, closed="left")
        for name in ("max_iter", "max_fun", "batch_size", "n_iter_no_change", "threads"):
            value = getattr(self, name)
            if (name, value) not in (("batch_size", "auto"), ("n_iter_no_change", math.inf), ("threads", None)):
                check_count(name, value)
        for name in ("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        return [int(size) for size in hidden]

    def _has_epochs(self) -> bool:
        """Whether there is a partial_fit."""
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is only available for solvers 'adam' and 'sgd', not for 'lbfgs'")
        return True

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__().copy()
        state.pop("_network", None)  # coefs_ and intercepts_ say it all
        return state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def store(estimator: Any, arguments: dict[str, Any]) -> None:
    """Keep the arguments of `__init__`, as they are, under their names."""
    for name, value in arguments.items():
        if name != "self":
            setattr(estimator, name, value)


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
    return weight
