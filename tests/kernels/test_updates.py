"""Optimiser steps: every layout of memory, and numbers at the ends of their range. See tests/capabilities, too."""

import numpy as np
import pytest

import kernels
from tests import oracle
from tests.capabilities.test_optimizers import call, cases, some_state
from tests.layouts import LAYOUTS, WRITABLE, contiguous, fortran, misaligned, padded, spread

DTYPES = (np.float32, np.float64)
RULES = {
    "sgd": {"learning_rate": 0.1},
    "momentum": {"learning_rate": 0.1, "momentum": 0.9},
    "nesterov": {"learning_rate": 0.1, "momentum": 0.9, "nesterov": True},
    "adam": {"step": 1},
}


def state(seed, rule, shape, dtype):
    """w, dw and what the rule keeps: a velocity, or m and v (never negative)."""
    w, dw, first, second = oracle.random_arrays(seed, shape, shape, shape, shape)
    arrays = [w, dw]
    if rule in ("momentum", "nesterov"):
        arrays.append(0.1 * first)
    if rule == "adam":
        arrays += [0.1 * first, 0.1 * second**2]
    return [np.asarray(a, dtype) for a in arrays]


def step(module, rule, arrays):
    getattr(module, "adam" if rule == "adam" else "sgd")(*arrays, **RULES[rule])


@cases
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_layouts(name, update, options, layout, dtype):
    for shape in ((37,), (13, 37)):
        w, slots = some_state(name, update, options, shape, dtype)
        before = [w, *oracle.random_arrays(2, shape, dtype=dtype), *slots]

        def stepped(arrays):
            w, g, *slots = arrays
            call(kernels, name, update, w, g, slots, 4, **options)
            return arrays

        plain = stepped([a.copy() for a in before])
        # the gradient alone, then all arrays in that layout
        arrangements = [[layout(a) if n == 1 else a.copy() for n, a in enumerate(before)]]
        arrangements += [[layout(a) for a in before]] if layout in WRITABLE else []
        for arrays in arrangements:
            for got, wanted in zip(stepped(arrays), plain, strict=True):
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mixed_layouts(dtype):
    before = state(3, "adam", (13, 37), dtype)
    plain = [a.copy() for a in before]
    step(kernels, "adam", plain)
    layouts = (contiguous, fortran, padded, spread, misaligned)
    for turn in range(len(layouts)):
        arrays = [layouts[(turn + i) % len(layouts)](a) for i, a in enumerate(before)]
        step(kernels, "adam", arrays)
        for got, wanted in zip(arrays, plain):
            np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_misaligned_state_with_the_strides_of_padded_rows(dtype):
    # such a state goes through a copy, and its rows are not as far apart as those of w any more
    before = state(4, "momentum", (9, 5), dtype)
    plain = [a.copy() for a in before]
    step(kernels, "momentum", plain)
    w = np.full((9, 8), 7, dtype)
    velocity = misaligned(np.full((9, 8), 7, dtype))
    w[:, :5], velocity[:, :5] = before[0], before[2]
    kernels.sgd(w[:, :5], before[1], velocity[:, :5], **RULES["momentum"])
    np.testing.assert_array_equal(w[:, :5], plain[0])
    np.testing.assert_array_equal(velocity[:, :5], plain[2])
    assert (w[:, 5:] == 7).all()
    assert (velocity[:, 5:] == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam"])
def test_gradient_that_shares_memory(rule, dtype):
    before = state(5, rule, (9, 9), dtype)
    for gradient in (lambda w: w, lambda w: w.T, lambda w: w[::-1]):
        w = before[0].copy()
        plain = [w.copy(), gradient(w).copy(), *(a.copy() for a in before[2:])]
        step(kernels, rule, plain)
        step(kernels, rule, [w, gradient(w), *(a.copy() for a in before[2:])])
        np.testing.assert_array_equal(w, plain[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "adam"])
def test_nan_and_infinity(rule, dtype):
    before = state(6, rule, (9, 37), dtype)
    plain = [a.copy() for a in before]
    step(kernels, rule, plain)
    for value in (np.nan, np.inf, -np.inf):
        arrays = [a.copy() for a in before]
        arrays[1][4, 36] = value
        # an infinite gradient makes an infinite second moment: adam's step is inf / inf
        after = np.nan if rule == "adam" else -value
        step(kernels, rule, arrays)
        np.testing.assert_array_equal(arrays[0][4, 36], dtype(after))
        arrays[0][4, 36] = plain[0][4, 36]
        np.testing.assert_array_equal(arrays[0], plain[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_adam_at_the_ends_of_the_numbers(dtype):
    """Gradients whose square vanishes or overflows: a step, none, or NaN, as the formula says in the dtype."""
    tiny, largest = np.finfo(dtype).tiny, np.finfo(dtype).max
    sizes = [0.0, tiny, tiny**0.5, 1e-12, 1.0, 1e18, largest**0.5 * 2, largest / 4, np.inf, np.nan]
    g = np.array([sign * size for size in sizes for sign in (1, -1)], dtype)
    w, m, v = np.ones(len(g), dtype), np.zeros(len(g), dtype), np.zeros(len(g), dtype)
    with np.errstate(all="ignore"):
        moved = dtype(0.1) * g * dtype(10)
        root = np.sqrt((dtype(1 - 0.999) * (g * g)) * dtype(1000)).astype(dtype)
        expected = dtype(1) - dtype(0.1) * moved / (root + dtype(1e-8))
    kernels.adam(w, g, m, v, step=1, learning_rate=0.1)
    oracle.assert_close(w, expected, dtype, 8)
    assert {0.9, 1.0} <= {round(float(value), 6) for value in w if np.isfinite(value)}
