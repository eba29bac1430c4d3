"""What a trained network takes to answer: one row, a few, many; and what peers take."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from .common import Sampled, once, sweep
from .devices import DEVICES, use
from .peak import share_of_peak
from .peers import OTHERS, peer_or_skip
from .workloads import WORKLOADS


def rows_for(name: str, rows: int) -> np.ndarray:
    """Normal random numbers (rows, inputs), float32."""
    return np.random.default_rng(1).standard_normal((rows, WORKLOADS[name].layers[0]), np.float32)


class Predict(Sampled):
    """`predict` on float32 rows."""

    params = [DEVICES, sweep("moons", "small32", "mnist", "wide"), sweep(1, 2, 8, 32, 1000), sweep(1, 2)]
    param_names = ["device", "workload", "rows", "threads"]

    @once
    def setup(self, device: str, name: str, rows: int, threads: int) -> Callable[[], Any]:
        use(device, threads)
        model, X = WORKLOADS[name].model(threads, device), rows_for(name, rows)
        return lambda: model.predict(X)

    def time_predict(self, device: str, name: str, rows: int, threads: int) -> None:
        self.call()


class PredictMany(Sampled):
    """`predict` on 10,000 rows, which should come near the FMA peak."""

    params = [DEVICES, sweep("mnist", "wide"), sweep(1, 2)]
    param_names = ["device", "workload", "threads"]

    @once
    def setup(self, device: str, name: str, threads: int) -> Callable[[], Any]:
        use(device, threads)
        model, X = WORKLOADS[name].model(threads, device), rows_for(name, 10_000)
        return lambda: model.predict(X)

    def time_predict(self, device: str, name: str, threads: int) -> None:
        self.call()

    def track_share_of_peak(self, device: str, name: str, threads: int) -> float:
        return share_of_peak(self, 2 * 10_000 * WORKLOADS[name].multiply_adds, "float32", threads, device)

    track_share_of_peak.unit = "% of FMA peak"


class PredictPrecision(Sampled):
    """`predict` with products of bfloat16 numbers, and how far that is from float32; `Predict` has float32's time."""

    params = [DEVICES, sweep("mnist", "wide"), sweep(1, 32, 1000), sweep(1, 2)]
    param_names = ["device", "workload", "rows", "threads"]

    @once
    def setup(self, device: str, name: str, rows: int, threads: int) -> Callable[[], Any]:
        use(device, threads)
        try:
            model = replace(WORKLOADS[name], precision="bf16").model(threads, device)
        except ValueError as error:
            raise NotImplementedError(str(error)) from None
        X, self.exact = rows_for(name, rows), WORKLOADS[name].model(threads, device)
        return lambda: model.predict(X)

    def time_predict(self, device: str, name: str, rows: int, threads: int) -> None:
        self.call()

    def track_error(self, device: str, name: str, rows: int, threads: int) -> float:
        return 100.0 * float(np.abs(self.call() - self.exact.predict(rows_for(name, rows))).max())

    track_error.unit = "% of probability, the largest"


class PeerPredict(Sampled):
    """The same rows through other libraries, on all cores: a control of the machine, and a yardstick."""

    params = [sweep(*OTHERS), sweep("moons", "small32", "mnist", "wide"), sweep(1, 32, 1000)]
    param_names = ["library", "workload", "rows"]

    @once
    def setup(self, library: str, name: str, rows: int) -> Callable[[], Any]:
        return peer_or_skip(library, WORKLOADS[name]).predictor(rows_for(name, rows))

    def time_predict(self, library: str, name: str, rows: int) -> None:
        self.call()
