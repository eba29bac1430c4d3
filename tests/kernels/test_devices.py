"""Which device a name stands for, and what is said where a GPU cannot be used."""

import ctypes
import importlib.metadata

import pytest

import fastnn
from kernels import backends, cpu, devices
from kernels.cpu.engine.engine import Engine
from tests.programs import environment, run


class Driver:
    """What the driver's library answers."""

    def __init__(self, init=0, devices=1, capability=(9, 0), version=13000):
        self.init, self.devices, self.capability, self.version = init, devices, capability, version

    def cuInit(self, flags):  # noqa: N802
        return self.init

    def cuDeviceGetCount(self, count):  # noqa: N802
        count._obj.value = self.devices
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = self.version
        return 0

    def cuDeviceGetAttribute(self, value, attribute, device):  # noqa: N802
        value._obj.value = self.capability[attribute - 75]
        return 0


@pytest.fixture
def machine(monkeypatch):
    """A machine with numba-cuda and this driver, or none."""
    for variable in ("NUMBA_ENABLE_CUDASIM", "NUMBA_DISABLE_CUDA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(devices, "has_extra", lambda: True)
    monkeypatch.setattr(devices, "_toolkit", lambda: 13)
    monkeypatch.setattr(devices, "_missing_library", lambda: "")

    def be(driver):
        def load(name):
            if driver is None:
                raise OSError(name)
            return driver

        monkeypatch.setattr(ctypes, "CDLL", load)
        devices._ask_driver.cache_clear()

    yield be
    devices._ask_driver.cache_clear()


def test_auto_takes_a_usable_gpu(machine):
    machine(Driver())
    assert devices.device("auto") == devices.device("cuda") == "cuda"
    assert devices.device("cpu") == "cpu"
    assert devices.why_not() == ""
    assert fastnn.MLP([2, 2]).device == "cuda"
    assert fastnn.MLP([2, 2], device="cpu").device == "cpu"


WITHOUT = [
    (None, "NVIDIA's driver, whose libcuda.so.1 was not found"),
    (Driver(devices=0), "an NVIDIA GPU: the driver sees none (is CUDA_VISIBLE_DEVICES set?)"),
    (Driver(init=100), "an NVIDIA GPU: the driver sees none (is CUDA_VISIBLE_DEVICES set?)"),
    (Driver(init=3), "a process of its own: this one is the fork of one that used the GPU; start it by 'spawn'"),
    (Driver(init=803), "a working NVIDIA driver: it answered with CUDA error 803"),
    (Driver(version=12040), "an NVIDIA driver for CUDA 13 or newer, got one for CUDA 12.4"),
    (Driver(capability=(7, 0)), "a GPU of compute capability 7.5 or newer, got 7.0"),
]


@pytest.mark.parametrize(("driver", "missing"), WITHOUT, ids=[missing for _, missing in WITHOUT])
def test_what_is_missing_is_named(machine, driver, missing):
    machine(driver)
    assert devices.device("auto") == "cpu"
    assert fastnn.MLP([2, 2]).device == "cpu"
    with pytest.raises(RuntimeError) as caught:
        fastnn.MLP([2, 2], device="cuda")
    assert str(caught.value) == f"device 'cuda' needs {missing}"
    assert devices.why_not() == f"not used: it needs {missing}"


def test_a_gpu_that_numba_is_told_to_leave_alone_is_not_used(machine, monkeypatch):
    machine(Driver())
    monkeypatch.setenv("NUMBA_DISABLE_CUDA", "1")
    assert devices.device("auto") == "cpu"
    with pytest.raises(RuntimeError, match="device 'cuda' needs a GPU that may be used: NUMBA_DISABLE_CUDA is set"):
        devices.device("cuda")


def test_the_toolkit_is_that_of_the_bindings(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "version", {"cuda-bindings": "13.5.0"}.__getitem__)
    assert devices._toolkit() == 13

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert devices._toolkit() == 0


def test_a_model_from_a_machine_with_a_gpu_says_what_is_missing_here(machine):
    machine(Driver())
    model = fastnn.MLP([2, 2])
    machine(None)
    with pytest.raises(RuntimeError, match="device 'cuda' needs NVIDIA's driver"):
        model.predict([[0.0, 1.0]])


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_need_a_newer_gpu(machine, precision):
    machine(Driver(capability=(8, 0)))
    model = fastnn.MLP([2, 2], precision=precision)
    assert (model.device, model.precision) == ("cuda", precision)
    machine(Driver(capability=(7, 5)))
    assert fastnn.MLP([2, 2]).precision == "float32"
    message = f"^precision '{precision}' needs a GPU of compute capability 8.0 or newer, got 7.5$"
    for use in (lambda: fastnn.MLP([2, 2], precision=precision), lambda: model.predict([[0.0, 1.0]])):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_missing_package_is_named(machine, monkeypatch):
    machine(Driver())
    monkeypatch.setattr(devices, "has_extra", lambda: False)
    assert devices.device("auto") == "cpu"
    with pytest.raises(ImportError, match=r"pip install 'fastnn-numba\[cuda\]'"):
        fastnn.MLP([2, 2], device="cuda")


def test_auto_takes_no_simulator(machine, monkeypatch):
    machine(None)
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    assert devices.device("auto") == "cpu"
    assert devices.device("cuda") == "cuda"
    assert "simulator" in devices.why_not()


@pytest.mark.parametrize("name", ["tpu", None, "CUDA", 0])
def test_other_devices_are_refused(name):
    with pytest.raises(ValueError, match="device must be 'auto', 'cpu' or 'cuda', got"):
        fastnn.MLP([2, 2], device=name)


def test_the_cpu_is_what_it_was():
    assert backends.of(x=object()) is cpu
    assert backends.engine("cpu") is Engine


def test_without_the_extra_everything_but_the_gpu_works():
    program = """
import sys
sys.modules["numba_cuda"] = None  # what import finds where it is not installed
import importlib.util
importlib.util.find_spec = lambda name, find=importlib.util.find_spec: None if name == "numba_cuda" else find(name)
import numpy as np, fastnn, kernels
net = fastnn.MLP([2, 2])
assert net.device == "cpu"
net.predict(np.zeros((1, 2)))
try:
    import kernels.cuda
except ImportError as error:
    print(error)
"""
    assert "pip install 'fastnn-numba[cuda]'" in run(program, env=environment(NUMBA_ENABLE_CUDASIM=None)).stdout


def test_numba_cuda_is_imported_only_where_it_is_used():
    program = """
import sys, numpy as np, fastnn, kernels
fastnn.MLP([2, 2]).predict(np.zeros((1, 2)))
print("numba_cuda" in sys.modules)
"""
    variables = {"NUMBA_ENABLE_CUDASIM": None, "CUDA_VISIBLE_DEVICES": "-1"}
    assert run(program, env=environment(**variables)).stdout.strip() == "False"
