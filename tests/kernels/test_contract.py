"""What every backend and every message promises: one interface, bad input named before anything is written."""

import importlib
import inspect

import numpy as np
import pytest

import kernels
from kernels import api, backends, cpu, devices, reference
from kernels.engine.network import perceptron
from kernels.layout import Layout
from kernels.losses import LOSSES
from tests.programs import run

BACKENDS = [reference, cpu]
if devices.has_extra():
    from kernels import cuda

    BACKENDS.append(cuda)

X, W, B = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32), np.ones(5, np.float32)
DY, Y = np.ones((4, 5), np.float32), np.ones((4, 5), np.float32)
LABELS = np.array([0, 1, 2, 4])
CUBE = np.ones((2, 2, 2), np.float32)
ONE_ROW = np.lib.stride_tricks.as_strided(np.ones(5, np.float32), (4, 5), (0, 4))  # in the place of four


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", kernels.__all__)
def test_one_interface(name):
    expected = parameters(getattr(kernels, name))
    for module in [reference] if name in api.steps or name in LOSSES else BACKENDS:
        assert parameters(getattr(module, name)) == expected, module.__name__


def test_one_loss_function():
    expected = parameters(reference.loss_and_gradient)
    for module in BACKENDS:
        assert parameters(module.loss_and_gradient) == expected, module.__name__


def test_backends_make_the_steps_of_optimisers_by_one_function():
    first, *others = (parameters(module.optimizer_step) for module in BACKENDS[1:])
    assert all(other == first for other in others)


def test_all_is_all():
    public = {
        name
        for name, value in vars(kernels).items()
        if inspect.isfunction(value) and value.__module__ == "kernels.api" and not name.startswith("_")
    }
    made = {*LOSSES, *api.steps}
    assert (public - {"loss_function"}) | made == set(kernels.__all__) <= set(dir(kernels))


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def overlapping(shape):
    """Two views of one buffer that share some of its elements."""
    rows, columns = shape
    buffer = np.full((rows + 1, columns), 7, np.float32)
    return buffer[:-1], buffer[1:]


class OnTheDevice:
    """What an array of CuPy or PyTorch on a GPU shows."""

    __cuda_array_interface__ = None


