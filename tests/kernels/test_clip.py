"""Clipping by the global norm within training steps."""

import itertools

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.engine.engine import Engine
from kernels.engine.network import perceptron
from kernels.layout import Layout, aligned_zeros
from kernels.optimizers.adam import Adam
from kernels.optimizers.sgd import SGD
from tests.oracle import assert_close, network_depth, random_arrays, random_labels, random_network
from tests.requests import train_request

DTYPES = ["float32", "float64"]
WIDTHS = [[7, 3], [300, 290, 70, 5], [60, 13, 3]]
ROWS = {7: 50, 300: 65, 60: 8000}  # in whole rows, layer by layer, in groups
DESCENT = SGD(1.0)
OPTIMIZERS = [SGD(1.0, momentum=0.9), Adam(1.0)]


def make(widths, dtype, threads=1):
    layout = Layout.of(perceptron(widths), dtype)
    parameters = aligned_zeros(layout.size, dtype)
    for view, values in zip(
        layout.weights(parameters) + layout.biases(parameters), itertools.chain(*random_network(0, widths)), strict=True
    ):
        view[...] = values
    return Engine(perceptron(widths, ["relu"] * (len(widths) - 2)), parameters, threads)


def train(engine, optimizer=DESCENT, steps=1, scale=1.0, l2=0.0, **options):
    """Steps on the same rows; returns (losses, parameters, state)."""
    widths, rows = engine.layout.widths, ROWS[engine.layout.widths[0]]
    (x,) = random_arrays(1, (rows, widths[0]), dtype=engine.dtype)
    state = [aligned_zeros(engine.layout.size, engine.dtype) for _ in optimizer.slots]
    scalars = optimizer.scalars(0, optimizer.rates(0, steps))
    losses, _ = engine.train(train_request(
        np.tile(x, (steps, 1)), np.tile(random_labels(2, rows, widths[-1]), steps), total=steps * rows, size=rows,
        scales=np.full(steps, scale / rows), loss="softmax_cross_entropy", update=optimizer.update, state=state,
        scalars=scalars, l2=l2, **options,
    ))  # fmt: skip
    return losses, engine.parameters, *state


def views_of(engine, array):
    """Of an array like the parameters, those of all weights, then of all biases."""
    return engine.layout.weights(array) + engine.layout.biases(array)


def reference_step(engine, x, labels, optimizer, l2, share):
    """(the parameters' views after a step of the reference, clipped by NumPy to a share of the norm; that norm)"""
    n_layers = len(engine.layout.widths) - 1
    arrays = [view.astype(np.float64) for view in views_of(engine, engine.parameters)]
    _, dws, dbs, _ = reference.network_loss_and_gradients(
        x, labels, arrays[:n_layers], arrays[n_layers:], ["relu"] * (n_layers - 1), "softmax", l2=l2
    )
    for array, g in zip(arrays, [*dws, *dbs], strict=True):
        state = np.zeros((len(optimizer.slots), *g.shape))
        if isinstance(optimizer, SGD):
            reference.sgd(array, share * g, *state, learning_rate=1.0, momentum=optimizer.momentum)
        else:
            reference.adam(array, share * g, *state, step=1, learning_rate=1.0, epsilon=optimizer.epsilon)
    return arrays, np.sqrt(sum((g**2).sum() for g in [*dws, *dbs]))


