"""Set MLPClassifier and MLPRegressor beside scikit-learn's: held-out score and time of whole fits, as a table.

    python asv_benchmarks/compare_estimators.py                        # all data, adam and sgd, 10 seeds
    python asv_benchmarks/compare_estimators.py --data iris wine --solvers lbfgs --seeds 3

Both have the same parameters, data and seeds, so their splits, first weights and batches are the same too. Their fits
alternate; the median time of the seeds counts. fastnn compiles before the first one.
"""

import argparse
import importlib.metadata
import platform
import statistics
import time
import warnings

from benchmarks.estimators import DATASETS, LIBRARIES, SOLVERS, data, estimator


def compare(name: str, solver: str, seeds: int) -> str:
    """A row of the table."""
    scores: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    seconds: dict[str, list[float]] = {library: [] for library in LIBRARIES}
    X_train, _, y_train, _ = data(name, 0)
    estimator("fastnn", name, solver, 0).set_params(max_iter=1).fit(X_train, y_train)
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = data(name, seed)
        for library in LIBRARIES if seed % 2 else LIBRARIES[::-1]:
            model = estimator(library, name, solver, seed)
            start = time.perf_counter()
            model.fit(X_train, y_train)
            seconds[library].append(time.perf_counter() - start)
            scores[library].append(model.score(X_test, y_test))
    ours, theirs = (statistics.median(seconds[library]) for library in LIBRARIES)
    means = " | ".join(f"{statistics.mean(scores[library]):.4f}" for library in LIBRARIES)
    return f"| {name} | {solver} | {means} | {1e3 * ours:.1f} | {1e3 * theirs:.1f} | {theirs / ours:.1f} |"


def main() -> None:
    """Print the table, line by line as it comes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", nargs="+", choices=list(DATASETS), default=list(DATASETS))
    parser.add_argument("--solvers", nargs="+", choices=list(SOLVERS), default=["adam", "sgd"])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # not converged
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("scikit-learn", "numpy", "numba"))
    print(f"Python {platform.python_version()}, {versions}; mean score of {options.seeds} seeds, median ms of a fit\n")
    print("| data | solver | score: fastnn | scikit-learn | ms: fastnn | scikit-learn | times as fast |")
    print("|---|---|---|---|---|---|---|")
    for name in options.data:
        for solver in options.solvers:
            print(compare(name, solver, options.seeds), flush=True)


if __name__ == "__main__":
    main()