# function, positional arguments, keyword arguments, error, what its message holds
LINEAR = [
    ([X[0], W], {}, ValueError, "x must have 2 dimensions, got shape (3,)"),
    ([CUBE, W], {}, ValueError, "x must have 2 dimensions, got shape (2, 2, 2)"),
    ([X, W[:2]], {}, ValueError, "w must have 3 rows, as x has columns, got shape (2, 5)"),
    ([X[:, :0], W], {}, ValueError, "w must have 0 rows, as x has columns, got shape (3, 5)"),
    ([X.astype(int), W], {}, TypeError, "x must have dtype float32 or float64, got int64"),
    ([X.astype(np.float16), W], {}, TypeError, "x must have dtype float32 or float64, got float16"),
    ([X.astype(">f4"), W], {}, TypeError, "x must have dtype float32 or float64, got >f4"),
    ([X.astype(complex), W], {}, TypeError, "x must have dtype float32 or float64, got complex128"),
    ([["a"], W], {}, TypeError, "x must be an array of real numbers, got list"),
    ([None, W], {}, TypeError, "x must be an array of real numbers, got NoneType"),
    ([X, W.astype(float)], {}, TypeError, "w must have dtype float32, as the first argument, got float64"),
    ([X, W, B[:4]], {}, ValueError, "b must have shape (5,), got (4,)"),
    ([X, W, B[np.newaxis]], {}, ValueError, "b must have 1 dimension, got shape (1, 5)"),
    ([X, W, B.astype(float)], {}, TypeError, "b must have dtype float32, as the first argument, got float64"),
    ([X, W, B, "softness"], {}, ValueError, "activation must be one of "),
    ([X, W, B, None], {}, ValueError, "got None"),
    ([X, W, B, ["relu"]], {}, ValueError, "got ['relu']"),
    ([X, W], {"out": np.zeros((5, 4), np.float32)}, ValueError, "out must have shape (4, 5), got (5, 4)"),
    ([X, W], {"out": np.zeros((4, 5))}, TypeError, "out must have dtype float32, as the inputs, got float64"),
    ([X, W], {"out": [[0.0] * 5] * 4}, TypeError, "out must be a NumPy array to write into, got list"),
    ([X, W], {"out": read_only(Y)}, ValueError, "out must be writable, got a read-only array"),
    ([X, W], {"pre": read_only(Y)}, ValueError, "pre must be writable, got a read-only array"),
    (
        [X, W],
        {"out": ONE_ROW},
        ValueError,
        "out must have strides that keep its elements apart, got shape (4, 5) with strides (0, 4)",
    ),
    ([X, W], dict(zip(("out", "pre"), overlapping((4, 5)))), ValueError, "pre and out must not share memory"),
    ([OnTheDevice(), W], {}, TypeError, "w must be on the CUDA device, as x is, got ndarray"),
    ([X, W, OnTheDevice()], {}, TypeError, "b must be in the host's memory, as x is, got OnTheDevice on a CUDA device"),
]
LINEAR_BACKWARD = [
    ([DY[:3], X, W], {}, ValueError, "dy must have shape (4, 5), got (3, 5)"),
    ([DY, X, W], {"activation": "tanh"}, ValueError, "y must be given for tanh"),
    ([DY, X, W, Y], {"activation": "gelu"}, ValueError, "pre must be given for gelu"),
    ([DY, X, W, Y], {"activation": "swish"}, ValueError, "pre must be given for silu"),
    ([DY, X, W, Y[:, :4]], {"activation": "relu"}, ValueError, "y must have shape (4, 5), as dy, got (4, 4)"),
    ([DY, X, W], {"activation": "silu", "pre": Y[:3]}, ValueError, "pre must have shape (4, 5), as dy, got (3, 5)"),
    ([DY, X, W], {"dx": W.copy()}, ValueError, "dx must have shape (4, 3), got (3, 5)"),
    ([DY, X, W], {"dw": X.copy()}, ValueError, "dw must have shape (3, 5), got (4, 3)"),
    ([DY, X, W], {"db": B[:4].copy()}, ValueError, "db must have shape (5,), got (4,)"),
    ([DY, X, W], {"dz": read_only(DY)}, ValueError, "dz must be writable, got a read-only array"),
    ([DY.astype(float), X, W], {}, TypeError, "dy must have dtype float32, as the first argument, got float64"),
]
OTHERS = [
    ("activate", [X[0], "relu"], {}, ValueError, "z must have 2 dimensions, got shape (3,)"),
    ("activate", [X, "ReLU"], {}, ValueError, "got 'ReLU'"),
    ("activate", [X], {"out": np.zeros(3, np.float32)}, ValueError, "out must have shape (4, 3), got (3,)"),
    ("activate_backward", [DY, None, "sigmoid"], {}, ValueError, "y must be given for sigmoid"),
    ("activate_backward", [DY, Y, "gelu"], {}, ValueError, "pre must be given for gelu"),
    ("activate_backward", [DY, Y.astype(float), "tanh"], {}, TypeError, "y must have dtype float32"),
    ("softmax", [X], {"out": read_only(X)}, ValueError, "out must be writable, got a read-only array"),
    ("softmax", [X.astype(bool)], {}, TypeError, "z must have dtype float32 or float64, got bool"),
    ("softmax_cross_entropy", [Y, LABELS[:3]], {}, ValueError, "target must have 4 labels, one for each row of z"),
    ("softmax_cross_entropy", [Y, LABELS + 1], {}, ValueError, "target must hold labels from 0 to 4, got 5 at [3]"),
    ("softmax_cross_entropy", [Y[:, :0], LABELS], {}, ValueError, "target must hold labels from 0 to -1, got 0 at [0]"),
    ("softmax_cross_entropy", [Y, LABELS - 1], {}, ValueError, "target must hold labels from 0 to 4, got -1 at [0]"),
    ("softmax_cross_entropy", [Y, LABELS * 1.0], {}, TypeError, "target must hold integer labels or have shape (4, 5)"),
    ("softmax_cross_entropy", [Y, Y * 2], {}, ValueError, "target must lie in [0, 1], got values from 2.0 to 2.0"),
    ("softmax_cross_entropy", [Y, Y[:, :4]], {}, ValueError, "target must have shape (4, 5), as z, got (4, 4)"),
    ("sigmoid_cross_entropy", [Y, -Y], {}, ValueError, "target must lie in [0, 1], got values from -1.0 to -1.0"),
    ("sigmoid_cross_entropy", [Y, Y * np.float32(np.nan)], {}, ValueError, "target must lie in [0, 1]"),
    ("sigmoid_cross_entropy", [Y, Y[:, 0]], {}, ValueError, "target must have 2 dimensions, got shape (4,)"),
    ("mean_squared_error", [Y, Y.astype(float)], {}, TypeError, "target must have dtype float32"),
    ("mean_squared_error", [Y, Y, -Y[:, 0]], {}, ValueError, "weight must be finite and >= 0, got -1.0 at [0]"),
    ("mean_squared_error", [Y, Y, Y[:3, 0]], {}, ValueError, "weight must have shape (4,), got (3,)"),
    ("poisson", [Y, -Y], {}, ValueError, "target must be >= 0, got values from -1.0"),
    ("absolute_error", [Y, Y[:, :4]], {}, ValueError, "target must have shape (4, 5), as z, got (4, 4)"),
    ("huber", [Y, Y], {"delta": 0}, ValueError, "delta must be a finite number in (0, inf), got 0"),
    ("huber", [Y, Y], {"delta": np.inf}, ValueError, "delta must be a finite number in (0, inf), got inf"),
    ("huber", [Y, Y], {"delta": np.nan}, ValueError, "delta must be a finite number in (0, inf), got nan"),
    ("huber", [Y, Y], {"delta": "1"}, TypeError, "delta must be a finite number in (0, inf), got '1'"),
    ("quantile", [Y, Y], {"level": 1.0}, ValueError, "level must be a finite number in (0, 1), got 1.0"),
    ("quantile", [Y, Y], {"level": 0.0}, ValueError, "level must be a finite number in (0, 1), got 0.0"),
    ("quantile", [Y, Y], {}, TypeError, "required keyword-only argument: 'level'"),
    ("sum_squared_error", [Y, Y, np.float32([1, np.nan, 1, 1])], {}, ValueError, "got nan at [1]"),
    ("sum_squared_error", [Y, Y, np.float32([1, 1, np.inf, 1])], {}, ValueError, "got inf at [2]"),
    ("sum_squared_error", [Y, Y], {"dz": np.zeros((4, 5))}, TypeError, "dz must have dtype float32, as the inputs"),
    ("sgd", [Y, DY[:3]], {"learning_rate": 0.1}, ValueError, "dw must have shape (4, 5), got (3, 5)"),
    ("sgd", [Y, DY.astype(float)], {"learning_rate": 0.1}, TypeError, "dw must have dtype float32, as w, got float64"),
    ("sgd", [Y.astype(int), DY], {"learning_rate": 0.1}, TypeError, "w must have dtype float32 or float64, got int64"),
    ("sgd", [read_only(Y), DY], {"learning_rate": 0.1}, ValueError, "w must be writable, got a read-only array"),
    ("sgd", [Y.tolist(), DY], {"learning_rate": 0.1}, TypeError, "w must"),
    (
        "sgd",
        [Y, DY],
        {"learning_rate": -0.1},
        ValueError,
        "learning_rate must be a finite number in [0, inf), got -0.1",
    ),
    (
        "sgd",
        [Y, DY],
        {"learning_rate": float("nan")},
        ValueError,
        "learning_rate must be a finite number in [0, inf)",
    ),
    ("sgd", [Y, DY], {"learning_rate": np.inf}, ValueError, "learning_rate must be a finite number in [0, inf)"),
    ("sgd", [Y, DY], {"learning_rate": "fast"}, TypeError, "got 'fast'"),
    ("sgd", [Y, DY, Y.copy()], {"learning_rate": 0.1, "momentum": 1.1}, ValueError, "momentum must be a finite number"),
    ("sgd", [Y, DY], {"learning_rate": 0.1, "momentum": 0.9}, ValueError, "velocity must be given with momentum 0.9"),
    ("sgd", [Y, DY, Y], {"learning_rate": 0.1}, ValueError, "velocity and w must not share memory"),
    ("sgd", [Y, DY, B.copy()], {"learning_rate": 0.1}, ValueError, "velocity must have shape (4, 5), got (5,)"),
    ("adam", [Y, DY, Y.copy(), Y.copy()], {"step": 0}, ValueError, "step must be an integer >= 1, got 0"),
    ("adam", [Y, DY, Y.copy(), Y.copy()], {"step": 1.5}, TypeError, "step must be an integer >= 1, got 1.5"),
    (
        "adam",
        [Y, DY, Y.copy(), Y.copy()],
        {"step": 1, "beta1": 1.0},
        ValueError,
        "beta1 must be a finite number in [0, 1), got 1.0",
    ),
    (
        "adam",
        [Y, DY, Y.copy(), Y.copy()],
        {"step": 1, "epsilon": -1},
        ValueError,
        "epsilon must be a finite number in [0, inf), got -1",
    ),
    ("adam", [Y, DY, Y.copy(), Y.astype(float)], {"step": 1}, TypeError, "v must have dtype float32, as the inputs"),
    ("adam", [Y, DY, *overlapping((4, 5))], {"step": 1}, ValueError, "v and m must not share memory"),
]
BAD_INPUT = [("linear", *case) for case in LINEAR]
BAD_INPUT += [("linear_backward", *case) for case in LINEAR_BACKWARD]
BAD_INPUT += OTHERS


