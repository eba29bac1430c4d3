"""What the host does on a GPU, on a driver that runs no kernel (driver.c): the order of calls, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from pathlib import Path

import pytest

from kernels import devices
from tests.programs import PATIENCE, ROOT, environment, run

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)
if devices.simulated():
    pytest.skip("numba-cuda's simulator calls no driver", allow_module_level=True)

COMPILER = shutil.which("cc")
HEADERS = sorted(Path(sys.prefix).glob("lib/python*/site-packages/nvidia/cu*/include/cuda.h"))
# Before each program: a network and its data, and what the driver can do
START = """
import ctypes, gc, json, warnings
import numpy as np
driver = ctypes.CDLL("libcuda.so.1")
driver.calls.restype = ctypes.c_char_p

def calls():
    return driver.calls().decode().splitlines()

def refuse(name="", n=0, error=0):
    driver.fail(name.encode(), n, error)

def raised(call):
    try:
        call()
    except Exception as error:
        return f"{type(error).__mro__[-4 if isinstance(error, MemoryError) else 0].__name__}: {error}"
    return "nothing"

import fastnn
X = np.random.default_rng(0).standard_normal((200, 5)).astype("f")
y = np.arange(200) % 3

def network(**options):
    return fastnn.MLP([5, 9, 3], device="cuda", seed=0, **options)

def fit(net, **options):
    return net.fit(X, y, batch_size=8, progress=False, **options)
"""
OUT_OF_MEMORY, LAUNCH_FAILED, UNAVAILABLE, NOT_SUPPORTED = 2, 719, 46, 801
WAITING = {"cuCtxSynchronize", "cuStreamSynchronize", "cuEventSynchronize"}
CAPTURED = {"cuLaunchKernelEx", "cuStreamEndCapture"}
ROOM = "device 'cuda' has no room for"


@pytest.fixture(scope="session")
def variables(tmp_path_factory):
    """The environment of programs that find the driver, and one cache."""
    if COMPILER is None:
        pytest.skip("driver.c needs a C compiler")
    if not HEADERS:
        pytest.skip("driver.c needs cuda.h: pip install nvidia-cuda-runtime")
    folder, source = tmp_path_factory.mktemp("driver"), Path(__file__).with_name("driver.c")
    library = ["-shared", "-fPIC", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1", "-o", str(folder / "libcuda.so.1")]
    subprocess.run([COMPILER, *library, f"-I{HEADERS[-1].parent}", str(source)], check=True)
    found = environment(NUMBA_CACHE_DIR=str(folder / "cache"), NUMBA_DISABLE_CUDA=None)
    return {**found, "LD_LIBRARY_PATH": f"{folder}:{found['LD_LIBRARY_PATH']}"}


def result(variables, program):
    """What a program prints at its end."""
    return json.loads(run(START + program, env=variables).stdout.splitlines()[-1])


def names(lines):
    return [line.split()[0] for line in lines]


def kernels(lines):
    return [re.search(r"\d([a-z]\w*?_float\d\d)B", line)[1] for line in lines if line.startswith("cuLaunchKernelEx")]


# What is called before training begins, in each slice of it, with the number of its steps, and after it
TRAINING = """
class Slices(fastnn.callbacks.Callback):
    def __init__(self):
        self.parts, self.steps = [], [0]

    def on_train_begin(self, model):
        self.parts.append(calls())

    def on_slice_end(self, model, step, logs):
        self.parts.append(calls())
        self.steps.append(step + 1)

def sliced(net, **options):
    slices = Slices()
    fit(net, callbacks=[slices], **options)
    return [*slices.parts, calls()], np.diff(slices.steps).tolist()
