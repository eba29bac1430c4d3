"""The kernels one by one: products, layers, activations, losses, optimiser steps.

Shapes are B x I x O: rows of the batch, inputs, outputs. The share of the FMA peak is the one measure here of which
more is better.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import kernels
from kernels import backends, reference
from kernels.layout import aligned_zeros
from kernels.losses import LOSSES
from kernels.optimizers.declaration import known_updates

from .common import Sampled, import_or_skip, once, sweep, use_threads
from .devices import DEVICES, backend, on_host, placed, product_call, use, use_precision, waiting
from .peak import product, share_of_peak

SHAPES = sweep(
    "32x64x64", "1x784x256", "1000x50x50", "128x784x256", "5000x400x25", "512x1024x2048", "64x64x64", "128x128x128",
    "256x256x256", "512x512x512", "1024x1024x1024", "2048x2048x2048",
)  # fmt: skip
DTYPES = sweep("float32", "float64")
THREADS = sweep(1, 2)
PRODUCTS = sweep("x @ w", "x.T @ dz", "dz @ w.T")
ACTIVATIONS = sweep("silu", *(name for name in reference.ACTIVATIONS if name != "silu"))


def sizes(shape: str) -> list[int]:
    """[B, I, O]."""
    return [int(size) for size in shape.split("x")]


def empty(*shape: int, dtype: str = "float32", offset: int = 0) -> np.ndarray:
    """An array that starts `offset` bytes past a cache line.

    NumPy's own start where malloc puts them, and that alone is up to 1.6 times the time (dz @ w.T of 5000x400x25 on
    2 cores of an Intel Xeon with AMX, one thread), another in each process.
    """
    itemsize = np.dtype(dtype).itemsize
    n, skip = int(np.prod(shape)), offset // itemsize
    return aligned_zeros(n + skip, dtype)[skip:].reshape(shape)


def normal(seed: int, *shape: int, dtype: str = "float32", offset: int = 0) -> np.ndarray:
    """Normal random numbers, the same in each process."""
    array = empty(*shape, dtype=dtype, offset=offset)
    array[...] = np.random.default_rng(seed).standard_normal(shape)
    return array


def error(result: np.ndarray, exact: np.ndarray, scale: Any = 1.0) -> float:
    """The largest error, in units of the dtype's rounding error (eps), relative to the larger of value and scale."""
    eps = np.finfo(result.dtype).eps
    return float(np.max(np.abs(result - exact) / (eps * np.maximum(np.abs(exact), scale))))


class Product(Sampled):
    """A layer's three products on one thread, without anything else."""

    params = [PRODUCTS, SHAPES, DTYPES]
    param_names = ["product", "shape", "dtype"]
    offset = 0

    @once
    def setup(self, name: str, shape: str, dtype: str) -> Callable[[], Any]:
        B, I, O = sizes(shape)
        self.operands = x, w, dz = [  # kept here: the call holds addresses alone
            normal(n, *shape, dtype=dtype, offset=self.offset) for n, shape in enumerate([(B, I), (I, O), (B, O)])
        ]
        a, b = {"x @ w": (x, w), "x.T @ dz": (x.T, dz), "dz @ w.T": (dz, w.T)}[name]
        self.out = empty(a.shape[0], b.shape[1], dtype=dtype, offset=self.offset)
        return product(a, b, self.out)

    def time_product(self, name: str, shape: str, dtype: str) -> None:
        self.call()

    def track_share_of_peak(self, name: str, shape: str, dtype: str) -> float:
        return share_of_peak(self, 2 * np.prod(sizes(shape)), dtype, 1)

    track_share_of_peak.unit = "% of FMA peak"


class UnalignedProduct(Product):
    """The same on arrays that start where NumPy lets large ones start, 16 bytes past a page."""

    params = [PRODUCTS, sweep("5000x400x25"), DTYPES]
    offset = 16


