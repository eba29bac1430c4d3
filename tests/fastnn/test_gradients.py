"""Backpropagation against kernels.reference and against central differences."""

import itertools

import numpy as np
import pytest

from fastnn import MLP
from kernels import reference
from kernels.engine.codes import OUTPUTS
from kernels.losses import names_for
from tests.oracle import (
    assert_close,
    assert_gradient,
    loss_with_parameter,
    network_depth,
    random_arrays,
    random_labels,
    random_network,
    random_row_weights,
    random_target,
)

DTYPES = ["float32", "float64"]
LOSSES = [(output, loss_with_parameter(name)) for output in OUTPUTS for name in names_for(output)]


def make_model(widths, activations, output, dtype="float64", bias=True):
    """A model of random weights and biases, none of them zero."""
    model = MLP(widths, activations, output, dtype=dtype, bias=bias, init="zeros")
    weights, biases = random_network(0, widths)
    for view, values in zip(model.weights, weights, strict=True):
        view[...] = values
    for view, values in zip(model.biases, biases, strict=False):
        view[...] = values
    return model


def make_data(model, rows, loss, dtype):
    """X, and a target that goes with the output: probabilities, numbers in [0, 1], or normal numbers."""
    (X,) = random_arrays(1, (rows, model.layers[0]), dtype=dtype)
    kind = {"softmax": "softmax_cross_entropy", "sigmoid": "sigmoid_cross_entropy"}.get(model.output, loss)
    return X, random_target(2, kind, rows, model.layers[-1], dtype)


def check(model, X, y, loss, weight=None, l2=0.0):
    """The model's loss and gradients are the reference's, to a tolerance of its dtype and depth."""
    dtype, rows = model.dtype, len(X)
    depth = network_depth(model.layers, rows)
    actual = model.loss_and_gradients(X, y, loss=loss, l2=l2, sample_weight=weight)
    expected = reference.network_loss_and_gradients(
        X, y, model.weights, model.biases or None, model.activations, model.output, loss, weight, l2
    )
    assert isinstance(actual[0], float)
    assert_close(np.array([actual[0]], dtype), np.array([expected[0]]), dtype, depth)
    assert len(actual[1]) == len(model.weights)
    assert len(actual[2]) == len(model.biases)
    for ours, theirs in itertools.chain(zip(actual[1], expected[1], strict=True), zip(actual[2], expected[2])):
        assert_close(ours, theirs, dtype, depth)
    assert_close(actual[3], expected[3], dtype, depth)


class TestAgainstTheReference:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(("output", "loss"), LOSSES)
    def test_every_output_and_loss(self, dtype, output, loss):
        model = make_model([7, 17, 5, 3], ["gelu", "relu"], output, dtype)
        X, y = make_data(model, 63, loss, dtype)
        check(model, X, y, loss)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("widths", [[1, 2], [300, 17], [17, 65, 2], [65, 1, 300, 3], [17, 65, 1, 17, 4],
                                        [2, 25, 50, 50, 25, 2]], ids=str)  # fmt: skip
    @pytest.mark.parametrize("rows", [1, 2, 63, 1000])
    @pytest.mark.parametrize("bias", [True, False])
    def test_every_depth_width_and_number_of_rows(self, dtype, widths, rows, bias):
        activations = [name for name, _ in zip(itertools.cycle(["tanh", "gelu", "leaky_relu", "relu"]), widths[2:])]
        model = make_model(widths, activations, "softmax", dtype, bias)
        (X,) = random_arrays(1, (rows, widths[0]), dtype=dtype)
        check(model, X, random_labels(2, rows, widths[-1]), "softmax_cross_entropy")

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("widths", [[1, 1], [17, 1], [65, 300, 1]], ids=str)
    @pytest.mark.parametrize("output", ["sigmoid", "identity"])
    def test_a_single_output(self, dtype, widths, output):
        model = make_model(widths, "silu", output, dtype)
        X, y = make_data(model, 63, "mean_squared_error", dtype)
        check(model, X, y[:, 0], None)
        if output == "sigmoid":
            check(model, X, random_labels(3, 63, 2), None)

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize(("output", "loss"), LOSSES)
    @pytest.mark.parametrize(("weighted", "l2"), [(True, 0.0), (False, 0.1), (True, 0.1)])
    def test_row_weights_and_l2(self, dtype, output, loss, weighted, l2):
        model = make_model([7, 17, 3], "tanh", output, dtype)
        X, y = make_data(model, 65, loss, dtype)
        check(model, X, y, loss, random_row_weights(3, 65) if weighted else None, l2)

    @pytest.mark.parametrize("rows", [1, 65])
    def test_labels_are_one_hot_rows(self, rows):
        labels = random_labels(2, rows, 5)
        for output, loss in [("softmax", None), ("softmax", "mean_squared_error"), ("sigmoid", None)]:
            model = make_model([7, 17, 5], "tanh", output)
            (X,) = random_arrays(1, (rows, 7))
            by_label, by_row = (model.loss_and_gradients(X, y, loss=loss) for y in (labels, np.eye(5)[labels]))
            np.testing.assert_allclose(by_label[0], by_row[0], rtol=1e-14)
            np.testing.assert_allclose(by_label[3], by_row[3], rtol=1e-12, atol=1e-15)


class TestAgainstCentralDifferences:
    @pytest.mark.parametrize(("output", "loss"), LOSSES)
    def test_every_layer(self, output, loss):
        """Weights and bias of the first, a hidden and the last layer, and dX: two hidden layers, weights, l2."""
        model = make_model([3, 4, 2, 3], ["tanh", "gelu"], output)
        X, y = make_data(model, 5, loss, "float64")
        weight, l2 = random_row_weights(4, 5), 0.05

        def value(X=X):
            return model.loss_and_gradients(X, y, loss=loss, l2=l2, sample_weight=weight)[0]

        def value_at(view):
            def f(values):
                kept = view.copy()
                view[...] = values
                result = value()
                view[...] = kept
                return result

            return f

        _, dws, dbs, dX = model.loss_and_gradients(X, y, loss=loss, l2=l2, sample_weight=weight)
        for gradient, view in zip(dws + dbs, model.weights + model.biases, strict=True):
            assert_gradient(gradient, value_at(view), view)
        assert_gradient(dX, value, X)


def test_nothing_is_updated():
    model = make_model([7, 17, 3], "relu", "softmax", "float32")
    X, y = make_data(model, 65, None, "float32")
    before = model.parameters.copy(), X.copy(), y.copy()
    model.loss_and_gradients(X, y, l2=0.1)
    for array, kept in zip((model.parameters, X, y), before, strict=True):
        np.testing.assert_array_equal(array, kept)
    predicted = model.predict(X)
    model.loss_and_gradients(X, y)
    np.testing.assert_array_equal(model.predict(X), predicted)


def test_zeros_would_fail():
    model = make_model([7, 17, 3], "relu", "softmax", "float32")
    X, y = make_data(model, 65, None, "float32")
    gradient = model.loss_and_gradients(X, y)[1][0]
    with pytest.raises(AssertionError):
        assert_close(np.zeros_like(gradient), gradient, "float32", network_depth(model.layers, 65))
