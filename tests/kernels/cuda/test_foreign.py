"""Arrays of other libraries on the GPU; in the simulator stubs that show what those show, over the host's memory."""

import contextlib

import numpy as np
import pytest

import kernels
from kernels import devices, reference

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

from kernels.cuda.arrays import foreign
from kernels.cuda.driver import device_arrays
from kernels.cuda.driver import streams as enqueued
from tests.kernels.cuda.device import SIMULATED
from tests.kernels.cuda.stubs import ByInterface, Foreign
from tests.oracle import assert_close, random_arrays, random_labels

DTYPES = ["float32", "float64"]


class ByDLPack(Foreign):
    """As one that has DLPack alone."""

    asked_for = None

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, *, stream=None, **options):
        type(self).asked_for = stream
        return self.view.__dlpack__(**options)


KINDS = [ByInterface] + ([ByDLPack] if SIMULATED else [])  # numba-cuda's own arrays export no DLPack


def host(array):
    return array.copy_to_host() if hasattr(array, "copy_to_host") else array.host()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_layer_and_its_gradients(kind, dtype):
    x, w, b, dy = random_arrays(0, (5, 3), (3, 4), (4,), (5, 4), dtype=dtype)
    X, W, B, DY = map(kind, (x, w, b, dy))
    pre, dz, out = kind(np.empty_like(dy)), kind(np.empty_like(dy)), kind(np.empty_like(dy))
    y = kernels.linear(X, W, B, "silu", pre=pre)
    assert hasattr(y, "__cuda_ndarray__")
    assert kernels.linear(X, W, B, "silu", out=out) is out
    expected = reference.linear(x, w, b, "silu")
    assert_close(host(y), expected, dtype, 3)
    np.testing.assert_array_equal(host(out), host(y))
    gradients = kernels.linear_backward(DY, X, W, y, "silu", pre=pre, dz=dz)
    exact = reference.linear_backward(dy, x, w, expected, "silu", pre=reference.linear(x, w, b))
    for actual, wanted in zip(gradients, exact, strict=True):
        assert_close(host(actual), wanted, dtype, 5)
    assert host(dz).any()
    for given, before in ((X, x), (W, w), (B, b), (DY, dy)):
        np.testing.assert_array_equal(host(given), before)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_shared_not_copied(kind):
    x = kind(np.ones((2, 3), np.float32))
    array = foreign.adopted(x, "x")
    assert device_arrays.address(array) == x.interface["data"][0]
    assert foreign.adopted(array, "x") is array