def gradient_of(engine, scale=1.0, l2=0.0):
    widths, rows = engine.layout.widths, ROWS[engine.layout.widths[0]]
    (x,) = random_arrays(1, (rows, widths[0]), dtype=engine.dtype)
    labels = random_labels(2, rows, widths[-1])
    return engine.gradients(x, labels, weight=None, scale=scale / rows, loss="softmax_cross_entropy", l2=l2)[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_longer_gradient_is_shortened_to_the_limit(widths, l2, dtype):
    engine = make(widths, dtype)
    before, gradient = engine.parameters.astype(np.float64), gradient_of(engine, l2=l2).astype(np.float64)
    norm = np.sqrt((gradient**2).sum())
    train(engine, l2=l2, clip_norm=norm / 3)
    depth = network_depth(widths, ROWS[widths[0]])
    step = engine.parameters - before
    assert_close(step.astype(dtype), -gradient / 3, dtype, depth, scale=np.abs(before).max())
    assert abs(np.sqrt((engine.gradient.astype(np.float64) ** 2).sum()) * 3 / norm - 1) < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("optimizer", [SGD(1.0, momentum=0.9), Adam(1.0, epsilon=0.1)])
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_a_step_is_that_of_the_reference(widths, optimizer, l2, dtype):
    """An epsilon of 0.1: with a small one Adam's first step does not depend on the gradient's length."""
    rows, engine = ROWS[widths[0]], make(widths, dtype, 2)
    (x,), labels = random_arrays(1, (rows, widths[0]), dtype=dtype), random_labels(2, rows, widths[-1])
    before = [view.astype(np.float64) for view in views_of(engine, engine.parameters)]
    expected, norm = reference_step(engine, x, labels, optimizer, l2, 0.25)
    unclipped, _ = reference_step(engine, x, labels, optimizer, l2, 1.0)
    train(engine, optimizer, l2=l2, clip_norm=norm / 4)
    depth = network_depth(widths, rows)
    for actual, wanted, start, other in zip(
        views_of(engine, engine.parameters), expected, before, unclipped, strict=True
    ):
        scale = np.abs(start).max()
        assert_close(actual - start.astype(dtype), wanted - start, dtype, depth, scale=scale)
        with pytest.raises(AssertionError):
            assert_close(actual - start.astype(dtype), other - start, dtype, depth, scale=scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gradient_within_the_limit_is_left_to_the_bit(widths, optimizer, dtype):
    plain, clipped = make(widths, dtype), make(widths, dtype)
    expected = train(plain, optimizer, steps=3)
    for one, other in zip(train(clipped, optimizer, steps=3, clip_norm=1e9), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_number_of_threads_gives_the_same_bits(widths, optimizer, dtype):
    results = [train(make(widths, dtype, threads), optimizer, steps=3, clip_norm=0.01) for threads in (1, 2, 3)]
    for other in results[1:]:
        for actual, expected in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert not np.array_equal(results[0][1], train(make(widths, dtype), optimizer, steps=3)[1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_squares_that_overflow_do_not(dtype):
    scale = 1e30 if dtype == "float32" else 1e140
    engine = make([7, 3], dtype)
    before, gradient = engine.parameters.copy(), gradient_of(engine, scale).astype(np.float64)
    train(engine, scale=scale, clip_norm=0.5)
    expected = -0.5 * gradient / np.sqrt(((gradient / scale) ** 2).sum()) / scale
    assert_close(engine.parameters - before, expected, dtype, network_depth([7, 3], 50), scale=np.abs(before).max())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [np.inf, np.nan])
def test_nan_and_infinity_stay_what_they_are(scale, dtype):
    engine = make([7, 3], dtype)
    train(engine, scale=scale, clip_norm=0.5)
    assert np.isnan(engine.layout.weights(engine.parameters)[0]).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("widths", [[5, 64, 256, 3], *WIDTHS], ids=str)
def test_a_gradient_of_nan_leaves_nothing_behind(widths, dtype, monkeypatch):
    monkeypatch.setitem(ROWS, 5, 40)
    engine = make(widths, dtype)
    start = engine.parameters.copy()
    expected = train(engine, clip_norm=0.5)[1].copy()
    engine.parameters[...] = start
    train(engine, scale=np.nan, clip_norm=0.5)
    engine.parameters[...] = start
    np.testing.assert_array_equal(train(engine, clip_norm=0.5)[1], expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gradient_of_zeros_stays_so(dtype):
    engine = make([7, 3], dtype)
    start = engine.parameters.copy()
    train(engine, scale=0.0, clip_norm=0.5)
    np.testing.assert_array_equal(engine.parameters, start)
