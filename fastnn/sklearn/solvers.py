"""What the estimators train with: scikit-learn's losses, penalty and schedules, and its solvers, on the engine."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

import kernels
from fastnn import optimizers
from fastnn.inputs import Targets
from fastnn.inputs.data import Data
from fastnn.schedules import Schedule
from fastnn.training.optimizer_state import Memory
from fastnn.training.sharing import ThreadShare
from kernels.engine.requests import Batches
from kernels.maths import sqrt
from kernels.optimizers import adam
from kernels.optimizers.declaration import Update

SMALLEST_RATE = 1e-6  # below it "adaptive" gives up
BLOCK_BYTES = 1 << 26  # of sparse rows made dense at a time
SPARSE_ROWS = 1 << 12  # that go through a network together, as they are
OUTPUT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda z: z, "sigmoid": lambda z: kernels.activate(z, "sigmoid"), "softmax": kernels.softmax,
    "exp": np.exp,
}  # fmt: skip


@dataclass(frozen=True)
class Problem(Data):
    """What an estimator learns from. X may be sparse (CSR): its rows are made dense when their turn comes.

    Losses that are a mean over outputs are as scikit-learn has its squared error: summed over outputs where steps are
    made and averaged over them where they are reported; of the squared error it is half. The l2 of a batch is alpha
    divided by the batch's weight. output: the output activation.
    """

    output: str
    n_outputs: int

    @property
    def factor(self) -> float:
        """What the kernel's loss, which may be a mean over outputs, is multiplied by."""
        half = 0.5 if self.declared.name == "mean_squared_error" else 1.0
        return half * self.n_outputs if self.declared.mean else 1.0

    @property
    def reported(self) -> float:
        """What the loss of a step is multiplied by to be reported."""
        return 1.0 / self.n_outputs if self.declared.mean else 1.0

    def scales(self, mass: np.ndarray) -> np.ndarray:
        """What each batch's sum of row losses is multiplied by."""
        return self.factor * super().scales(mass)

    def decay(self, l2: float, mass: np.ndarray) -> np.ndarray:
        """The l2 of each batch."""
        return l2 * super().scales(mass)

    def mean(self, losses: np.ndarray, mass: np.ndarray) -> np.ndarray:
        """The reported loss of several batches out of those of each."""
        return self.reported * super().mean(losses, mass)

    @property
    def in_place(self) -> bool:
        """Whether X is dense."""
        return isinstance(self.X, np.ndarray)

    def locate(self, batches: Batches) -> tuple[Data, Batches]:
        """Where compiled code finds these batches: in place, or for sparse rows in a dense copy of them."""
        if self.in_place:
            return self, batches
        rows: Any = slice(batches.first, batches.first + batches.total)
        rows = rows if batches.order is None else batches.order[rows]
        return self.dense(rows), Batches(None, 0, batches.total, batches.size)

    def rows(self, rows: Any) -> "Problem":
        """Some of the rows, by slice or numbers."""
        X, y, labels = self.X[rows], self.target.values[rows], self.target.labels
        target = Targets(y, self.target.metric, None if labels is None else y)
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, X=X, target=target, weight=weight)

    def dense(self, rows: Any) -> "Problem":
        """The same; sparse rows are made dense."""
        if isinstance(self.X, np.ndarray) and rows == slice(0, len(self.X)):
            return self
        part = self.rows(rows)
        return part if isinstance(part.X, np.ndarray) else replace(part, X=part.X.toarray())

    def weights(self) -> np.ndarray:
        """One per row."""
        return np.ones(self.X.shape[0]) if self.weight is None else self.weight

    def validate(self, net: Any) -> dict[str, float]:
        """What a network reaches here: {"loss", "accuracy"}, or {"loss", "r2"} where there are no classes, by weight.

        The loss is the reported one, as the steps' is. The score is NaN where outputs overflow.
        """
        engine, w, losses, right, outputs = net.engine(), self.weights(), [], [], []
        for block in blocks(self.X, net):
            part = self.dense(block)
            out = np.empty((part.X.shape[0], net.layers[-1]), net.dtype)
            metric = self.target.metric
            values, hits = engine.forward(
                part.X, out=out, target=part.target.values, weight=part.weight, loss=self.loss, metric=metric,
                among=self.X.shape[0],
            )  # fmt: skip
            losses.append(values.sum())
            right.append(hits if metric else np.zeros(0))
            outputs.append(out)
        out, total = np.concatenate(outputs), w.sum()
        if self.target.metric:
            name, score = "accuracy", float(w @ np.concatenate(right) / total)
        else:
            name, score = "r2", weighted_r2(self.target.values, out, w)
        loss = float(self.reported * self.factor * sum(losses) / total)
        return {"loss": loss, name: score if np.isfinite(out).all() else np.nan}

    def loss_and_gradient(self, net: Any, alpha: float) -> tuple[float, np.ndarray]:
        """The loss whose gradient is returned, laid out like the network's parameters, in float64."""
        mass = self.mass(None, self.X.shape[0])
        (scale,), (l2,) = self.scales(mass), self.decay(alpha, mass)
        loss, gradient = 0.0, np.zeros(len(net.parameters))
        for block in blocks(self.X, net):
            part = self.dense(block)
            value, partial, _ = net.engine().gradients(
                part.X, part.target.values, weight=part.weight, scale=scale, loss=self.loss, l2=l2
            )
            loss, gradient, l2 = loss + value, gradient + partial, 0.0  # the penalty once
        return loss, gradient