class Linear(Sampled):
    """relu(x @ w + b); NumPy's is the control: where it changes, the machine did."""

    params = [DEVICES, sweep("fastnn", "numpy"), SHAPES, THREADS]
    param_names = ["device", "library", "shape", "threads"]

    @once
    def setup(self, device: str, library: str, shape: str, threads: int) -> Callable[[], Any]:
        use(device, threads)
        B, I, O = sizes(shape)
        arrays = normal(0, B, I), normal(1, I, O), normal(2, O), empty(B, O)
        x, w, b, y = self.arrays = placed(device, *arrays)
        if library == "fastnn":
            linear = backend(device).linear
            return waiting(device, lambda: linear(x, w, b, activation="relu", out=y))
        if device == "cuda":
            raise NotImplementedError("NumPy has no device 'cuda'")
        import_or_skip("threadpoolctl").threadpool_limits(threads)

        def call() -> None:
            np.dot(x, w, out=y)
            np.add(y, b, out=y)
            np.maximum(y, 0, out=y)

        return call

    def time_linear(self, device: str, library: str, shape: str, threads: int) -> None:
        self.call()

    def track_share_of_peak(self, device: str, library: str, shape: str, threads: int) -> float:
        return share_of_peak(self, 2 * np.prod(sizes(shape)), "float32", threads, device)

    def track_error(self, device: str, library: str, shape: str, threads: int) -> float:
        x, w, b, y = map(on_host, self.arrays)
        exact = reference.linear(x.astype(float), w.astype(float), b.astype(float), activation="relu")
        return error(y, exact, np.abs(x) @ np.abs(w) + np.abs(b))

    track_share_of_peak.unit = "% of FMA peak"
    track_error.unit = "eps"


class TensorCores(Sampled):
    """x @ w on a GPU's tensor cores; of float32's error, `track_error` is a multiple."""

    params = [sweep("tf32", "bf16"), SHAPES]
    param_names = ["precision", "shape"]

    @once
    def setup(self, precision: str, shape: str) -> Callable[[], Any]:
        use_precision(precision)
        B, I, O = sizes(shape)
        self.arrays = placed("cuda", normal(0, B, I), normal(1, I, O), empty(B, O))
        return waiting("cuda", product_call(precision, *self.arrays))

    def time_product(self, precision: str, shape: str) -> None:
        self.call()

    def track_error(self, precision: str, shape: str) -> float:
        x, w, y = map(on_host, self.arrays)
        return error(y, x.astype(float) @ w, np.abs(x) @ np.abs(w))

    track_error.unit = "eps"


class LinearBackward(Sampled):
    """All gradients of relu(x @ w + b)."""

    params = [DEVICES, SHAPES, THREADS]
    param_names = ["device", "shape", "threads"]

    @once
    def setup(self, device: str, shape: str, threads: int) -> Callable[[], Any]:
        use(device, threads)
        B, I, O = sizes(shape)
        inputs = placed(device, normal(0, B, O), normal(1, B, I), normal(2, I, O), normal(3, B, O))
        outputs = placed(device, empty(B, I), empty(I, O), empty(O), empty(B, O))
        into = dict(zip(("dx", "dw", "db", "dz"), outputs, strict=True))
        linear_backward = backend(device).linear_backward
        return waiting(device, lambda: linear_backward(*inputs, activation="relu", **into))

    def time_linear_backward(self, device: str, shape: str, threads: int) -> None:
        self.call()

    def track_share_of_peak(self, device: str, shape: str, threads: int) -> float:
        return share_of_peak(self, 4 * np.prod(sizes(shape)), "float32", threads, device)

    track_share_of_peak.unit = "% of FMA peak"


class LinearActivation(Sampled):
    """f(x @ w + b) for each f, 128x784x256 on one thread."""

    params = [ACTIVATIONS]
    param_names = ["activation"]

    @once
    def setup(self, activation: str) -> Callable[[], Any]:
        use_threads(1)
        x, w, b, y = normal(0, 128, 784), normal(1, 784, 256), normal(2, 256), empty(128, 256)
        return lambda: kernels.linear(x, w, b, activation=activation, out=y)

    def time_linear(self, activation: str) -> None:
        self.call()

    def track_share_of_peak(self, activation: str) -> float:
        return share_of_peak(self, 2 * 128 * 784 * 256, "float32", 1)

    track_share_of_peak.unit = "% of FMA peak"