"""


def test_steps_are_enqueued_as_one_graph_and_the_host_waits_once_a_slice(variables):
    parts, steps = result(
        variables, TRAINING + "print(json.dumps(sliced(network(), epochs=4, stop_if_diverged=False)))"
    )
    before, *slices, after = parts
    assert len(slices) == len(steps) > 4
    assert sum(steps) == 100
    parameters = sum(int(line.split()[1]) for line in before if line.startswith("cuMemAlloc")) // 2
    assert parameters > 0
    seen = []
    for n, lines in zip(steps, slices, strict=True):
        called = names(lines)
        count = Counter(called)
        assert not WAITING & set(called)
        assert count["cuMemcpyDtoH"] == 1
        assert lines[-1] == f"cuMemcpyDtoH {8 * n}", "each step's loss and number of right rows, at the end"
        first = min(called.index(name) for name in ("cuLaunchKernelEx", "cuGraphLaunch") if name in called)
        assert "cuMemcpyHtoD" not in called[first:], "nothing is sent to the GPU while it works"
        alone = [line for line in lines if re.match("cuLaunchKernelEx 0 ", line)]
        seen.append(kernels(alone))
        assert count["cuGraphLaunch"] == (n - 1 if alone else n)
        assert count["cuStreamBeginCapture"] == count["cuGraphInstantiateWithFlags"] <= 1
        if count["cuStreamBeginCapture"]:
            begin, end = called.index("cuStreamBeginCapture"), called.index("cuStreamEndCapture")
            assert set(called[begin + 1 : end + 1]) == CAPTURED
            assert kernels(lines[begin:end]) == seen[0]
            assert len({line.split()[1] for line in lines[begin : end + 1]}) == 1, "on the stream that is captured"
    assert len(seen[0]) == 7
    assert all(kinds in ([], seen[0]) for kinds in seen)
    assert not seen[-1], "once its arrays are large enough, no step is launched kernel by kernel"
    assert Counter(names(after))["cuMemcpyDtoH"] == 2, "whether the parameters are finite, and the parameters"


def test_everything_is_on_the_gpu_before_training_begins(variables):
    program = """
seen = []
for options in (dict(l2=0.1), dict(optimizer=fastnn.SGD(clip_norm=1.0)), dict(validation_split=0.1)):
    seen.append(sliced(network(), **options)[0])
seen.append(sliced(network(dropout=0.5), sample_weight=np.ones(200), validation_split=0.1)[0])
net = network()
fit(net)
calls()
net.train_on_batch(X, y, l2=0.1)
seen.append([[], calls()])
print(json.dumps(seen))
"""
    loads = [
        [names(part).count("cuLibraryLoadData") for part in parts] for parts in result(variables, TRAINING + program)
    ]
    assert loads[0][0] == 9
    assert [sum(during) for _, *during in loads] == [0] * 5


def test_nothing_stays_when_models_are_gone(variables):
    program = """
from numba import cuda
def use():
    net = network()
    fit(net, epochs=2, validation_split=0.1)
    net.predict(X), net.evaluate(X, y), net.loss_and_gradients(X, y), net.train_on_batch(X, y)

def left():
    gc.collect()
    cuda.current_context().memory_manager.deallocations.clear()  # ten wait for that at most
    return ctypes.c_long.in_dll(driver, "arrays").value

use()
first, _ = left(), calls()
for _ in range(5):
    use()
print(json.dumps([first, left(), calls()]))
"""
    first, last, lines = result(variables, program)
    assert (first, last) == (0, 0)
    count = Counter(names(lines))
    assert count["cuGraphInstantiateWithFlags"] == count["cuGraphExecDestroy"] > 0
    assert count["cuStreamCreate"] == 0, "one stream serves all"


# Each call, refused after n others of its kind, for every n until nothing is refused any more
REFUSING = """
def refused(name, error, use, net):
    said = set()
    for n in range(1000):
        before = net.parameters.copy()
        refuse(name, n, error)
        said.add(raised(use))
        refuse()
        assert (net.parameters == before).all(), (name, n)
        if "nothing" in said:
            break
    use()
    return sorted(said - {"nothing"})
"""


def test_no_memory_is_a_memory_error_and_nothing_changes(variables):
    program = f"""
said, net = [], network(dropout=0.5)
said += refused("cuDevicePrimaryCtxRetain", {OUT_OF_MEMORY}, lambda: fit(net), net)
for kind in (lambda: network(activation="tanh"), lambda: network(dropout=0.5)):
    refuse()
    net = kind()
    said += refused("cuLibraryLoadData", {OUT_OF_MEMORY}, lambda: fit(net), net)