def blocks(X: Any, net: Any) -> list[slice]:
    """Slices of rows that are gone through at once: such as the network likes, and when dense not too large."""
    n, columns = X.shape
    largest = n if isinstance(X, np.ndarray) else max(1, BLOCK_BYTES // (8 * columns))
    return [
        slice(start, min(start + largest, block.stop))
        for block in net.blocks(n)
        for start in range(block.start, block.stop, largest)
    ]


def sparse_outputs(net: Any, X: Any) -> np.ndarray:
    """The outputs of a network for sparse rows, the first product by SciPy, which passes over the zeros."""
    layout = net.layout
    columns, stride = layout.widths[0], layout.strides[1]
    first = net.parameters[: columns * stride].reshape(columns, stride)  # with its padding: SciPy would copy a view
    outputs = []
    for start in range(0, X.shape[0], SPARSE_ROWS):
        part = X[start : start + SPARSE_ROWS].astype(net.dtype, copy=False)
        y = (part @ first)[:, : layout.widths[1]] + net.biases[0]
        for activation, w, b in zip(net.activations, net.weights[1:], net.biases[1:], strict=True):
            y = kernels.linear(kernels.activate(y, activation, out=y), w, b)
        outputs.append(OUTPUT[net.output](y))
    return np.concatenate(outputs)


def weighted_r2(y: np.ndarray, outputs: np.ndarray, weight: np.ndarray) -> float:
    """The coefficient of determination by weight, averaged over outputs, as scikit-learn's r2_score.

    Of all rows at once, as scikit-learn's estimators have it; `evaluation.measure` adds up blocks, in another order.
    """
    y = y.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # a network that diverges has an R2 of -inf or NaN
        residual = weight @ (y - outputs) ** 2
    spread = weight @ (y - np.average(y, axis=0, weights=weight)) ** 2
    score = np.where(residual == 0, 1.0, 0.0)  # of a target that never varies
    np.divide(spread - residual, spread, out=score, where=spread > 0)
    return float(score.mean())


def _adam_scalars(step: Any, learning_rate: Any, beta1: Any, beta2: Any, epsilon: Any) -> Any:
    return adam.scalars(step, learning_rate, beta1, beta2, epsilon * sqrt(1.0 / (1.0 - beta2**step)))


@dataclass(frozen=True)
class Adam(optimizers.Adam):
    """Adam with scikit-learn's epsilon, which is added before v is corrected (Kingma & Ba 2015, section 2)."""

    updates: ClassVar[tuple[Update, ...]] = (replace(optimizers.Adam.updates[0], scalars=_adam_scalars),)


class EpochRates:
    """An optimiser's state between epochs: its memory, and the learning rate of the next epoch.

    schedule: "constant", "invscaling" (initial / (rows seen + 1) ** power), "adaptive" (a fifth whenever training
    stalls), or a schedule of the step, which `learning_rate` then knows nothing of.
    """

    def __init__(self, net: Any, solver: str, schedule: str | Schedule, initial: float, power: float, **options: Any):
        self.schedule, self.initial, self.power = schedule, float(initial), power
        self.learning_rate = self.initial
        rate = schedule if callable(schedule) else self
        kind: Any = Adam if solver == "adam" else optimizers.known[solver]
        self.memory = Memory.fresh(net, kind(learning_rate=rate, **options))

    def fits(self, net: Any) -> bool:
        """Whether this is the memory of a network of that size and dtype."""
        return all(array.shape == net.parameters.shape and array.dtype == net.dtype for array in self.memory.arrays)

    def __call__(self, step: np.ndarray) -> np.ndarray:
        """The rate of each step of this epoch."""
        return np.full(len(step), self.learning_rate)

    def end_epoch(self, rows_seen: int) -> None:
        """Set the rate of the next epoch."""
        if self.schedule == "invscaling":
            self.learning_rate = self.initial / (rows_seen + 1) ** self.power

    def stalled(self, message: str, say: Callable[[str], None]) -> bool:
        """Whether training that no longer improves is to end; if not, the rate has been lowered."""
        if self.schedule != "adaptive":
            say(f"{message} Stopping.")
            return True
        if self.learning_rate <= SMALLEST_RATE:
            say(f"{message} Learning rate too small. Stopping.")
            return True
        self.learning_rate /= 5.0
        say(f"{message} Setting learning rate to {self.learning_rate:f}")
        return False


def minimise(
    net: Any, problem: Problem, alpha: float, gtol: float, max_iter: int, max_fun: int, say: Callable[[str], None]
) -> tuple[float, int]:
    """L-BFGS on all rows, by SciPy, which is not shown the padding. The reported loss and the number of iterations."""
    from scipy.optimize import minimize
    from sklearn.exceptions import ConvergenceWarning

    iterations, layout = 0, net.layout
    own = np.zeros(layout.size, bool)
    for view in [*layout.weights(own), *layout.biases(own)]:
        view[...] = True
    places = np.flatnonzero(own)

    def objective(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        share.take()
        net.parameters[places] = parameters
        loss, gradient = problem.loss_and_gradient(net, alpha)
        return loss, gradient[places]

    def report(intermediate_result: Any) -> None:
        nonlocal iterations
        iterations += 1
        say(f"Iteration {iterations}, loss = {problem.reported * intermediate_result.fun:.8f}")

    with ThreadShare(net.engine()) as share:
        result = minimize(
            objective, net.parameters[places].astype(np.float64), method="L-BFGS-B", jac=True, callback=report,
            options={"maxfun": max_fun, "maxiter": max_iter, "gtol": gtol},
        )  # fmt: skip
    net.parameters[places] = result.x
    if result.status != 0:
        warnings.warn(
            f"lbfgs failed to converge after {result.nit} iteration(s) (status={result.status}): {result.message}. "
            f"Increase max_iter (now {max_iter}) or scale the data to mean 0 and variance 1",
            ConvergenceWarning,
            stacklevel=4,
        )
    return float(problem.reported * result.fun), min(result.nit, max_iter)