@pytest.mark.parametrize("kind", KINDS)
def test_strides_of_any_kind_are_read_and_written(kind):
    x, w, dy = random_arrays(1, (6, 4), (3, 4), (6, 3), dtype="float32")
    out = kind(np.full((6, 8), 7, np.float32))
    y = kernels.linear(kind(x)[:, ::-1], kind(np.asfortranarray(w.T))[::-1], out=out[:, 1:6:2])
    assert_close(host(y), x[:, ::-1].astype(float) @ w.T[::-1], "float32", 4)
    written = host(out[:, :])
    np.testing.assert_array_equal(written[:, [0, 2, 4, 6, 7]], 7)
    np.testing.assert_array_equal(written[:, 1:6:2], host(y))
    dx, _, _ = kernels.linear_backward(kind(dy)[::-2], kind(x)[::2], kind(np.ascontiguousarray(w.T)))
    assert_close(host(dx), dy[::-2].astype(float) @ w, "float32", 4)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_output_may_be_an_input(dtype):
    x, w = random_arrays(2, (5, 3), (3, 3), dtype=dtype)
    X = ByInterface(x)
    assert kernels.linear(X, ByInterface(w), out=X) is X
    assert_close(host(X), reference.linear(x, w), dtype, 3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_losses_and_updates(dtype):
    (z,) = random_arrays(3, (5, 3), dtype=dtype)
    labels, weight = random_labels(4, 5, 3), np.linspace(0, 1, 5).astype(dtype)
    expected, slope = reference.loss_and_gradient("softmax_cross_entropy", z, labels, weight)
    arrays = ByInterface(z), ByInterface(labels.astype(np.int32)), ByInterface(weight)
    value, dz = kernels.softmax_cross_entropy(*arrays)
    assert_close(np.asarray(value), expected, dtype, 15)
    assert_close(host(dz), slope, dtype, 3)
    value, _ = kernels.quantile(arrays[0], ByInterface(z[::-1]), level=0.9)
    assert_close(np.asarray(value), reference.loss_and_gradient(("quantile", 0.9), z, z[::-1])[0], dtype, 15)
    w = z.astype(np.float64)
    reference.sgd(w, slope, learning_rate=0.5)
    kernels.sgd(arrays[0], dz, learning_rate=0.5)
    assert_close(host(arrays[0]), w, dtype, 3)


X, W = np.ones((4, 3), np.float32), np.ones((3, 3), np.float32)
BAD = [
    (lambda: kernels.linear(ByInterface(X), W), TypeError, "w must be on the CUDA device, as x is, got ndarray"),
    (
        lambda: kernels.linear(X, ByInterface(W)), TypeError,
        "w must be in the host's memory, as x is, got ByInterface on a CUDA device",
    ),
    (
        lambda: kernels.linear(ByInterface(X), ByInterface(W), out=ByInterface(X, read_only=True)), ValueError,
        "out must be writable, got a read-only array",
    ),
    (lambda: kernels.linear(ByInterface(X), ByInterface(X)), ValueError, "w must have 3 rows, as x has columns"),
    (
        lambda: kernels.softmax_cross_entropy(ByInterface(X), ByInterface(np.array([0, 1, 3, 2]))), ValueError,
        "target must hold labels from 0 to 2, got values from 0 to 3",
    ),
    (
        lambda: kernels.softmax_cross_entropy(
            ByInterface(X), ByInterface(np.array([0, 1, 2, 2])), ByInterface(np.array([1, np.nan, 1, 1], np.float32))
        ),
        ValueError, "weight must be finite and >= 0, got values from nan to nan",
    ),
    (
        lambda: kernels.sigmoid_cross_entropy(ByInterface(X), ByInterface(X * 2)), ValueError,
        "target must lie in [0, 1], got values from 2.0 to 2.0",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "message"), BAD, ids=[case[2] for case in BAD])
def test_what_does_not_fit_is_said(call, error, message):
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "float64", "bool"])
def test_bounds(dtype):
    values = np.random.default_rng(5).uniform(-9, 9, (7, 5)).astype(dtype)
    array = foreign.adopted(ByInterface(values)[1:, ::2], "values")
    assert foreign.bounds(array) == (values[1:, ::2].min(), values[1:, ::2].max())
    if values.dtype.kind == "f":
        values[-1, -1] = np.nan
        assert np.isnan(foreign.bounds(foreign.adopted(ByInterface(values), "values"))).all()


@pytest.fixture
def streams(monkeypatch):
    """What is asked of streams, in order. The simulator has none."""
    said = []

    class Stream:
        def __init__(self, handle):
            self.handle = handle

        def synchronize(self):
            said.append(f"read after {self.handle}")

    def launching(stream, real=enqueued.launching):
        said.append(f"launch on {enqueued.handle(stream)}")
        return real(stream)

    monkeypatch.setattr(enqueued, "external_stream", lambda handle: Stream(handle) if handle else 0)

    def wait(later, earlier):
        said.append(f"{enqueued.handle(later)} after {enqueued.handle(earlier)}")

    monkeypatch.setattr(enqueued, "wait", wait)
    monkeypatch.setattr(enqueued, "launching", launching)
    return said


@pytest.mark.skipif(not SIMULATED, reason="the streams here are stubs, for the simulator")
class TestStreams:
    def test_all_runs_on_the_stream_of_the_first_array(self, streams):
        y = kernels.linear(ByInterface(X, stream=7), ByInterface(W, stream=7))
        assert streams == ["launch on 7"]
        assert y.stream.handle == 7

    def test_the_default_stream_is_numbas(self, streams):
        assert kernels.linear(ByInterface(X, stream=1), ByInterface(W)).stream == 0

    def test_other_streams_are_waited_for_and_wait(self, streams):
        kernels.linear(ByInterface(X, stream=7), ByInterface(W), ByInterface(W[0], stream=9))
        assert streams == ["7 after 0", "7 after 9", "launch on 7", "0 after 7", "9 after 7"]

    def test_what_is_read_back_is_there(self, streams):
        kernels.mean_squared_error(ByInterface(X, stream=7), ByInterface(X, stream=7))
        assert "read after 7" in streams

    def test_dlpack_is_asked_for_the_default_stream(self, streams):
        kernels.linear(ByDLPack(X), ByDLPack(W))
        assert ByDLPack.asked_for == foreign.DEFAULT_STREAM


def test_launches_go_to_the_stream_that_was_named():
    with contextlib.ExitStack() as stack:
        stack.enter_context(enqueued.launching("inner"))
        assert enqueued.current_stream() == "inner"
    assert enqueued.current_stream() == 0