for use in (
    lambda net: fit(net, epochs=2, l2=0.1), lambda net: net.predict(X), lambda net: net.evaluate(X, y),
    lambda net: net.loss_and_gradients(X, y), lambda net: net.train_on_batch(X, y),
):
    net = network()
    said += refused("cuMemAlloc", {OUT_OF_MEMORY}, lambda: use(network()), net)
    said += refused("cuMemAlloc", {OUT_OF_MEMORY}, lambda: use(net), net)
print(json.dumps(said))
"""
    said = result(variables, REFUSING + program)
    assert len(said) > 8
    for line in said:
        assert re.match(f"MemoryError: {ROOM}", line), line


def test_a_gpu_that_fails_is_a_runtime_error_of_one_line(variables):
    program = f"""
net = network()
fit(net)
said = {{}}
for name in ("cuMemAlloc", "cuMemcpyHtoD", "cuLaunchKernelEx", "cuGraphLaunch", "cuMemcpyDtoH"):
    said[name] = refused(name, {LAUNCH_FAILED}, lambda: fit(net, epochs=2), net)
    said[name] += refused(name, {LAUNCH_FAILED}, lambda: net.predict(X), net)
    said[name] += refused(name, {LAUNCH_FAILED}, lambda: net.loss_and_gradients(X, y), net)
print(json.dumps(said))
"""
    for name, lines in result(variables, REFUSING + program).items():
        assert lines, name
        for line in lines:
            assert re.fullmatch("RuntimeError: device 'cuda' failed: .*CUDA_ERROR.*", line), line


def test_without_graphs_steps_are_launched_kernel_by_kernel_and_that_is_said(variables):
    program = f"""
said = []
for name in ("cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"):
    refuse(name, 0, {NOT_SUPPORTED})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(network())
    said.append([str(caught[0].message), calls()])
print(json.dumps(said))
"""
    for message, lines in result(variables, program):
        assert message.startswith("steps are launched kernel by kernel: the driver makes no CUDA graph, cu")
        assert "cuGraphLaunch" not in names(lines)
        launches = [line for line in lines if re.match("cuLaunchKernelEx 0 ", line)]
        assert len(launches) == 25 * 7 + 1, "each step's, and one that looks whether the parameters are finite"


def test_a_kernel_remembers_a_bounded_number_of_launches(variables):
    program = """
import kernels
from kernels.cuda import tuning
from kernels.cuda.rowwise import elementwise
from kernels.activations import ACTIVATIONS
from numba import cuda
x = cuda.to_device(np.zeros((300, 256), "f"))
for rows in range(1, 300):
    kernels.activate(x[:rows], "relu")
print(len(elementwise.forward("float32", ACTIVATIONS["relu"])._launches) <= tuning.LAUNCHES < 299)
"""
    assert result(variables, program.replace("print(", "print(json.dumps(").rstrip() + ")") is True


# The command line, as it is; what it wrote to stderr and its exit status
COMMAND = """
import contextlib, io
from fastnn.cli import main
said = io.StringIO()
with contextlib.redirect_stderr(said):
    status = main({arguments})
print(json.dumps([status, said.getvalue()]))
"""


@pytest.mark.parametrize("error", [OUT_OF_MEMORY, UNAVAILABLE])
@pytest.mark.parametrize("command", ["info", "warmup"])
def test_the_command_line_says_in_one_line_that_there_is_no_context(command, error, variables):
    refusal = f"refuse('cuDevicePrimaryCtxRetain', 0, {error})\n"
    if command == "warmup":
        refusal += "import kernels.cpu; kernels.cpu.warmup = lambda dtypes: 0.0\n"
    status, said = result(variables, refusal + COMMAND.format(arguments=[command]))
    assert status == 2
    start = ROOM if error == OUT_OF_MEMORY else "device 'cuda' failed: "
    assert re.fullmatch(f"fastnn: error: {start}.*\n", said), said


@pytest.mark.parametrize(
    ("set_up", "missing"),
    [
        ("ctypes.c_int.in_dll(driver, 'version').value = 12040", "an NVIDIA driver for CUDA 13 or newer, got .* 12.4"),
        ("ctypes.c_int.in_dll(driver, 'capability').value = 70", "a GPU of compute capability 7.5 or newer, got 7.0"),
        ("refuse('cuInit', 0, 803)", "a working NVIDIA driver: it answered with CUDA error 803"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_named(set_up, missing, variables):
    program = f"{set_up}\nprint(json.dumps([fastnn.MLP([2, 2]).device, raised(network)]))"
    device, said = result(variables, program)
    assert device == "cpu"
    assert re.match(f"RuntimeError: device 'cuda' needs {missing}", said)


def test_a_gpu_without_the_toolkit_is_not_taken(variables):
    program = """
