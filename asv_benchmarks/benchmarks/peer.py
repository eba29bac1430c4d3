"""What the libraries that fastnn is set beside have in common: see peers.py."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

import fastnn

from .workloads import Workload

Weights = list[tuple[np.ndarray, np.ndarray]]


class Peer:
    """What all of them keep."""

    devices: tuple[str, ...] = ("cpu",)
    precisions: tuple[str, ...] = ("float32",)

    def __init__(self, workload: Workload, threads: int, device: str = "cpu") -> None:
        self.workload, self.threads, self.device = workload, threads, device
        self.X, self.y = workload.data()
        self.model: Any = replace(workload, precision="float32").model(threads)  # which every device has
        self.initial = [(w.copy(), b.copy()) for w, b in zip(self.model.weights, self.model.biases)]
        self.adam = isinstance(workload.optimizer, fastnn.Adam)
        self.rate = float(workload.optimizer.learning_rate)
        self.sigmoid = workload.output == "sigmoid"
        self.starts = range(0, workload.rows, workload.batch_size)
        self.prepare()

    def prepare(self) -> None:
        """Everything that is done once."""
        raise NotImplementedError

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        """A call that gives the outputs for X."""
        raise NotImplementedError

    train: Callable[[int], None] | None = None
    epochs = 0  # of one measurement of compare.py, once it is known
