"""Dropout within training steps: the reference's, in every way of cutting a step, and the same bits in all of them."""

import itertools

import numpy as np
import pytest

from kernels import reference
from kernels.cpu.engine.engine import Engine
from kernels.engine.codes import ROW_NUMBER
from kernels.engine.network import perceptron
from kernels.layout import Layout, aligned_zeros
from kernels.optimizers.sgd import SGD
from tests.oracle import assert_close, network_depth, random_arrays, random_labels, random_network
from tests.requests import train_request

DTYPES = ["float32", "float64"]
# The three kinds of slope: of an output that is dropped in place, of the output, of the pre-activation
ACTIVATIONS = ["relu", "tanh", "gelu"]
# What a step is made of (see test_step_schedule): widths, rows of the batch, rows of a second batch that is smaller
KINDS = {
    "rows": ([20, 33, 300, 5], 50, 7),
    "layers": ([300, 290, 70, 5], 65, 21),
    "groups": ([60, 13, 9, 3], 8000, 2501),
}
SEED, FIRST_STEP = 2**40 + 12345, 2**31 + 6
RATES = [0.25, 0.6]


class Setting:
    """An engine whose hidden layers drop, and data for it."""

    def __init__(self, kind="rows", activation="relu", threads=1, dtype="float64", rates=RATES):
        self.widths, self.rows, self.rest = KINDS[kind]
        self.activations, self.rates = [activation] * 2, rates
        layout = Layout.of(perceptron(self.widths), dtype)
        self.parameters = aligned_zeros(layout.size, dtype)
        self.weights, self.biases = layout.weights(self.parameters), layout.biases(self.parameters)
        weights, biases = random_network(0, self.widths)
        for view, values in zip(self.weights + self.biases, weights + biases, strict=True):
            view[...] = values
        self.engine = Engine(perceptron(self.widths, self.activations, dropout=rates), self.parameters, threads)
        self.n = self.rows + self.rest
        (self.x,) = random_arrays(1, (self.n, self.widths[0]), dtype=dtype)
        self.y = random_labels(2, self.n, self.widths[-1])
        self.order = np.random.default_rng(3).permutation(self.n).astype(ROW_NUMBER)

    def train(self, first=0, steps=2, noise=(SEED, FIRST_STEP), **options):
        """Steps of descent, the second on fewer rows; returns their losses."""
        scalars = np.full((steps, 1), 0.5)
        sizes = np.array([self.rows, self.rest])[first : first + steps]
        losses, _ = self.engine.train(train_request(
            self.x, self.y, order=self.order, first=first * self.rows, total=int(sizes.sum()),
            size=self.rows, scales=1 / sizes, loss="softmax_cross_entropy", metric="label",
            update=SGD().update, state=[], scalars=scalars, noise=noise, **options,
        ))  # fmt: skip
        return losses

    def reference(self, weights, biases, step, l2=0.0):
        batch = self.order[step * self.rows : (step + 1) * self.rows]
        factors = [
            reference.dropout_factors(rate, SEED, layer, FIRST_STEP + step, len(batch), self.widths[layer + 1])
            for layer, rate in enumerate(self.rates)
        ]
        return reference.network_loss_and_gradients(
            self.x[batch], self.y[batch], weights, biases, self.activations, "softmax", l2=l2, factors=factors
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_two_steps_are_those_of_the_reference(kind, activation, dtype):
    setting = Setting(kind, activation, threads=2, dtype=dtype)
    weights, biases = [w.astype(float) for w in setting.weights], [b.astype(float) for b in setting.biases]
    before = [*weights, *biases]
    losses, depth = setting.train(l2=0.01), 2 * network_depth(setting.widths, setting.rows)
    for step in range(2):
        loss, dws, dbs, _ = setting.reference(weights, biases, step, l2=0.01)
        assert_close(losses[step].astype(dtype), loss, dtype, depth)
        weights = [w - 0.5 * dw for w, dw in zip(weights, dws, strict=True)]
        biases = [b - 0.5 * db for b, db in zip(biases, dbs, strict=True)]
    for actual, expected, start in zip(setting.weights + setting.biases, weights + biases, before, strict=True):
        assert_close(actual - start.astype(dtype), expected - start, dtype, depth, scale=np.abs(start).max())


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_bits_are_the_same_with_any_number_of_threads_and_however_an_epoch_is_cut(kind, activation):
    settings = [Setting(kind, activation, threads, "float32") for threads in (1, 2, 3, 1)]
    losses = [setting.train() for setting in settings[:-1]]
    cut = settings[-1]
    losses.append(np.concatenate([cut.train(first=n, steps=1, noise=(SEED, FIRST_STEP + n)) for n in range(2)]))
    for setting, loss in zip(settings[1:], losses[1:], strict=True):
        np.testing.assert_array_equal(loss, losses[0])
        np.testing.assert_array_equal(setting.parameters, settings[0].parameters)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_only_training_drops(activation):
    setting, plain = Setting(activation=activation), Setting(activation=activation, rates=[])
    np.testing.assert_array_equal(setting.train(noise=None), plain.train(noise=None))
    setting.train(steps=1)
    plain.parameters[...] = setting.parameters
    results = []
    for each in (setting, plain):
        out = np.empty((each.n, each.widths[-1]))
        row_losses, _ = each.engine.forward(each.x, out=out, target=each.y)
        gradients = each.engine.gradients(each.x, each.y, weight=None, scale=0.1, loss="softmax_cross_entropy")
        results.append((out, row_losses, *gradients))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rates", [[0.0, 0.5], [0.5, 0.0]])
def test_a_layer_that_drops_nothing_beside_one_that_does(rates):
    setting = Setting(activation="gelu", rates=rates)
    weights, biases = [w.copy() for w in setting.weights], [b.copy() for b in setting.biases]
    loss = setting.train(steps=1)[0]
    expected, dws, dbs, _ = setting.reference(weights, biases, 0)
    depth = network_depth(setting.widths, setting.rows)
    assert_close(loss, expected, "float64", depth)
    for actual, start, gradient in zip(
        setting.weights + setting.biases, weights + biases, itertools.chain(dws, dbs), strict=True
    ):
        assert_close(actual - start, -0.5 * gradient, "float64", depth, scale=np.abs(start).max())


@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 255, 256, 257, 600])
def test_awkward_sizes(rows, width, monkeypatch):
    monkeypatch.setitem(KINDS, "awkward", ([3, width, 2, 2], rows, 1))
    setting = Setting("awkward", "tanh", rates=[0.5, 0.5])
    weights, biases = [w.copy() for w in setting.weights], [b.copy() for b in setting.biases]
    setting.train(steps=1)
    _, dws, _, _ = setting.reference(weights, biases, 0)
    depth = network_depth(setting.widths, rows)
    for actual, start, gradient in zip(setting.weights, weights, dws, strict=True):
        assert_close(
            actual - start, -0.5 * gradient, "float64", depth, scale=np.abs(start).max() + np.abs(gradient).max()
        )
