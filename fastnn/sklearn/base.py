"""What MLPClassifier and MLPRegressor share: fit and partial_fit as scikit-learn's, on the engine.

The parameters are those of scikit-learn's estimators of the same names, drawn from the same random numbers and shown
the same rows in the same order: where both can do a thing, they learn the same weights up to rounding.
"""

import functools
import itertools
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from fastnn.inputs import architectures
from fastnn.inputs.arguments import check_monitors, checked_callbacks
from fastnn.model import MLP
from fastnn.sklearn import parameters
from fastnn.sklearn.observers import Best, Lost, NoChange, Records
from fastnn.sklearn.solvers import EpochRates, Problem, minimise, sparse_outputs
from fastnn.training import row_order
from fastnn.training.learner import Learner
from fastnn.training.loop import Ending, run
from fastnn.training.observers import Callbacks, Observers, Validation
from fastnn.training.optimizer_state import Noise
from fastnn.training.progress import line
from kernels.engine.requests import Needs
from kernels.process import forks

NON_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
NOT_CONVERGED = (
    "Stochastic Optimizer: Maximum iterations ({0.max_iter}) reached and the optimization hasn't converged yet."
)
LOST = "Stochastic Optimizer: the parameters are not finite after iteration {0.n_iter_}, nor will they be again."