@pytest.mark.parametrize(
    ("name", "args", "kwargs", "error", "message"), BAD_INPUT, ids=[f"{case[0]}: {case[-1]}" for case in BAD_INPUT]
)
def test_bad_input(name, args, kwargs, error, message):
    arrays = [a for a in [*args, *kwargs.values()] if isinstance(a, np.ndarray)]
    before = [a.copy() for a in arrays]
    with pytest.raises(error) as caught:
        getattr(kernels, name)(*args, **kwargs)
    text = str(caught.value)
    assert message in text
    assert "\n" not in text
    for array, copy in zip(arrays, before):
        np.testing.assert_array_equal(array, copy, err_msg="something was written")


def test_outputs_side_by_side_in_one_buffer_are_no_overlap():
    buffer = np.full((4, 10), np.nan, np.float32)
    kernels.linear(X, W, B, "tanh", out=buffer[:, :5], pre=buffer[:, 5:])
    np.testing.assert_array_equal(buffer[:, 5:], X @ W + B)
    np.testing.assert_array_equal(buffer[:, :5], kernels.linear(X, W, B, "tanh"))


class Wrapped:
    """An array of another library: `__array__` alone."""

    def __init__(self, array):
        self._array = array

    def __array__(self, dtype=None, copy=None):
        return self._array


