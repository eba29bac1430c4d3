"""Launches that are repeated: which of them are recorded, captured and enqueued. The driver is stood in for."""

from types import SimpleNamespace

import numpy as np
import pytest

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

from kernels.cuda.compiler import target
from kernels.cuda.driver import gpu, streams
from kernels.cuda.engine import graph
from kernels.cuda.engine.graph import DriverError, Repeated
from kernels.cuda.engine.operations.update import kernel_of
from kernels.optimizers.sgd import SGD


class Kernel:
    """One that counts its launches."""

    def __init__(self):
        self.seen = []

    def __call__(self, blocks, *args):
        self.seen.append((blocks, streams.handle(streams.current_stream()), *args))


class Driver:
    """Answers as the driver would, and notes what it was asked; `broken` fails."""

    def __init__(self, broken=None):
        self.calls, self.broken = [], broken

    def __call__(self, name, *args):
        self.calls.append(name)
        if name == self.broken:
            raise DriverError(f"{name}: CUDA_ERROR_NOT_SUPPORTED")
        return len(self.calls)


@pytest.fixture
def stood_in(monkeypatch):
    def use(broken=None):
        driver = Driver(broken)
        monkeypatch.setattr(graph, "_call", driver)
        monkeypatch.setattr(graph, "_stream", lambda device: 7)
        monkeypatch.setattr(target, "SIMULATED", False)
        monkeypatch.setattr(gpu, "device_number", lambda: 0)
        monkeypatch.setattr(streams, "external_stream", lambda handle: SimpleNamespace(handle=handle))
        return driver

    return use


def test_launches_are_recorded_and_not_made():
    array, kernel = np.zeros(1, np.float32), kernel_of(SGD().update, "float32")
    launches = streams.recorded(lambda: kernel(3, array, array, array, np.zeros(40, np.int64)))
    ((recorded, blocks, args),) = launches
    assert (recorded, blocks) == (kernel, 3)
    assert args[0] is array


def test_nothing_is_recorded_any_more_after_an_error():
    def enqueue():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        streams.recorded(enqueue)
    assert streams.current.record is None


def test_what_comes_again_is_captured_once_and_launched_as_a_graph(stood_in):
    driver, kernel, repeated, array = stood_in(), Kernel(), Repeated(), np.zeros(1)
    launches = [(kernel, 2, (array, 5)), (kernel, 1, (array, 6))]
    repeated(launches, 1)
    assert kernel.seen == [(2, 0, array, 5), (1, 0, array, 6)]
    assert driver.calls == [], "a step that may be the only one is worth no graph"
    repeated([(kernel, 2, (array, 5)), (kernel, 1, (array, 6))], 3)
    capture = ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy"]
    assert driver.calls == [*capture, *["cuGraphLaunch"] * 3]
    assert kernel.seen[2:] == [(2, 7, array, 5), (1, 7, array, 6)], "while it is captured, and then no more"
    repeated(launches, 2)
    assert driver.calls[len(capture) :] == ["cuGraphLaunch"] * 5


@pytest.mark.parametrize(
    "other", [lambda k, a: (Kernel(), 2, (a, 5)), lambda k, a: (k, 3, (a, 5)), lambda k, a: (k, 2, (a, 6)),
              lambda k, a: (k, 2, (a.copy(), 5))], ids=["kernel", "blocks", "number", "array"],
)  # fmt: skip
def test_anything_else_is_another_graph(stood_in, other):
    driver, kernel, repeated, array = stood_in(), Kernel(), Repeated(), np.zeros(1)
    repeated([(kernel, 2, (array, 5))], 2)
    repeated([other(kernel, array)], 2)
    assert driver.calls.count("cuGraphInstantiate") == 2
    assert driver.calls.count("cuGraphLaunch") == 2


@pytest.mark.parametrize("broken", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate"])
def test_without_graphs_launches_are_made_one_by_one_and_that_is_said(stood_in, broken):
    stood_in(broken)
    kernel, repeated, array = Kernel(), Repeated(), np.zeros(1)
    with pytest.warns(UserWarning, match=f"launched kernel by kernel: the driver makes no CUDA graph, {broken}"):
        repeated([(kernel, 2, (array, 5))], 4)
    assert [seen for seen in kernel.seen if seen[1] == 0] == [(2, 0, array, 5)] * 4


def test_the_driver_has_what_is_asked_of_it():
    driver = pytest.importorskip("cuda.bindings.driver", reason="numba-cuda[cu13] brings NVIDIA's bindings")
    for name in (
        "cuStreamCreate", "cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiate", "cuGraphDestroy",
        "cuGraphLaunch", "cuGraphExecDestroy",
    ):  # fmt: skip
        assert callable(getattr(driver, name))
    assert driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_RELAXED
    assert driver.CUstream_flags.CU_STREAM_NON_BLOCKING
