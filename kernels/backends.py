"""Which backend runs a call: the only dispatcher. It never falls back silently.

A backend is a package that offers the public functions of `kernels` under the same names, with the same parameters,
and in `engine.engine` a class `Engine` that runs networks. It is imported by its name, when it is first needed.
"""

import functools
import importlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from kernels import arrays, devices
from kernels.engine.network import Network
from kernels.engine.requests import Needs, TrainRequest
from kernels.layout import Layout
from kernels.losses import LossChoice
from kernels.process.apart import apart

PACKAGES = {"cpu": "kernels.cpu", "cuda": "kernels.cuda"}  # by the device they run on


@functools.cache
def package(device: str) -> ModuleType:
    """The backend of a device. Raises ImportError where something that it needs is not installed."""
    return _module(PACKAGES[device])


@functools.cache
def _module(name: str) -> ModuleType:
    """A backend's module. Numba comes with it, whose import takes a large stack and must not be interrupted."""
    return apart(lambda: importlib.import_module(name))


def of(**arguments: Any) -> ModuleType:
    """The backend for a call's arrays, all of which lie in one place: kernels.cpu or kernels.cuda.

    Raises TypeError where they do not, and for arrays on a GPU what `devices.device` raises.
    """
    for array in arguments.values():
        if type(array) is not np.ndarray and array is not None:
            break
    else:  # what is nearly always so, and quickly known
        return package("cpu")
    where = {name: arrays.on_cuda(array) for name, array in arguments.items() if array is not None}
    first, cuda = next(iter(where.items()))
    for name, other in where.items():
        if other != cuda:
            here, kind = ("on the CUDA device" if cuda else "in the host's memory"), type(arguments[name]).__name__
            raise TypeError(f"{name} must be {here}, as {first} is, got {kind}{' on a CUDA device' * other}")
    return package(devices.device("cuda") if cuda else "cpu")


def instruments(device: str) -> ModuleType:
    """What the backend of a device offers to whoever measures where time goes; not every backend has it."""
    return _module(f"{PACKAGES[device]}.measure.instruments")


def check_precision(precision: str, device: str) -> None:
    """Raise ValueError where this device does not multiply in this precision, one of devices.PRECISIONS."""
    if device == "cuda":
        devices.check_tensor_cores(precision)
    elif precision == "tf32":
        raise ValueError("precision 'tf32' needs device 'cuda', got 'cpu'")
    elif precision == "bf16" and not package("cpu").multiplies_bf16():
        raise ValueError("precision 'bf16' needs a CPU with AVX512-BF16, or device 'cuda'; this CPU has it not")


class Engine(Protocol):
    """One network on one device: its buffers there, and what runs on them, one job at a time. It checks nothing.

    Arrays given to a call may be the host's, of any strides, or what `place` and `hold` have made of them.
    """

    parameters: np.ndarray  # the host's, laid out as `layout` says; jobs read them, training writes to them
    network: Network
    layout: Layout
    dtype: np.dtype
    multiply_adds: int  # of a forward pass on one row
    threads: int  # of the host, at most as many as `most_threads`, that a job may use
    most_threads: int
    process: int  # its number: the child of a fork makes an engine of its own

    def __init__(
        self,
        network: Network,
        parameters: np.ndarray,
        threads: int | None = None,
        precision: str = "float32",
    ) -> None:
        """What runs a network.

        parameters: the flat buffer of `Layout.of(network, dtype)`, changed in place by training. threads: the most that
        jobs use of the host's, None for as many as there are cores. precision: to what products round their factors,
        one of devices.PRECISIONS.
        """

    def load(self, needs: Needs) -> None:
        """Compile what jobs with these needs run, or load it from the cache; else the first job does that."""

    def place(self, x: Any, target: Any = None, weight: Any = None) -> tuple[Any, Any, Any]:
        """Data, targets and row weights where the device reads them best, to be passed to calls in their place."""

    def hold(self, arrays: Sequence[Any]) -> Sequence[Any]:
        """An optimiser's arrays where the device reads them best, to be passed to calls in their place."""

    def outputs(self, n: int) -> Any:
        """A new array (n, O) on the device, for what `forward` makes of n rows."""

    def train(self, request: TrainRequest) -> tuple[np.ndarray, np.ndarray]:
        """Make steps; returns (losses, right rows) of each.

        Raises ValueError for a label that is none of the outputs (codes.WRONG_LABEL).
        """

    def gradients(
        self, x: Any, target: Any, *, weight: Any, scale: float, loss: LossChoice, l2: float = 0.0
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss on all rows of x, its gradient by the parameters (laid out like them) and dX (n, I)."""

    def forward(
        self,
        x: Any,
        *,
        order: np.ndarray | None = None,
        out: Any = None,
        target: Any = None,
        weight: Any = None,
        loss: LossChoice = "softmax_cross_entropy",
        metric: str | None = None,
        among: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's outputs into out (n, O), and with a target the weighted loss and rightness of each row.

        order: the rows of x, target and weight to take, or None for all. out: the host's, or one of `outputs`. among:
        how many rows there are in all where these are a part of them: equal rows in different parts then have the same
        bits. What was not asked for comes empty.
        """

    def training(self) -> AbstractContextManager[None]:
        """While this lasts, the newest parameters may be on the device alone; at its end the host has them."""

    def pull(self) -> None:
        """Bring the host's parameters up to date; whoever asks may write to them before the next job."""

    def finite(self) -> bool:
        """Whether all parameters are finite numbers."""

    def keep(self, state: Sequence[Any] = (), into: list[Any] | None = None) -> list[Any]:
        """Copies of the parameters and of an optimiser's arrays, in those that an earlier call made if given."""

    def put_back(self, copies: Sequence[Any], state: Sequence[Any] = ()) -> None:
        """Give the parameters, and as many of the optimiser's arrays as were kept, the values of `keep`'s copies."""

    def training_threads(self, rows: int) -> int:
        """The most threads of the host that make a training step on a batch of this size."""

    def explain(self, rows: int) -> str:
        """How a training step on a batch of this size is made, as text: phases and tiles, or launches."""


def engine(device: str, precision: str = "float32") -> type[Engine]:
    """The class that runs a network on this device.

    Raises what `devices.device` and `check_precision` do: a model may come from elsewhere.
    """
    found = devices.device(device)
    check_precision(precision, found)
    engine: type[Engine] = _module(f"{PACKAGES[found]}.engine.engine").Engine
    return engine
