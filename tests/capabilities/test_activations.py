"""Every activation that is known: its kernels, its names elsewhere and whole networks of it, against its reference."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numba import njit

import fastnn
import kernels
from fastnn import cli
from kernels import reference
from kernels.activations import ACTIVATIONS
from kernels.cpu.measure.counts import operations_of
from tests import oracle
from tests.fastnn.files.test_interop import check_onnx, check_torch
from tests.fastnn.test_gradients import check as check_gradients
from tests.fastnn.test_gradients import make_data, make_model
from tests.layouts import LAYOUTS, WRITABLE
from tests.programs import ROOT

DTYPES = (np.float32, np.float64)
NAMES = list(ACTIVATIONS)
SHAPES = [(1, n) for n in oracle.AWKWARD_SIZES] + [(n, 1) for n in oracle.AWKWARD_SIZES] + [(17, 65), (63, 100)]
CANCELLING = {"gelu"}  # whose error is relative to z: a factor is rounded that is small where z is far below 0


def numbers(seed, shape, dtype):
    """Both signs, from far below one to far beyond where every activation is flat, and zeros."""
    rng = np.random.default_rng(seed)
    z = rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-6.0, 3.0, shape)
    z[rng.uniform(size=shape) < 0.05] = 0.0
    return z.astype(dtype)


def poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)


def check(z, dy, name):
    """Forward and backward against the oracle, into given arrays and new ones; returns y and dz."""
    dtype = z.dtype
    y = poisoned(z.shape, dtype)
    assert kernels.activate(z, name, out=y) is y
    expected = reference.activate(z, name)
    # what is computed of z on the way is rounded, as z itself might be
    conditioned = np.abs(z * reference.activate_backward(np.ones_like(z), expected, name, pre=z))
    scale = np.maximum(np.abs(z) if name in CANCELLING else conditioned, np.abs(expected))
    oracle.assert_close(y, expected, dtype, 1, scale)
    np.testing.assert_array_equal(kernels.activate(z, name), y)

    dz = poisoned(z.shape, dtype)
    assert kernels.activate_backward(dy, y, name, pre=z, out=dz) is dz
    expected = reference.activate_backward(dy, y, name, pre=z)
    # a slope is a sum whose terms may cancel: its error is relative to dy
    oracle.assert_close(dz, expected, dtype, 1, np.maximum(np.abs(dy), np.abs(expected)))
    np.testing.assert_array_equal(kernels.activate_backward(dy, y, name, pre=z), dz)
    return y, dz


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", NAMES)
class TestKernels:
    def test_against_the_oracle(self, name, dtype):
        for shape in SHAPES:
            check(numbers(0, shape, dtype), *oracle.random_arrays(1, shape, dtype=dtype), name)

    def test_layouts_and_in_place(self, name, dtype):
        z, dy = numbers(2, (19, 37), dtype), numbers(3, (19, 37), dtype)
        y, dz = check(z, dy, name)
        for layout in LAYOUTS:
            inputs = [layout(a) for a in (z, dy, y)]
            np.testing.assert_array_equal(kernels.activate(inputs[0], name), y)
            np.testing.assert_array_equal(kernels.activate_backward(inputs[1], inputs[2], name, pre=inputs[0]), dz)
            for array, before in zip(inputs, (z, dy, y)):
                np.testing.assert_array_equal(array, before, err_msg="an input was changed")
        for layout in WRITABLE:
            for function, wanted in (
                (lambda out: kernels.activate(z, name, out=out), y),
                (lambda out: kernels.activate_backward(dy, y, name, pre=z, out=out), dz),
            ):
                out = layout(poisoned(z.shape, dtype))
                assert function(out) is out
                np.testing.assert_array_equal(out, wanted)
        shared = [a.copy() for a in (z, dy, y)]
        assert kernels.activate(shared[0], name, out=shared[0]) is shared[0]
        kernels.activate_backward(shared[1], y, name, pre=z, out=shared[1])
        kernels.activate_backward(dy, shared[2], name, pre=z, out=shared[2])
        for array, wanted in zip(shared, (y, dz, dz)):
            np.testing.assert_array_equal(array, wanted)
        turned = z[:, :19].copy()
        kernels.activate(turned, name, out=turned.T)
        np.testing.assert_array_equal(turned.T, y[:, :19])

    def test_nan_and_infinity(self, name, dtype):
        # one of each in every lane of a vector and in what is left over beside whole vectors
        z, dy, diagonal = numbers(9, (67, 67), dtype), np.ones((67, 67), dtype), np.arange(67)
        clean = kernels.activate(z, name)
        slopes = kernels.activate_backward(dy, clean, name, pre=z)
        for value in (np.nan, -np.inf, np.inf):
            z[diagonal, diagonal] = value
            there = reference.activate([value], name)
            assert np.isnan(there) == np.isnan(value)
            clean[diagonal, diagonal] = there
            y = kernels.activate(z, name)
            np.testing.assert_array_equal(y, clean)
            if not np.isnan(value):  # a kink has a side for NaN; what comes from above, NaN by then, passes
                slopes[diagonal, diagonal] = reference.activate_backward([1.0], there, name, pre=[value])
                np.testing.assert_array_equal(kernels.activate_backward(dy, y, name, pre=z), slopes)

    def test_within_a_product(self, name, dtype):
        (z, dy), eye = oracle.random_arrays(4, (19, 17), (19, 17), dtype=dtype), np.eye(17, dtype=dtype)
        y = kernels.activate(z, name)
        np.testing.assert_array_equal(kernels.linear(z, eye, activation=name), y)
        pre, dz = poisoned(z.shape, dtype), poisoned(z.shape, dtype)
        np.testing.assert_array_equal(kernels.linear(z, eye, activation=name, pre=pre), y)
        np.testing.assert_array_equal(pre, z)
        kernels.linear_backward(dy, z, eye, y, name, pre=pre, dz=dz)
        np.testing.assert_array_equal(dz, kernels.activate_backward(dy, y, name, pre=z))

    def test_a_network(self, name, dtype):
        """Its gradients and, where nothing but the activation is between x and y, its outputs; and its file's."""
        model = make_model([7, 17, 5, 3], name, "identity", np.dtype(dtype).name)
        check_gradients(model, *make_data(model, 63, "mean_squared_error", dtype), "mean_squared_error")
        check_onnx(name, np.dtype(dtype).name)


