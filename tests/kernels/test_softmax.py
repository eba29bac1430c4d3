"""Softmax against the oracle, and in every layout of memory."""

import numpy as np
import pytest

import kernels
from kernels import reference
from tests import oracle
from tests.capabilities.test_activations import DTYPES, SHAPES, numbers, poisoned
from tests.layouts import LAYOUTS, WRITABLE


@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts(dtype):
    z = numbers(2, (19, 37), dtype)
    y = kernels.softmax(z)
    for layout in LAYOUTS:
        given = layout(z)
        np.testing.assert_array_equal(kernels.softmax(given), y)
        np.testing.assert_array_equal(given, z, err_msg="an input was changed")
    for layout in WRITABLE:
        out = layout(poisoned(z.shape, dtype))
        assert kernels.softmax(z, out=out) is out
        np.testing.assert_array_equal(out, y)
    shared = z.copy()
    np.testing.assert_array_equal(kernels.softmax(shared, out=shared), y)


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