class Exported:
    """An array of another library: DLPack alone."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **kwargs):
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("foreign", [Wrapped, Exported])
def test_arrays_of_other_libraries(foreign):
    y = kernels.linear(X, W, B, "tanh")
    np.testing.assert_array_equal(kernels.linear(foreign(X), foreign(W), foreign(B), "tanh"), y)
    value, dz = kernels.softmax_cross_entropy(foreign(y), foreign(LABELS))
    again, gradient = kernels.softmax_cross_entropy(y, LABELS)
    assert value == again
    np.testing.assert_array_equal(dz, gradient)


def test_import_is_silent_and_alone():
    script = "import sys, kernels; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    modules = run(script).stdout.split()
    assert "kernels" in modules
    assert not {"fastnn", "sklearn", "matplotlib", "torch", "tqdm", "safetensors"} & set(modules)


# What one engine has besides: a name of the CPU's is of its threads and of what a hook sees
OWN_NAMES = {"cpu": {"forward_threads", "gradient", "kernel", "thread_choice", "threads_for"}, "cuda": set()}


def engines():
    found = {"cpu": importlib.import_module("kernels.cpu.engine.engine").Engine}
    if devices.has_extra():
        found["cuda"] = importlib.import_module("kernels.cuda.engine.engine").Engine
    return found


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_engines_offer_what_the_protocol_says(device):
    if device not in engines():
        pytest.skip(devices.EXTRA)
    engine, expected = engines()[device], public_methods(backends.Engine)
    for name, function in expected.items():
        assert parameters(getattr(engine, name)) == parameters(function), name
    assert set(public_methods(engine)) - set(expected) <= OWN_NAMES[device]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_engines_have_the_attributes_that_the_protocol_says(device):
    if device not in engines():
        pytest.skip(devices.EXTRA)
    if device == "cuda" and devices.missing_gpu():
        pytest.skip(devices.missing_gpu())
    network = perceptron((3, 2))
    engine = engines()[device](network, np.zeros(Layout.of(network, "float32").size, np.float32))
    for name in backends.Engine.__annotations__:
        assert hasattr(engine, name), name


def public_methods(kind):
    """A class's own functions by name, those of Python itself but `__init__` left out."""
    return {
        name: function
        for name, function in vars(kind).items()
        if inspect.isfunction(function) and (name == "__init__" or not name.startswith("_"))
    }


def test_no_device_is_without_its_backend():
    assert set(backends.PACKAGES) == set(devices.DEVICES) - {"auto"}
