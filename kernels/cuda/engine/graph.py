"""The launches of a step, made once and repeated: as one CUDA graph, or one by one where there is none.

A graph is launched by one call, however many kernels are in it. Each step's launches are the same, see
job.py, so one step is captured and serves all. NVIDIA's own interface to the driver (cuda.bindings) does it.
"""

import functools
import warnings
import weakref
from collections.abc import Sequence
from typing import Any

from kernels.cuda.compiler import target
from kernels.cuda.driver import errors, gpu, streams
from kernels.process import forks

Launches = Sequence[tuple[Any, Any, tuple[Any, ...]]]  # see streams.recorded

_capturing = forks.lock()


class Repeated:
    """Runs lists of launches, and remembers the last one: what comes again runs as a graph."""

    def __init__(self) -> None:
        self._launches: Launches = []
        self._graph: Any = None

    def __call__(self, launches: Launches, times: int) -> None:
        """Enqueue these launches `times` times. A graph stays right as long as it is the same arrays that they name."""
        if not _same(launches, self._launches):
            self._launches, self._graph = [], None
            _run(launches)  # which loads what is new to this process; that must not happen while it is captured
            self._launches, times = launches, times - 1  # and keep the arrays alive
        if times > 0 and self._graph is None:
            self._graph = captured(launches)
        for _ in range(times):
            self._graph()


def captured(launches: Launches) -> Any:
    """A function that enqueues these launches. Warns where the driver makes no graph of them."""
    if not target.SIMULATED:
        try:
            return Graph(launches)
        except DriverError as error:
            warnings.warn(f"steps are launched kernel by kernel: the driver makes no CUDA graph, {error}", stacklevel=2)
    return lambda: _run(launches)


class DriverError(RuntimeError):
    """What the driver answered to a call."""


class Graph:
    """Launches as one CUDA graph on the current GPU. Raises DriverError where there are none."""

    def __init__(self, launches: Launches) -> None:
        with _capturing:
            graph = _capture(launches)
        try:
            self._executable = _call("cuGraphInstantiate", graph, 0)
        finally:
            _call("cuGraphDestroy", graph)
        weakref.finalize(self, _call, "cuGraphExecDestroy", self._executable).atexit = False

    def __call__(self) -> None:
        """Enqueue it on this thread's stream. Raises OutOfMemoryError and RuntimeError."""
        try:
            _call("cuGraphLaunch", self._executable, streams.handle(streams.current_stream()))
        except DriverError as error:
            raise errors.failure(error) from error


def _capture(launches: Launches) -> Any:
    """A graph of them. They go to a stream that nothing else is enqueued on: the default one cannot be captured."""
    from cuda.bindings import driver

    stream = _stream(gpu.device_number())
    # RELAXED: arrays may be freed meanwhile, by the garbage collector or by other threads
    _call("cuStreamBeginCapture", stream, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED)
    try:
        with streams.launching(streams.external_stream(stream)):
            _run(launches)
    finally:
        graph = _call("cuStreamEndCapture", stream)
    return graph


@functools.cache
def _stream(device: int) -> int:
    """The stream of this GPU that is captured. It does not wait for the default one, nor that for it."""
    from cuda.bindings import driver

    return int(_call("cuStreamCreate", driver.CUstream_flags.CU_STREAM_NON_BLOCKING))


def _call(name: str, *args: Any) -> Any:
    from cuda.bindings import driver

    error, *results = getattr(driver, name)(*args)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise DriverError(f"{name}: {error.name}")
    return results[0] if results else None


def _run(launches: Launches) -> None:
    for kernel, blocks, args in launches:
        kernel(blocks, *args)


def _same(some: Launches, others: Launches) -> bool:
    """Whether they are the same kernels on the same arrays, not only on equal ones."""
    if [launch[:2] for launch in some] != [launch[:2] for launch in others]:
        return False
    pairs = ((a, b) for one, other in zip(some, others, strict=True) for a, b in zip(one[2], other[2], strict=True))
    return all(a is b or (isinstance(a, int) and a == b) for a, b in pairs)