@pytest.mark.parametrize("name", NAMES)
class TestDeclarations:
    def test_the_reference_and_its_slope(self, name):
        z = np.concatenate([np.linspace(-9.03, 8.97, 37), [-1000.0, 1000.0]])
        declared = ACTIVATIONS[name]
        with np.errstate(over="raise", divide="raise", invalid="raise"):
            y = reference.activate(z, name)
            slopes = reference.activate_backward(np.ones_like(z), y, name, pre=z)
        assert np.isfinite([*y, *slopes]).all()
        for h in (1e-5, -1e-5):
            np.testing.assert_allclose((reference.activate(z + h, name) - y) / h, slopes, rtol=1e-4, atol=1e-5)
        with np.errstate(all="ignore"):  # the rules, called from Python, are the same functions
            np.testing.assert_allclose(declared.function(z), y, rtol=1e-13, atol=1e-14)
            of_rule = declared.slope(z if declared.slope_reads == "z" else y) * np.ones_like(z)
        np.testing.assert_allclose(of_rule, slopes, rtol=1e-13, atol=1e-14)

    def test_inside_njit(self, name):
        """By name; a call is all there is to compile."""

        @njit
        def function(z, dy, y, dz):
            kernels.activate(z, name, out=y)
            kernels.activate_backward(dy, y, name, z, out=dz)

        z, dy = oracle.random_arrays(5, (6, 5), (6, 5), dtype=np.float32)
        y, dz = poisoned(z.shape, np.float32), poisoned(z.shape, np.float32)
        function(z, dy, y, dz)
        np.testing.assert_array_equal(y, kernels.activate(z, name))
        np.testing.assert_array_equal(dz, kernels.activate_backward(dy, y, name, pre=z))

    def test_central_differences(self, name):
        z, dy = oracle.random_arrays(6, (4, 9), (4, 9))
        y = kernels.activate(z, name)
        dz = kernels.activate_backward(dy, y, name, pre=z)
        oracle.assert_gradient(dz, lambda a: (dy * kernels.activate(a, name)).sum(), z)

    def test_the_command_line(self, name, tmp_path):
        path = tmp_path / "model.npz"
        command = ["train", "iris", "--activation", name, "--epochs", "2", "--layers", "7", "--output", str(path)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert cli.main(command) == 0
        assert fastnn.load(path).activations == (name,)

    def test_what_profile_counts(self, name):
        declared = ACTIVATIONS[name]
        assert operations_of(declared.function, "float32") > 0 or declared.floor is not None
        assert operations_of(declared.slope, "float32") >= 0

    def test_pytorch(self, name):
        check_torch(pytest.importorskip("torch", reason="PyTorch is no dependency of the tests"), name)

    def test_the_table(self, name):
        lines = [line for line in (ROOT / "docs" / "activations.md").read_text().splitlines() if f"| `{name}`" in line]
        assert len(lines) == 1
        for alias in ACTIVATIONS[name].aliases:
            assert f"`{alias}`" in lines[0]


@given(data=st.data(), name=st.sampled_from(NAMES), width=st.sampled_from([32, 64]))
def test_any_numbers(data, name, width):
    limit = 1e4
    z = data.draw(
        arrays.arrays(
            f"float{width}", st.tuples(st.integers(1, 5), st.integers(1, 40)),
            elements=st.floats(-limit, limit, width=width),
        )
    )  # fmt: skip
    z = np.hstack([z, np.ones((len(z), 1), z.dtype)])  # one result at least is not too small to be compared
    check(z, np.ones_like(z), name)


@pytest.mark.parametrize("alias", ACTIVATIONS.aliases)
def test_aliases(alias):
    (z,) = oracle.random_arrays(7, (3, 4))
    name = ACTIVATIONS.canonical(alias)
    np.testing.assert_array_equal(kernels.activate(z, alias), kernels.activate(z, name))
    assert fastnn.MLP([2, 3, 1], alias, "identity").activations == (name,)