class Perceptron(BaseEstimator):
    """The base of both estimators; these say what y means: `_checked`, `_problem` and `predict`."""

    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    loss_curve_: list[float]
    _optimizer: EpochRates
    best_loss_: Any
    best_validation_score_: Any
    validation_scores_: Any
    validation_loss_curve_: Any

    @property
    def network_(self) -> MLP:
        """The fitted network. Its parameters are those of coefs_ and intercepts_, in either direction."""
        check_is_fitted(self, "coefs_")
        hidden = len(self.coefs_) - 1
        options = {
            "activation": architectures.activations(self.activation, hidden), "output": self.out_activation_,
            "dropout": architectures.dropout(self.dropout, hidden), "device": self.device, "threads": self.threads,
        }  # fmt: skip
        net, views, made_with = self.__dict__.get("_network", (None, [], None))
        given = [*self.coefs_, *self.intercepts_]
        same = len(given) == len(views) and all(view is array for view, array in zip(views, given))
        if same and made_with == options:
            return net
        widths = [len(self.coefs_[0]), *(len(b) for b in self.intercepts_)]
        dtype = "float32" if np.asarray(self.coefs_[0]).dtype == np.float32 else "float64"
        net = MLP(widths, init="zeros", dtype=dtype, **options)
        net.noise = self.__dict__.get("_noise", net.noise)
        views = [*net.weights, *net.biases]
        for n, (view, array) in enumerate(zip(views, given, strict=True)):
            if np.shape(array) != view.shape:
                name = f"coefs_[{n}]" if n <= hidden else f"intercepts_[{n - hidden - 1}]"
                raise ValueError(f"{name} must have shape {view.shape}, as the layers beside it, got {np.shape(array)}")
            view[...] = array
        self._network = net, views, options
        self.coefs_, self.intercepts_ = views[: len(self.coefs_)], views[len(self.coefs_) :]
        return net

    @network_.setter
    def network_(self, value: Any) -> None:
        raise AttributeError("network_ cannot be replaced: set arrays of coefs_ and intercepts_, of which it is made")

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        validation: tuple[Any, Any, Any] = (None, None, None),
        incremental: bool = False,
    ) -> Any:
        hidden = parameters.check(self)
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        X, y = self._checked(X, y, incremental, reset=first)
        X = X.view() if isinstance(X, np.ndarray) else X  # see inputs.array
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        if self.solver == "lbfgs":
            parameters.check_for_lbfgs(self, validation[0] is not None)
        weight = parameters.row_weights(sample_weight, X.shape[0])
        problem = self._problem(X, y, self._weighted(weight, y, incremental))
        held_out = self._held_out(problem, *validation)
        self._random_state = check_random_state(self.random_state)
        forks.renewed(self._random_state._bit_generator.lock)
        widths = [X.shape[1], *hidden, problem.n_outputs]
        if first:
            self._initialize(problem, widths, X.dtype)
        net = self.network_
        if net.layers != tuple(widths):
            raise ValueError(
                f"the network has the widths {list(net.layers)} of the fit before, and X, y and hidden_layer_sizes "
                f"{widths}"
            )
        if self.solver == "lbfgs":
            net.prepare(line, Needs(loss=problem.loss, gradients=True))
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
        for n, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            bound = math.sqrt((2.0 if names[min(n, len(names) - 1)] == "sigmoid" else 6.0) / (fan_in + fan_out))
            for arrays, shape in ((self.coefs_, (fan_in, fan_out)), (self.intercepts_, (fan_out,))):
                arrays.append(self._random_state.uniform(-bound, bound, shape).astype(dtype))
        for name in ("_optimizer", "_noise", "loss_curve_"):
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
        batch_size = min(200, n) if self.batch_size == "auto" else min(int(self.batch_size), n)
        if self.batch_size != "auto" and self.batch_size > n:
            warnings.warn(f"batch_size {self.batch_size} is larger than the {n} rows: it is clipped", stacklevel=4)
        callbacks = checked_callbacks(self.callbacks or ())
        check_monitors(callbacks, problem, held_out is not None)
        rates, epochs = self._prepared(net, incremental), 1 if incremental else self.max_iter
        memory = rates.memory
        net.prepare(line, problem.needs(memory.optimizer, batch_size, self.alpha))
        learner = Learner(net.engine(), problem, memory, batch_size, self.alpha)
        best, lost = Best(self, net, rates), Lost(learner.engine, epochs)
        validation = [] if held_out is None else [Validation(functools.partial(held_out.validate, net))]
        told = [Callbacks(net, callbacks, memory)] if callbacks else []
        observers = Observers(Records(self, n), *validation, best, *told, NoChange(self, rates), lost)
        orders = self._orders(order, batch_size, problem.X.shape[0])
        self.n_iter_ = 0
        ending = run(learner, functools.partial(next, orders), n, epochs, observers)
        if ending is Ending.COMPLETE and not incremental:
            warnings.warn(NOT_CONVERGED.format(self), ConvergenceWarning, stacklevel=4)
        if lost.lost:
            warnings.warn(LOST.format(self), ConvergenceWarning, stacklevel=4)
        if ending is Ending.INTERRUPTED:
            warnings.warn("Training interrupted by user.", stacklevel=4)
        best.restore()

    def _prepared(self, net: MLP, incremental: bool) -> EpochRates:
        """What epochs add to, and the optimiser: those of the fit before where they are gone on with."""
        if not hasattr(self, "loss_curve_") or (self.best_loss_ is None) != self.early_stopping:
            self._start_records()
        if not (incremental and hasattr(self, "_optimizer") and self._optimizer.fits(net)):
            self._optimizer = self._fresh_optimizer(net)
        if any(net.dropout) and not hasattr(self, "_noise"):
            self._noise = net.noise = Noise(int(self._random_state.randint(np.iinfo(np.int32).max)))
        self._optimizer.memory.noise = net.noise
        return self._optimizer

    def _fresh_optimizer(self, net: MLP) -> EpochRates:
        options: dict[str, Any] = {}  # of another optimiser than scikit-learn's its own defaults
        if self.solver == "adam":
            options = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        elif self.solver == "sgd":
            options = {"momentum": self.momentum, "nesterov": self.nesterovs_momentum}
        if self.clip_norm is not None:
            options["clip_norm"] = self.clip_norm
        return EpochRates(net, self.solver, self.learning_rate, self.learning_rate_init, self.power_t, **options)

    def _orders(self, order: np.ndarray, batch_size: int, n_rows: int) -> Iterator[np.ndarray | None]:
        """The rows of each epoch, shuffled as scikit-learn does; None for all of n_rows as they lie."""
        shuffled = self.shuffle and batch_size < len(order)
        while True:
            if self.shuffle:
                permutation = np.arange(len(order))
                self._random_state.shuffle(permutation)  # drawn even for a single batch: others draw after us
                order = order[permutation] if shuffled else order
            yield order if shuffled or len(order) < n_rows else None

    def _split(self, problem: Problem, held_out: Problem | None) -> tuple[np.ndarray, Problem | None]:
        """The rows to train on, and what to validate on: what the caller gave, or what early_stopping sets aside."""
        order = row_order.numbered(problem.X.shape[0])
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
        if X is None and y is None and sample_weight is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val and y_val must be given together, and with sample_weight_val, got some of them")
        try:
            X, y = self._checked(X, y, incremental=True, reset=False)
            X = X.view() if isinstance(X, np.ndarray) else X
            weight = parameters.row_weights(sample_weight, X.shape[0], "sample_weight_val")
            held_out = self._problem(X, y, weight)
        except ValueError as error:
            raise ValueError(f"X_val and y_val: {error}") from None
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
        return sparse_outputs(net, X)

    def _say(self, message: str) -> None:
        if self.verbose:
            print(message)

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