from cuda import pathfinder
load, lacking = pathfinder.load_nvidia_dynamic_lib, []

def without(name):
    if name in lacking:
        raise pathfinder.DynamicLibNotFoundError(name)
    return load(name)

pathfinder.load_nvidia_dynamic_lib = without
from kernels import devices
said = []
for lacking in ["nvrtc"], ["nvvm"], []:
    devices._ask_driver.cache_clear()
    said.append([fastnn.MLP([2, 2]).device, raised(network), devices.why_not()])
print(json.dumps(said))
"""
    *lacking, whole = result(variables, program)
    assert whole == ["cuda", "nothing", ""]
    for name, (device, said, why_not) in zip(("nvrtc", "nvvm"), lacking, strict=True):
        needed = f"NVIDIA's toolkit, whose lib{name} was not found: pip install 'fastnn-numba[cuda]'"
        assert (device, said) == ("cpu", f"RuntimeError: device 'cuda' needs {needed}")
        assert why_not == f"not used: it needs {needed}"


def test_empty_arrays_launch_no_empty_grid(variables):
    """The address of an empty array of the GPU is 0, and the driver refuses a grid without blocks."""
    program = """
    import kernels
    from numba import cuda

    class Foreign:
        def __init__(self, *shape):
            self.__cuda_array_interface__ = {
                "shape": shape, "strides": None, "typestr": "<f4", "data": (0, False), "version": 3
            }

    def some(*shape):
        return Foreign(*shape) if 0 in shape else cuda.to_device(np.ones(shape, "f"))

    shapes, launches = [], []
    for b, i, o in ((0, 2, 3), (4, 0, 3), (4, 2, 0), (0, 0, 0)):
        x, w, dy, bias = some(b, i), some(i, o), some(b, o), some(o)
        calls()
        shapes.append([kernels.linear(x, w, bias, "relu").shape, kernels.activate(dy, "relu").shape])
        shapes[-1] += [kernels.softmax(dy).shape] if b * o == 0 else []
        shapes[-1] += [array.shape for array in kernels.linear_backward(dy, x, w)]
        if b * o == 0:
            loss, dz = kernels.mean_squared_error(dy, dy)
            shapes[-1].append([loss, *dz.shape])
        if i * o == 0:
            kernels.sgd(w, some(i, o), learning_rate=0.1)
        launches.append([line for line in calls() if line.startswith("cuLaunchKernelEx")])
    print(json.dumps([shapes, launches]))
    """
    shapes, launches = result(variables, textwrap.dedent(program))
    assert shapes == [
        [[0, 3], [0, 3], [0, 3], [0, 2], [2, 3], [3], [0.0, 0, 3]],
        [[4, 3], [4, 3], [4, 0], [0, 3], [3]],
        [[4, 0], [4, 0], [4, 0], [4, 2], [2, 0], [0], [0.0, 4, 0]],
        [[0, 0], [0, 0], [0, 0], [0, 0], [0, 0], [0], [0.0, 0, 0]],
    ]
    # dw and db; y, an activation and db; dx
    assert list(map(len, launches)) == [2, 3, 1, 0]


def test_arrays_of_a_gpu_know_what_the_tests_of_this_folder_ask_of_them(variables):
    """All of those tests but for the values: see stand_in.py."""
    others = [path for path in Path(__file__).parent.glob("test_*.py") if path.stem not in ("test_host", "test_ptx")]
    options = ["-p", "tests.kernels.cuda.stand_in", "-p", "no:cacheprovider", "--tb=native"]
    own_cache = {"NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", "")}  # which has the CPU's kernels
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *sorted(others)],
        cwd=ROOT, env={**variables, **own_cache}, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    to_the_end, to_a_value = (int(re.search(rf"(\d+) {name}", done.stdout)[1]) for name in ("passed", "xfailed"))
    assert to_the_end > 2 * to_a_value
