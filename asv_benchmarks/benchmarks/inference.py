"""What a trained network takes to answer: one row, a few, many."""

from collections.abc import Callable
from typing import Any

from .common import Sampled, once, sweep, use_threads
from .workloads import WORKLOADS


class Predict(Sampled):
    """`predict` on float32 rows."""

    params = [sweep("moons", "mnist", "wide"), sweep(1, 32, 1000), sweep(1, 2)]
    param_names = ["workload", "rows", "threads"]

    @once
    def setup(self, name: str, rows: int, threads: int) -> Callable[[], Any]:
        use_threads(threads)
        model = WORKLOADS[name].model(threads)
        X = WORKLOADS[name].data()[0][:rows]
        return lambda: model.predict(X)

    def time_predict(self, name: str, rows: int, threads: int) -> None:
        self.call()
