"""Activations, their derivatives and softmax against the oracle."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import kernels
from kernels import reference, scalar
from tests import oracle
from tests.layouts import LAYOUTS, WRITABLE

DTYPES = (np.float32, np.float64)
ACTIVATIONS = [*scalar.ACTIVATIONS, *scalar.ALIASES]
SHAPES = [(1, n) for n in oracle.AWKWARD_SIZES] + [(n, 1) for n in oracle.AWKWARD_SIZES] + [(17, 65), (63, 100)]


def numbers(seed, shape, dtype):
    """Both signs, from far below one to far beyond where every activation is flat, and zeros."""
    rng = np.random.default_rng(seed)
    z = rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-6.0, 3.0, shape)
    z[rng.uniform(size=shape) < 0.05] = 0.0
    return z.astype(dtype)


def poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)


def check(z, dy, activation):
    """Forward and backward against the oracle, into given arrays and new ones."""
    dtype = z.dtype
    y = poisoned(z.shape, dtype)
    assert kernels.activate(z, activation, out=y) is y
    expected = reference.activate(z, activation)
    # gelu and, through exp, the derivatives add terms that cancel: their error is relative to z, or to dy
    scale = np.maximum(np.abs(z), np.abs(expected)) if activation == "gelu" else np.abs(expected)
    oracle.assert_close(y, expected, dtype, 1, scale)
    np.testing.assert_array_equal(kernels.activate(z, activation), y)

    dz = poisoned(z.shape, dtype)
    assert kernels.activate_backward(dy, y, activation, pre=z, out=dz) is dz
    expected = reference.activate_backward(dy, y, activation, pre=z)
    oracle.assert_close(dz, expected, dtype, 1, np.maximum(np.abs(dy), np.abs(expected)))
    np.testing.assert_array_equal(kernels.activate_backward(dy, y, activation, pre=z), dz)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_against_the_oracle(activation, dtype):
    for shape in SHAPES:
        check(numbers(0, shape, dtype), *oracle.random_arrays(1, shape, dtype=dtype), activation)


@given(data=st.data(), activation=st.sampled_from(ACTIVATIONS), width=st.sampled_from([32, 64]))
def test_any_numbers(data, activation, width):
    limit = 1e4
    z = data.draw(
        arrays.arrays(
            f"float{width}", st.tuples(st.integers(1, 5), st.integers(1, 40)),
            elements=st.floats(-limit, limit, width=width),
        )
    )  # fmt: skip
    z = np.hstack([z, np.ones((len(z), 1), z.dtype)])  # one result at least is not too small to be compared
    check(z, np.ones_like(z), activation)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_of_inputs(layout, dtype):
    z, dy = numbers(2, (19, 37), dtype), numbers(3, (19, 37), dtype)
    for activation in ("tanh", "silu"):
        y = kernels.activate(z, activation)
        dz = kernels.activate_backward(dy, y, activation, pre=z)
        inputs = [layout(a) for a in (z, dy, y)]
        np.testing.assert_array_equal(kernels.activate(inputs[0], activation), y)
        again = kernels.activate_backward(inputs[1], inputs[2], activation, pre=inputs[0])
        np.testing.assert_array_equal(again, dz)
        np.testing.assert_array_equal(kernels.softmax(inputs[0]), kernels.softmax(z))
        for array, before in zip(inputs, (z, dy, y)):
            np.testing.assert_array_equal(array, before, err_msg="an input was changed")


@pytest.mark.parametrize("layout", WRITABLE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_of_outputs(layout, dtype):
    z, dy = numbers(4, (19, 37), dtype), numbers(5, (19, 37), dtype)
    y = kernels.activate(z, "gelu")
    for function, wanted in (
        (lambda out: kernels.activate(z, "gelu", out=out), y),
        (lambda out: kernels.activate_backward(dy, y, "gelu", pre=z, out=out), None),
        (lambda out: kernels.softmax(z, out=out), kernels.softmax(z)),
    ):
        out = layout(poisoned(z.shape, dtype))
        assert function(out) is out
        wanted = kernels.activate_backward(dy, activation="gelu", pre=z) if wanted is None else wanted
        np.testing.assert_array_equal(out, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place(dtype):
    z, dy = numbers(6, (19, 37), dtype), numbers(7, (19, 37), dtype)
    for activation in scalar.ACTIVATIONS:
        y = kernels.activate(z, activation)
        shared = z.copy()
        assert kernels.activate(shared, activation, out=shared) is shared
        np.testing.assert_array_equal(shared, y)
        dz = kernels.activate_backward(dy, y, activation, pre=z)
        shared = dy.copy()
        kernels.activate_backward(shared, y, activation, pre=z, out=shared)
        np.testing.assert_array_equal(shared, dz)
        shared = y.copy()
        kernels.activate_backward(dy, shared, activation, pre=z, out=shared)
        np.testing.assert_array_equal(shared, dz)
    shared = z.copy()
    np.testing.assert_array_equal(kernels.softmax(shared, out=shared), kernels.softmax(z))
    square = numbers(8, (20, 20), dtype)
    turned = square.copy()
    kernels.activate(turned, "tanh", out=turned.T)
    np.testing.assert_array_equal(turned.T, kernels.activate(square, "tanh"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("activation", "values", "slopes"),
    [
        ("identity", (-np.inf, np.inf), (1, 1)),
        ("relu", (0, np.inf), (0, 1)),
        ("leaky_relu", (-np.inf, np.inf), (0.01, 1)),
        ("sigmoid", (0, 1), (0, 0)),
        ("tanh", (-1, 1), (0, 0)),
        ("silu", (0, np.inf), (0, 1)),
        ("gelu", (0, np.inf), (0, 1)),
    ],
)
def test_nan_and_infinity(activation, values, slopes, dtype):
    limits = np.array([-np.inf, np.inf, np.nan])
    np.testing.assert_array_equal(reference.activate(limits, activation), [*values, np.nan])
    slopes_there = reference.activate_backward(
        np.ones(3), reference.activate(limits, activation), activation, pre=limits
    )
    np.testing.assert_allclose(slopes_there[:2], slopes, rtol=1e-15)
    # one of each in every lane of a vector and in what is left over beside whole vectors
    z, dy = numbers(9, (67, 67), dtype), np.ones((67, 67), dtype)
    clean = kernels.activate(z, activation)
    clean_slopes = kernels.activate_backward(dy, clean, activation, pre=z)
    diagonal = np.arange(67)
    for value, wanted, slope in (
        (np.nan, np.nan, 1 if activation == "identity" else np.nan),
        (-np.inf, values[0], slopes[0]),
        (np.inf, values[1], slopes[1]),
    ):
        z[diagonal, diagonal] = value
        clean[diagonal, diagonal] = wanted
        y = kernels.activate(z, activation)
        np.testing.assert_array_equal(y, clean)
        if activation in ("relu", "leaky_relu") and np.isnan(value):
            continue  # NaN has the slope of neither side; what comes from above, NaN by then, passes
        clean_slopes[diagonal, diagonal] = slope
        np.testing.assert_array_equal(kernels.activate_backward(dy, y, activation, pre=z), clean_slopes)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax(dtype):
    for shape in SHAPES:
        for z in (numbers(10, shape, dtype), *oracle.random_arrays(11, shape, dtype=dtype)):
            expected, y = reference.softmax(z), poisoned(shape, dtype)
            assert kernels.softmax(z, out=y) is y
            # z - max z is rounded, and exp turns its absolute error into a relative one
            spread = 1.0 + np.minimum(np.abs(z - z.max(1, keepdims=True)), 750.0)
            oracle.assert_close(y, expected, dtype, shape[1], expected * spread)
            np.testing.assert_array_equal(kernels.softmax(z), y)
            oracle.assert_close(y.sum(1), np.ones(shape[0]), dtype, shape[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_of_extreme_logits(dtype):
    z = np.array(
        [
            [1000, -1000, 0], [-1000, -1000, -1000], [1000, 1000, 1000], [-np.inf, 0, 0], [np.nan, 0, 0],
            [0, 0, np.nan], [np.inf, 0, 0], [0, 1, np.finfo(dtype).max], [-np.inf] * 3, [0, np.finfo(dtype).min, 0],
        ],
        dtype,
    )  # fmt: skip
    expected = np.array([
        [1, 0, 0], [1 / 3] * 3, [1 / 3] * 3, [0, 0.5, 0.5], [np.nan] * 3, [np.nan] * 3,
        [np.nan] * 3, [0, 0, 1], [np.nan] * 3, [0.5, 0, 0.5],
    ])  # fmt: skip
    oracle.assert_close(kernels.softmax(z), expected, dtype, 3)
