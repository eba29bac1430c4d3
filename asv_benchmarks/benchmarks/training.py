"""Training whole networks: epochs, single steps, gradients; and what peers take for the same."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import fastnn

from .common import Sampled, import_or_skip, once, sweep, use_threads
from .workloads import WORKLOADS, Workload

THREADS = sweep(1, 2)
NAMES = sweep(*WORKLOADS)


class Fit(Sampled):
    """`fit` over so many epochs as the workload says, from the initial weights each time."""

    params = [NAMES, THREADS]
    param_names = ["workload", "threads"]

    @once
    def setup(self, name: str, threads: int) -> Callable[[], Any]:
        use_threads(threads)
        workload = WORKLOADS[name]
        self.data, self.model = workload.data(), workload.model(threads)
        return workload.fit(self.model, *self.data)

    def time_fit(self, name: str, threads: int) -> None:
        self.call()

    def track_error_rate(self, name: str, threads: int) -> float:
        self.call()
        return 100.0 * (1.0 - self.model.evaluate(*self.data)["accuracy"])

    track_error_rate.unit = "% of rows wrong"


class Step(Sampled):
    """One batch: a training step with what `fit` costs around it, and the gradients without an update."""

    params = [sweep("fit", "loss_and_gradients"), NAMES, THREADS]
    param_names = ["call", "workload", "threads"]

    @once
    def setup(self, call: str, name: str, threads: int) -> Callable[[], Any]:
        use_threads(threads)
        workload = WORKLOADS[name]
        model = workload.model(threads)
        X, y = (array[: workload.batch_size] for array in workload.data())
        if call == "loss_and_gradients":
            return lambda: model.loss_and_gradients(X, y)
        return lambda: model.fit(X, y, 1, workload.batch_size, workload.optimizer, progress=False)

    def time_step(self, call: str, name: str, threads: int) -> None:
        self.call()


class PeerFit(Sampled):
    """The same epochs in other libraries, on all cores: a control of the machine, and a yardstick."""

    params = [sweep("scikit-learn", "torch"), sweep("digits400", "small32", "mnist")]
    param_names = ["library", "workload"]

    @once
    def setup(self, library: str, name: str) -> Callable[[], Any]:
        workload = WORKLOADS[name]
        make = {"scikit-learn": _scikit_learn, "torch": _torch}[library]
        return make(workload, *workload.data())

    def time_fit(self, library: str, name: str) -> None:
        self.call()


def _scikit_learn(workload: Workload, X: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    neural_network = import_or_skip("sklearn.neural_network")
    sgd = isinstance(workload.optimizer, fastnn.SGD)
    model = neural_network.MLPClassifier(
        workload.layers[1:-1],
        solver="sgd" if sgd else "adam",
        alpha=0.0,
        momentum=0.0,
        learning_rate_init=workload.optimizer.learning_rate,
        batch_size=workload.batch_size,
        max_iter=workload.epochs,
        n_iter_no_change=workload.epochs + 1,
        random_state=0,
    )

    def call() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it has not converged
            model.fit(X, y)

    return call


def _torch(workload: Workload, X: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    torch = import_or_skip("torch")
    torch.manual_seed(0)
    modules: list[Any] = []
    for inputs, outputs in zip(workload.layers, workload.layers[1:]):
        modules += [torch.nn.Linear(inputs, outputs), torch.nn.ReLU()]
    model, loss = torch.nn.Sequential(*modules[:-1]), torch.nn.CrossEntropyLoss()
    make = torch.optim.SGD if isinstance(workload.optimizer, fastnn.SGD) else torch.optim.Adam
    optimizer = make(model.parameters(), lr=workload.optimizer.learning_rate)
    X, y = torch.from_numpy(X), torch.from_numpy(y)

    def call() -> None:
        for _ in range(workload.epochs):
            for batch in torch.randperm(workload.rows).split(workload.batch_size):
                optimizer.zero_grad()
                loss(model(X[batch]), y[batch]).backward()
                optimizer.step()

    return call
