"""What the estimators train with: gradients by central differences, padding, learning rates."""

import numpy as np
import pytest
import scipy.sparse

from fastnn import MLP
from fastnn.inputs import Targets
from fastnn.sklearn.solvers import EpochRates, Problem, minimise
from tests.oracle import (
    assert_gradient,
    random_arrays,
    random_labels,
    random_network,
    random_row_weights,
    random_target,
)

PROBLEMS = [
    ("softmax_cross_entropy", "softmax", 3), ("sigmoid_cross_entropy", "logistic", 1),
    ("sigmoid_cross_entropy", "logistic", 4), ("mean_squared_error", "identity", 1),
    ("mean_squared_error", "identity", 3), ("poisson", "exp", 2), ("absolute_error", "identity", 2),
    (("huber", 0.7), "identity", 1), (("huber", 0.7), "identity", 3), (("quantile", 0.9), "identity", 2),
]  # fmt: skip


def problem(loss, output, n_outputs, sparse=False, weighted=True, rows=23):
    (X,) = random_arrays(0, (rows, 5))
    X[X < 0] = 0 if sparse else X[X < 0]
    if loss == "softmax_cross_entropy":
        labels = random_labels(1, rows, n_outputs)
        target = Targets(labels, "label", labels)
    else:
        metric = "outputs" if output == "logistic" else None
        target = Targets(random_target(1, loss, rows, n_outputs), metric, None)
    weight = random_row_weights(2, rows) if weighted else None
    return Problem(scipy.sparse.csr_array(X) if sparse else X, target, weight, loss, output, n_outputs)


def network(output, n_outputs):
    net = MLP([5, 7, n_outputs], "tanh", output, dtype="float64", init="zeros")
    for views, values in zip((net.weights, net.biases), random_network(3, net.layers)):
        for view, array in zip(views, values):
            view[...] = array
    return net


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("loss", "output", "n_outputs"), PROBLEMS)
def test_loss_and_gradient_belong_together(loss, output, n_outputs, sparse, monkeypatch):
    monkeypatch.setattr("fastnn.sklearn.solvers.BLOCK_BYTES", 10 * 8 * 5)  # three blocks of sparse rows
    data, net = problem(loss, output, n_outputs, sparse), network(output, n_outputs)
    start, used = net.parameters.copy(), net.parameters != 0

    def value(parameters):
        net.parameters[used] = parameters
        return data.loss_and_gradient(net, alpha=0.3)[0]

    gradient = data.loss_and_gradient(net, alpha=0.3)[1]
    assert (gradient[~used] == 0).all(), "padding would be trained"
    assert_gradient(gradient[used], value, start[used])


@pytest.mark.parametrize(("loss", "output", "n_outputs"), PROBLEMS)
def test_validate(loss, output, n_outputs):
    """By weight, and in blocks of sparse rows what it is of dense ones."""
    data, net = problem(loss, output, n_outputs), network(output, n_outputs)
    measured = data.validate(net)
    assert measured["loss"] == pytest.approx(data.reported * data.loss_and_gradient(net, 0.0)[0], rel=1e-12)
    counts = np.arange(23) % 3
    copies = problem(loss, output, n_outputs, weighted=False).rows(np.repeat(np.arange(23), counts))
    repeated = Problem(data.X, data.target, counts.astype(float), loss, output, n_outputs)
    for name, value in copies.validate(net).items():
        assert repeated.validate(net)[name] == pytest.approx(value, rel=1e-12)
    sparse = Problem(scipy.sparse.csr_array(data.X), data.target, data.weight, loss, output, n_outputs)
    assert sparse.validate(net) == measured
    net.biases[-1][...] = np.nan
    assert np.isnan(data.validate(net)["r2" if data.target.metric is None else "accuracy"])


def test_a_target_that_never_varies():
    data = problem("mean_squared_error", "identity", 1, weighted=False)
    net = MLP([5, 7, 1], output="identity", init="zeros", dtype="float64")
    data.target.values[...] = 0.0
    assert data.validate(net)["r2"] == 1.0
    data.target.values[...] = 2.0
    assert data.validate(net)["r2"] == 0.0


def test_lbfgs_is_not_shown_the_padding(monkeypatch):
    import scipy.optimize

    shown, minimize = [], scipy.optimize.minimize
    monkeypatch.setattr(
        "scipy.optimize.minimize", lambda f, x, **options: shown.append(len(x)) or minimize(f, x, **options)
    )
    net, task = network("identity", 2), problem("mean_squared_error", "identity", 2)
    before = task.validate(net)["loss"]
    loss, _ = minimise(net, task, 0.0, 1e-9, 500, 5000, lambda message: None)
    assert shown == [net.n_parameters]
    assert net.n_parameters < len(net.parameters)
    assert loss == pytest.approx(task.validate(net)["loss"], rel=1e-6)
    assert loss < 0.1 * before


def test_adaptive_rate():
    said = []
    of_epochs = EpochRates(network("identity", 1), "sgd", "adaptive", 1e-4, 0.5, momentum=0.9, nesterov=True)
    rates = [of_epochs.learning_rate]
    while not of_epochs.stalled("No progress.", said.append):
        rates.append(of_epochs.learning_rate)
    np.testing.assert_allclose(rates, 1e-4 / 5.0 ** np.arange(4))
    assert said == [
        "No progress. Setting learning rate to 0.000020", "No progress. Setting learning rate to 0.000004",
        "No progress. Setting learning rate to 0.000001", "No progress. Learning rate too small. Stopping.",
    ]  # fmt: skip
