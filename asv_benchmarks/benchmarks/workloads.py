"""The networks that are trained and run, with their data: made from a fixed seed, nothing is downloaded."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

import fastnn


@dataclass(frozen=True)
class Workload:
    """A network, how much data it sees and how it is trained."""

    layers: tuple[int, ...]
    rows: int
    batch_size: int
    optimizer: fastnn.SGD | fastnn.Adam
    epochs: int  # of one measurement
    output: str = "softmax"
    precision: str = "float32"  # of the products
    norm: str | None = None  # what normalises hidden layers

    @property
    def multiply_adds(self) -> int:
        """Those of one row on its way forward."""
        return sum(a * b for a, b in pairwise(self.layers))

    @property
    def operations(self) -> int:
        """Floating-point operations of the products of an epoch: forward, dw, and dx of every layer but the first."""
        return 2 * self.rows * (3 * self.multiply_adds - self.layers[0] * self.layers[1])

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """X (rows, inputs) float32 and labels y (rows,) int64."""
        random = np.random.default_rng(0)
        make = _moons if self.output == "sigmoid" and self.layers[0] == 2 else _clouds
        return make(random, self.rows, self.layers[0], max(2, self.layers[-1]))

    def model(self, threads: int | None = None, device: str = "cpu") -> fastnn.MLP:
        """The network with its initial weights."""
        return fastnn.MLP(
            self.layers,
            output=self.output,
            norm=self.norm,
            precision=self.precision,
            threads=threads,
            device=device,
            seed=0,
        )

    def fit(self, model: fastnn.MLP, X: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
        """The call that trains `model`, always from the weights it has now."""
        initial = model.parameters.copy()

        def call() -> fastnn.History:
            model.parameters[...] = initial
            return model.fit(X, y, self.epochs, self.batch_size, self.optimizer, progress=False)

        return call


ADAM = fastnn.Adam(1e-3)

WORKLOADS = {
    "moons": Workload((2, 25, 50, 50, 25, 1), 1000, 1000, fastnn.SGD(0.1), epochs=100, output="sigmoid"),
    "digits400": Workload((400, 25, 10), 5000, 5000, fastnn.SGD(0.1), epochs=20),
    "small32": Workload((64, 64, 64, 10), 3200, 32, ADAM, epochs=3),
    "mnist": Workload((784, 256, 128, 10), 12_800, 128, ADAM, epochs=1),
    "wide": Workload((1024, 2048, 2048, 1024, 10), 2048, 512, fastnn.SGD(0.01), epochs=1),
    "narrow": Workload((10, 10, 10, 2), 4096, 32, ADAM, epochs=1),
    "deep": Workload((32, *(64,) * 10, 10), 4096, 64, ADAM, epochs=1),
    "odd": Workload((57, 93, 31, 7), 4100, 41, ADAM, epochs=1),
    "one-row": Workload((30, 50, 2), 1000, 1, fastnn.SGD(0.01), epochs=1),
    "large-batch": Workload((64, 256, 256, 10), 16_384, 4096, ADAM, epochs=1),
}

# What fills a GPU: narrow networks, which frameworks run layer by layer through memory, on large batches
LARGE = {
    f"{width}x5-{batch}": Workload((width,) * 6 + (10,), max(2 * batch, 1 << 17), batch, ADAM, epochs=1)
    for width in (64, 128)
    for batch in (1 << 14, 1 << 16, 1 << 18)
}


def _moons(random: np.random.Generator, rows: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles that reach into each other, with noise 0.2."""
    y = random.integers(0, 2, rows)
    angle = random.uniform(0, np.pi, rows)
    X = np.stack([np.cos(angle) + y, np.where(y, 0.5 - np.sin(angle), np.sin(angle))], axis=1)
    return (X + random.normal(0, 0.2, X.shape)).astype(np.float32), y


def _clouds(random: np.random.Generator, rows: int, inputs: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """A normal cloud for each class, their centres some four standard deviations apart, so that classes overlap."""
    centres = random.normal(0, 3 / np.sqrt(inputs), (outputs, inputs))
    y = random.integers(0, outputs, rows)
    return (centres[y] + random.normal(0, 1, (rows, inputs))).astype(np.float32), y
