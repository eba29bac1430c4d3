"""MLPClassifier and MLPRegressor beside scikit-learn's: whole fits with the same parameters, on scikit-learn's data."""

import warnings
from collections.abc import Callable
from typing import Any

from .common import Sampled, import_or_skip, once, sweep, use_threads

# The data, and max_iter: the default, or for the large one what scikit-learn does in seconds
DATASETS = {"iris": 200, "wine": 200, "breast_cancer": 200, "diabetes": 200, "digits": 200, "generated": 10}
SOLVERS = ("adam", "sgd", "lbfgs")
LIBRARIES = ("fastnn", "scikit-learn")


def data(name: str, seed: int) -> list[Any]:
    """X_train, X_test, y_train, y_test: three quarters and a quarter, standardised by the first (diabetes' y too)."""
    from sklearn import datasets
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    if name == "generated":
        X, y = datasets.make_classification(100_000, 50, n_informative=20, n_classes=5, random_state=0)
    else:
        X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, random_state=seed, stratify=None if name == "diabetes" else y
    )
    scaler = StandardScaler().fit(X_train)
    return [scaler.transform(X_train), scaler.transform(X_test), y_train, y_test]


def estimator(library: str, name: str, solver: str, seed: int) -> Any:
    """An estimator of this library with its defaults; sgd with a rate at which it learns in these epochs."""
    import sklearn.neural_network

    import fastnn

    module = fastnn if library == "fastnn" else sklearn.neural_network
    kind = "MLPRegressor" if name == "diabetes" else "MLPClassifier"
    rate = 0.05 if solver == "sgd" else 0.001
    return getattr(module, kind)(
        solver=solver, learning_rate_init=rate, max_iter=DATASETS[name], random_state=seed
    )  # fmt: skip


class EstimatorFit(Sampled):
    """fit, on two threads; scikit-learn takes all cores for its products."""

    params = [sweep(*LIBRARIES), sweep(*DATASETS), sweep(*SOLVERS)]
    param_names = ["library", "data", "solver"]

    @once
    def setup(self, library: str, name: str, solver: str) -> Callable[[], Any]:
        import_or_skip("sklearn")
        if library == "fastnn":
            use_threads(2)
        warnings.simplefilter("ignore")  # not converged
        X, _, y, _ = data(name, 0)
        model = estimator(library, name, solver, 0)
        return lambda: model.fit(X, y)

    def time_fit(self, library: str, name: str, solver: str) -> None:
        self.call()


class EstimatorPredict(Sampled):
    """predict of one row and of the whole test set: what is spent on checks, and on products."""

    params = [sweep(*LIBRARIES), sweep("digits", "generated"), sweep(1, 25_000)]
    param_names = ["library", "data", "rows"]

    @once
    def setup(self, library: str, name: str, rows: int) -> Callable[[], Any]:
        import_or_skip("sklearn")
        warnings.simplefilter("ignore")
        X_train, X_test, y_train, _ = data(name, 0)
        model = estimator(library, name, "adam", 0).set_params(max_iter=1).fit(X_train[:2000], y_train[:2000])
        X = X_test[:rows]
        return lambda: model.predict(X)

    def time_predict(self, library: str, name: str, rows: int) -> None:
        self.call()