class Activation(Sampled):
    """An activation by itself, and its gradient, on (128, 256) values between -12 and 12 or so."""

    params = [DEVICES, sweep("forward", "backward"), ACTIVATIONS, DTYPES]
    param_names = ["device", "direction", "activation", "dtype"]

    @once
    def setup(self, device: str, direction: str, activation: str, dtype: str) -> Callable[[], Any]:
        use(device)
        library, arrays = backend(device), (3 * normal(0, 128, 256, dtype=dtype), normal(1, 128, 256, dtype=dtype))
        z, dy, out = placed(device, *arrays, empty(128, 256, dtype=dtype))
        wide, wide_dy = (array.astype(float) for array in arrays)
        self.out = out
        if direction == "forward":
            self.exact = reference.activate(wide, activation)
            return waiting(device, lambda: library.activate(z, activation, out=out))
        y = library.activate(z, activation)
        self.exact = reference.activate_backward(wide_dy, on_host(y).astype(float), activation, pre=wide)
        return waiting(device, lambda: library.activate_backward(dy, y, activation, pre=z, out=out))

    def time_activation(self, device: str, direction: str, activation: str, dtype: str) -> None:
        self.call()

    def track_error(self, device: str, direction: str, activation: str, dtype: str) -> float:
        return error(on_host(self.out), self.exact)

    track_error.unit = "eps"


class Loss(Sampled):
    """A loss and its gradient, of 128 rows."""

    params = [
        DEVICES,
        sweep(*LOSSES),
        sweep(10, 1000),
        DTYPES,
    ]
    param_names = ["device", "loss", "outputs", "dtype"]

    @once
    def setup(self, device: str, name: str, outputs: int, dtype: str) -> Callable[[], Any]:
        use(device)
        z, dz = 3 * normal(0, 128, outputs, dtype=dtype), empty(128, outputs, dtype=dtype)
        target: np.ndarray = np.abs(normal(1, 128, outputs, dtype=dtype)) / 6
        declared = LOSSES[name]
        if declared.targets.only:
            target = np.where(target < 0.1, *map(target.dtype.type, declared.targets.only[:2]))
        if declared.targets.labels:
            target = np.random.default_rng(1).integers(0, outputs, 128)
        wide = target if target.ndim == 1 else target.astype(float)
        needed = declared.parameter is not None and declared.parameter.default is None
        parameter = {declared.parameter.name: 0.9} if declared.parameter and needed else {}
        loss = (name, 0.9) if needed else name
        _, self.exact = reference.loss_and_gradient(loss, z.astype(float), wide)
        z, target, dz = placed(device, z, target, dz)
        self.dz = dz
        if device == "cpu":
            return waiting(device, lambda: getattr(kernels, name)(z, target, dz=dz, **parameter))
        return waiting(device, lambda: backend(device).loss_and_gradient(loss, z, target, dz=dz))

    def time_loss(self, device: str, name: str, outputs: int, dtype: str) -> None:
        self.call()

    def track_error(self, device: str, name: str, outputs: int, dtype: str) -> float:
        return error(on_host(self.dz), self.exact, np.abs(self.exact).max())

    track_error.unit = "eps"


class Softmax(Sampled):
    """The probabilities of 128 rows."""

    params = [DEVICES, sweep(10, 1000), DTYPES]
    param_names = ["device", "outputs", "dtype"]

    @once
    def setup(self, device: str, outputs: int, dtype: str) -> Callable[[], Any]:
        use(device)
        z, out = placed(device, 3 * normal(0, 128, outputs, dtype=dtype), empty(128, outputs, dtype=dtype))
        softmax = backend(device).softmax
        return waiting(device, lambda: softmax(z, out=out))

    def time_softmax(self, device: str, outputs: int, dtype: str) -> None:
        self.call()


UPDATES = {update.name: update for update in known_updates()}


class Update(Sampled):
    """An optimiser's step: on parameters that lie in L1, and on those of a network beyond L2."""

    params = [DEVICES, sweep(*UPDATES), sweep("64x64", "2048x2048"), DTYPES]
    param_names = ["device", "optimizer", "shape", "dtype"]

    @once
    def setup(self, device: str, name: str, shape: str, dtype: str) -> Callable[[], Any]:
        use(device)
        rows, columns = sizes(shape)
        update = UPDATES[name]
        parameters = (normal(seed, rows, columns, dtype=dtype) for seed in (0, 1))
        w, dw, *state = placed(device, *parameters, *(empty(rows, columns, dtype=dtype) for _ in update.slots))
        library, scalars = backends.package(device), np.full(len(update.names), 1e-3)
        return waiting(device, lambda: library.optimizer_step(update, w, dw, state, scalars))

    def time_update(self, device: str, name: str, shape: str, dtype: str) -> None:
        self.call()
