"""The oracle against what is independent of it: central differences, known values, loops over plain numbers."""

import math

import numpy as np
import pytest

from kernels import activations, losses, reference
from kernels.engine.codes import OUTPUTS
from tests import oracle

ACTIVATIONS = sorted(activations.ACTIVATIONS)
LOSSES = sorted(losses.LOSSES)
DTYPES = (np.float32, np.float64)
OUTPUTS_AND_LOSSES = [
    (output, oracle.loss_with_parameter(loss)) for output in OUTPUTS for loss in losses.names_for(output)
]
FLOAT64_DEPTH = 8  # roundings in the formulas of single elements


# Activations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [*ACTIVATIONS, *activations.ACTIVATIONS.aliases])
def test_activation_derivative(activation):
    z, dy = oracle.random_arrays(0, (4, 9), (4, 9))
    dz = reference.activate_backward(dy, reference.activate(z, activation), activation, pre=z)
    oracle.assert_gradient(dz, lambda a: (dy * reference.activate(a, activation)).sum(), z)


@pytest.mark.parametrize(
    ("activation", "z", "y"),
    [
        ("identity", -3.0, -3.0),
        ("relu", -3.0, 0.0),
        ("relu", 3.0, 3.0),
        ("leaky_relu", -3.0, -0.03),
        ("leaky_relu", 3.0, 3.0),
        ("sigmoid", 0.0, 0.5),
        ("sigmoid", math.log(3.0), 0.75),
        ("sigmoid", -30.0, math.exp(-30.0) / (1.0 + math.exp(-30.0))),
        ("tanh", math.log(2.0), 0.6),
        ("silu", math.log(3.0), 0.75 * math.log(3.0)),
        ("gelu", 1.0, 0.5 * (1.0 + math.erf(math.sqrt(0.5)))),
        ("gelu", -10.0, -5.0 * math.erfc(10.0 / math.sqrt(2.0))),
    ],
)
def test_activation_values(activation, z, y):
    oracle.assert_close(reference.activate([[z]], activation), [[y]], np.float64, FLOAT64_DEPTH)


@pytest.mark.parametrize(
    ("activation", "left", "right"),
    [
        ("identity", -1000.0, 1000.0),
        ("relu", 0.0, 1000.0),
        ("leaky_relu", -10.0, 1000.0),
        ("sigmoid", 0.0, 1.0),
        ("tanh", -1.0, 1.0),
        ("silu", 0.0, 1000.0),
        ("gelu", 0.0, 1000.0),
    ],
)
def test_activations_far_out(activation, left, right):
    z = np.array([-1000.0, 1000.0])
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        y = reference.activate(z, activation)
        slopes = reference.activate_backward(np.ones(2), y, activation, pre=z)
    np.testing.assert_array_equal(y, [left, right])
    below = {"identity": 1.0, "leaky_relu": 0.01}.get(activation, 0.0)
    above = 0.0 if activation in ("sigmoid", "tanh") else 1.0
    np.testing.assert_array_equal(slopes, [below, above])


@pytest.mark.parametrize(("activation", "slope"), [("relu", 0.0), ("leaky_relu", 0.01)])
def test_slope_at_the_kink_is_the_left_one(activation, slope):
    assert reference.activate_backward([1.0], [0.0], activation) == [slope]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_keep_nan(activation):
    y = reference.activate([np.nan, 1.0], activation)
    np.testing.assert_array_equal(np.isnan(y), [True, False])


def test_derivative_without_what_it_needs_is_an_error():
    with pytest.raises(ValueError, match=r"^pre: .*silu"):
        reference.activate_backward([1.0], [1.0], "swish")
    with pytest.raises(ValueError, match=r"^pre: .*gelu"):
        reference.linear_backward([[1.0]], [[1.0]], [[1.0]], [[1.0]], "gelu")
    with pytest.raises(ValueError, match=r"^y: .*tanh"):
        reference.activate_backward([1.0], None, "tanh", pre=[1.0])
    with pytest.raises(ValueError, match=r"^activation .*'reul'"):
        reference.activate([1.0], "reul")


@pytest.mark.parametrize("shift", [0.0, 1000.0, -1000.0])
def test_softmax_is_stable(shift):
    z = np.log([[1.0, 2.0, 5.0], [3.0, 3.0, 2.0]]) + shift
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        p = reference.softmax(z)
    # Adding the shift rounds z itself to 1000 units, an error that exp passes on.
    oracle.assert_close(p, [[0.125, 0.25, 0.625], [0.375, 0.375, 0.25]], np.float64, FLOAT64_DEPTH + int(abs(shift)))


def test_softmax_of_distant_logits():
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        p = reference.softmax([[-1000.0, 1000.0], [1000.0, 1000.0], [-1000.0, -1000.0]])
    np.testing.assert_array_equal(p, [[0.0, 1.0], [0.5, 0.5], [0.5, 0.5]])


# Dense layer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 3, 4), (2, 17, 1)])
def test_linear_backward(activation, sizes):
    batch, n_in, n_out = sizes
    x, w, b, dy = oracle.random_arrays(1, (batch, n_in), (n_in, n_out), (n_out,), (batch, n_out))
    b = b + 1.0  # so that relu does not shut off the whole of the smallest layer
    pre = np.empty((batch, n_out))
    y = reference.linear(x, w, b, activation, pre=pre)
    dx, dw, db = reference.linear_backward(dy, x, w, y, activation, pre=pre)
    oracle.assert_gradient(dx, lambda a: (dy * reference.linear(a, w, b, activation)).sum(), x)
    oracle.assert_gradient(dw, lambda a: (dy * reference.linear(x, a, b, activation)).sum(), w)
    oracle.assert_gradient(db, lambda a: (dy * reference.linear(x, w, a, activation)).sum(), b)


def test_linear_values():
    x, w, b = [[1, 2], [3, 4]], [[1, -1, 0], [2, 0, -1]], [0, 0, 1]
    np.testing.assert_array_equal(reference.linear(x, w), [[5, -1, -2], [11, -3, -4]])
    np.testing.assert_array_equal(reference.linear(x, w, b, "relu"), [[5, 0, 0], [11, 0, 0]])


def test_given_arrays_are_overwritten_in_their_dtype_and_returned():
    x, w, b, dy = oracle.random_arrays(2, (5, 3), (3, 4), (4,), (5, 4), dtype=np.float32)
    out, pre = np.full((2, 5, 4), np.nan, dtype=np.float32)
    y = reference.linear(x, w, b, "tanh", out=out, pre=pre)
    assert y is out
    np.testing.assert_array_equal(y, np.tanh(x.astype(np.float64) @ w + b).astype(np.float32))
    np.testing.assert_array_equal(pre, reference.linear(x, w, b).astype(np.float32))

    given = {
        name: np.full(shape, np.nan, dtype=np.float32)
        for name, shape in {"dx": (5, 3), "dw": (3, 4), "db": (4,), "dz": (5, 4)}.items()
    }
    expected = reference.linear_backward(dy, x, w, y, "tanh")
    returned = reference.linear_backward(dy, x, w, y, "tanh", **given)
    for name, array, value in zip(("dx", "dw", "db"), returned, expected, strict=True):
        assert array is given[name]
        np.testing.assert_array_equal(array, value.astype(np.float32))
    dz = reference.activate_backward(dy, y, "tanh")
    np.testing.assert_array_equal(given["dz"], dz.astype(np.float32))

    for function in (reference.softmax, reference.activate):
        assert function(pre, out=out) is out
        np.testing.assert_array_equal(out, function(pre).astype(np.float32))
    assert reference.activate_backward(dy, y, "tanh", out=out) is out
    with pytest.raises(ValueError, match=r"expected shape \(5, 4\)"):
        reference.linear(x, w, out=np.empty((6, 4)))


def test_inputs_are_left_alone_and_results_are_not_views_of_them():
    z = oracle.random_arrays(3, (3, 2))[0]
    before = z.copy()
    results = [reference.activate(z), reference.activate_backward(z), reference.softmax(z)]
    results += [oracle.loss_of(reference, loss)(z, np.full((3, 2), 0.5))[1] for loss in LOSSES]
    np.testing.assert_array_equal(z, before)
    assert not any(np.shares_memory(z, result) for result in results)


# Losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(1, 2), (7, 5), (2, 3)])
def test_loss_gradient(loss, weighted, shape):
    function = oracle.loss_of(reference, loss)
    z = 2.0 * oracle.random_arrays(4, shape)[0]
    target = oracle.random_target(5, loss, *shape)
    weight = oracle.random_row_weights(6, shape[0]) if weighted else None
    oracle.assert_gradient(function(z, target, weight)[1], lambda a: function(a, target, weight)[0], z)


@pytest.mark.parametrize("weighted", [False, True])
def test_softmax_cross_entropy_of_labels(weighted):
    z = oracle.random_arrays(7, (7, 5))[0]
    labels = oracle.random_labels(8, 7, 5)
    weight = oracle.random_row_weights(9, 7) if weighted else None
    loss, dz = reference.loss_and_gradient("softmax_cross_entropy", z, labels, weight)
    oracle.assert_gradient(dz, lambda a: reference.loss_and_gradient("softmax_cross_entropy", a, labels, weight)[0], z)
    same_loss, same_dz = reference.loss_and_gradient("softmax_cross_entropy", z, np.eye(5)[labels], weight)
    assert loss == same_loss
    np.testing.assert_array_equal(dz, same_dz)


def test_softmax_cross_entropy_of_targets_that_do_not_sum_to_one():
    z, target = oracle.random_arrays(10, (3, 4), (3, 4))
    dz = reference.loss_and_gradient("softmax_cross_entropy", z, target)[1]
    oracle.assert_gradient(dz, lambda a: reference.loss_and_gradient("softmax_cross_entropy", a, target)[0], z)


@pytest.mark.parametrize(
    ("loss", "z", "target", "weight", "expected"),
    [
        (("softmax_cross_entropy", 0.0), [[0.0, 0.0, 0.0, 0.0]], [2], None, math.log(4.0)),
        (
            ("softmax_cross_entropy", 0.0),
            [[math.log(3.0), 0.0], [0.0, 0.0]],
            [0, 1],
            [1.0, 3.0],
            math.log(32.0 / 3.0) / 4.0,
        ),
        (("softmax_cross_entropy", 0.0), [[math.log(3.0), 0.0]], [[0.5, 0.5]], None, math.log(16.0 / 3.0) / 2.0),
        (("softmax_cross_entropy", 0.5), [[math.log(3.0), 0.0]], [0], None, math.log(4.0) - 0.75 * math.log(3.0)),
        ("sigmoid_cross_entropy", [[0.0, 0.0]], [[0.0, 1.0]], None, 2.0 * math.log(2.0)),
        ("sigmoid_cross_entropy", [[math.log(3.0)], [0.0]], [1, 0], [3.0, 1.0], math.log(128.0 / 27.0) / 4.0),
        ("mean_squared_error", [[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], None, 9.75),
        ("mean_squared_error", [[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], [3.0, 1.0], 6.125),
        ("sum_squared_error", [[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], None, 39.0),
        ("sum_squared_error", [[1.0, 2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], [3.0, 1.0], 49.0),
        ("poisson", [[math.log(3.0), 0.0]], [[0.0, 1.0]], None, 3.0),
        ("poisson", [[0.0], [math.log(2.0)]], [2, 1], [1.0, 3.0], (2.0 - math.log(2.0)) / 4.0),
        ("absolute_error", [[1.0, -2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], None, 2.75),
        ("absolute_error", [[1.0, -2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 0.0]], [3.0, 1.0], 2.125),
        ("huber", [[0.5, -2.7], [0.7, 0.0]], [[0.0, 0.0], [0.0, 0.0]], None, (0.125 + 0.7 * 2.35 + 0.245) / 4.0),
        ("huber", [[0.5], [2.7]], [0, 0], [3.0, 1.0], (3.0 * 0.125 + 0.7 * 2.35) / 4.0),
        ("quantile", [[1.0, -2.0], [3.0, 5.0]], [[0.0, 0.0], [0.0, 5.0]], None, (0.1 + 1.8 + 0.3) / 4.0),
        ("quantile", [[1.0], [-2.0]], [0, 0], [3.0, 1.0], (0.3 + 1.8) / 4.0),
    ],
)
def test_loss_values(loss, z, target, weight, expected):
    value, _ = oracle.loss_of(reference, loss)(z, np.array(target), weight)
    assert isinstance(value, float)
    oracle.assert_close(value, expected, np.float64, FLOAT64_DEPTH)


@pytest.mark.parametrize(
    ("target", "loss", "dz"),
    [(0, 0.0, [0.0, 0.0]), (1, 2000.0, [1.0, -1.0])],
)
def test_softmax_cross_entropy_of_distant_logits(target, loss, dz):
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        value, gradient = reference.loss_and_gradient("softmax_cross_entropy", [[1000.0, -1000.0]], [target])
    assert value == loss
    np.testing.assert_array_equal(gradient, [dz])


@pytest.mark.parametrize(
    ("z", "target", "loss", "dz"),
    [(1000.0, 1.0, 0.0, 0.0), (1000.0, 0.0, 1000.0, 1.0), (-1000.0, 0.0, 0.0, 0.0), (-1000.0, 1.0, 1000.0, -1.0)],
)
def test_sigmoid_cross_entropy_of_distant_logits(z, target, loss, dz):
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        value, gradient = reference.loss_and_gradient("sigmoid_cross_entropy", [[z]], [[target]])
    assert value == loss
    np.testing.assert_array_equal(gradient, [[dz]])


def test_a_class_that_is_excluded_and_not_wanted_costs_nothing():
    value, dz = reference.loss_and_gradient("softmax_cross_entropy", [[0.0, -np.inf, 0.0]], [0])
    oracle.assert_close(value, math.log(2.0), np.float64, FLOAT64_DEPTH)
    np.testing.assert_array_equal(dz, [[-0.5, 0.0, 0.5]])


def test_softmax_of_one_output_is_certain():
    loss, dz = reference.loss_and_gradient("softmax_cross_entropy", [[3.0], [-4.0]], [0, 0])
    assert loss == 0.0
    np.testing.assert_array_equal(dz, [[0.0], [0.0]])


@pytest.mark.parametrize("loss", LOSSES)
def test_rows_of_weight_zero_count_for_nothing(loss):
    function = oracle.loss_of(reference, loss)
    z = oracle.random_arrays(11, (4, 3))[0]
    target = oracle.random_target(12, loss, 4, 3)
    value, dz = function(z, target, [1.0, 0.0, 1.0, 0.0])
    kept_value, kept_dz = function(z[::2], target[::2])
    oracle.assert_close(value, kept_value, np.float64, FLOAT64_DEPTH)
    oracle.assert_close(dz[::2], kept_dz, np.float64, FLOAT64_DEPTH)
    np.testing.assert_array_equal(dz[1::2], 0.0)

    value, dz = function(z, target, np.zeros(4))
    assert value == 0.0
    np.testing.assert_array_equal(dz, np.zeros((4, 3)))


@pytest.mark.parametrize("loss", LOSSES)
def test_loss_gradient_is_written_where_it_is_wanted(loss):
    z = oracle.random_arrays(13, (4, 3), dtype=np.float32)[0]
    target = oracle.random_target(14, loss, 4, 3)
    out = np.full((4, 3), np.nan, dtype=np.float32)
    _, dz = oracle.loss_of(reference, loss)(z, target, dz=out)
    assert dz is out
    np.testing.assert_array_equal(out, oracle.loss_of(reference, loss)(z, target)[1].astype(np.float32))


@pytest.mark.parametrize("loss", LOSSES)
def test_targets_are_not_broadcast(loss):
    with pytest.raises(ValueError, match=r"^target: expected"):
        oracle.loss_of(reference, loss)(np.zeros((4, 3)), np.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"^target: expected"):
        oracle.loss_of(reference, loss)(np.zeros((4, 3)), np.zeros(4))


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_beyond_the_classes_are_an_error(labels):
    with pytest.raises(ValueError, match=r"^target: expected labels 0\.\.2"):
        reference.loss_and_gradient("softmax_cross_entropy", np.zeros((2, 3)), labels)


# Updates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.0, True)])
def test_sgd_against_a_loop(momentum, nesterov):
    w, *gradients = oracle.random_arrays(15, (2, 3), *[(2, 3)] * 5)
    velocity = np.zeros((2, 3))
    expected = w.copy()
    for index in np.ndindex(w.shape):
        value, v = float(w[index]), 0.0
        for dw in gradients:
            gradient = float(dw[index])
            v = momentum * v - 0.1 * gradient
            value += momentum * v - 0.1 * gradient if nesterov else v
        expected[index] = value
    plain = w.copy()
    for dw in gradients:
        reference.sgd(w, dw, velocity, learning_rate=0.1, momentum=momentum, nesterov=nesterov)
        reference.sgd(plain, dw, learning_rate=0.1)
    oracle.assert_close(w, expected, np.float64, 5 * FLOAT64_DEPTH)
    if momentum == 0.0:
        np.testing.assert_array_equal(plain, w)


def test_momentum_without_a_velocity_is_an_error():
    w = np.ones(3)
    with pytest.raises(ValueError, match=r"^velocity must be given with momentum 0.9"):
        reference.sgd(w, np.ones(3), learning_rate=0.1, momentum=0.9)
    np.testing.assert_array_equal(w, 1.0)


def test_adam_against_a_loop():
    rate, beta1, beta2, epsilon = 0.01, 0.8, 0.95, 1e-3
    w, *gradients = oracle.random_arrays(16, (2, 3), *[(2, 3)] * 5)
    expected = w.copy()
    for index in np.ndindex(w.shape):
        value, m, v = float(w[index]), 0.0, 0.0
        for t, dw in enumerate(gradients, start=1):
            gradient = float(dw[index])
            m = beta1 * m + (1 - beta1) * gradient
            v = beta2 * v + (1 - beta2) * gradient * gradient
            value -= rate * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + epsilon)
        expected[index] = value
    m, v = np.zeros((2, 2, 3))
    for step, dw in enumerate(gradients, start=1):
        reference.adam(w, dw, m, v, step=step, learning_rate=rate, beta1=beta1, beta2=beta2, epsilon=epsilon)
    oracle.assert_close(w, expected, np.float64, 5 * FLOAT64_DEPTH)


def test_first_step_of_adam_is_the_learning_rate():
    w, m, v = np.zeros((3, 2))
    reference.adam(w, [123.0, -0.4], m, v, step=1, epsilon=0.0)
    oracle.assert_close(w, [-1e-3, 1e-3], np.float64, FLOAT64_DEPTH)


def test_updates_keep_the_dtype():
    w, velocity, m, v = (np.zeros(3, dtype=np.float32) for _ in range(4))
    reference.sgd(w, np.full(3, 0.3), velocity, learning_rate=1.0, momentum=0.5)
    np.testing.assert_array_equal(w, np.full(3, -0.3, dtype=np.float32))
    np.testing.assert_array_equal(velocity, w)
    reference.adam(w, np.full(3, 0.3), m, v, step=1)
    np.testing.assert_array_equal(m, np.full(3, (1.0 - 0.9) * 0.3, dtype=np.float32))


# Whole networks -----------------------------------------------------------------------------------------------------


def check_network_gradients(sizes, activations, output, loss, seed, *, weighted=False, l2=0.0, bias=True):
    batch = 5  # of an even number signs may cancel
    x = oracle.random_arrays(seed, (batch, sizes[0]))[0]
    weights, biases = oracle.random_network(seed + 1, sizes)
    biases = biases if bias else None
    target = oracle.random_target(seed + 2, loss, batch, sizes[-1])
    weight = oracle.random_row_weights(seed + 3, batch) if weighted else None

    def value(x=x, weights=weights, biases=biases):
        return reference.network_loss_and_gradients(
            x, target, weights, biases, activations, output, loss, weight=weight, l2=l2
        )[0]

    _, dws, dbs, dx = reference.network_loss_and_gradients(
        x, target, weights, biases, activations, output, loss, weight=weight, l2=l2
    )
    oracle.assert_gradient(dx, lambda a: value(x=a), x)
    for layer in range(len(weights)):
        others = weights[:layer], weights[layer + 1 :]
        oracle.assert_gradient(dws[layer], lambda a, o=others: value(weights=[*o[0], a, *o[1]]), weights[layer])
        without = biases or [np.zeros(width) for width in sizes[1:]]
        others = without[:layer], without[layer + 1 :]
        oracle.assert_gradient(dbs[layer], lambda a, o=others: value(biases=[*o[0], a, *o[1]]), without[layer])


@pytest.mark.parametrize(("output", "loss"), OUTPUTS_AND_LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("n_hidden", [1, 2, 3])
def test_network_gradients(activation, output, loss, n_hidden):
    sizes = [3, *[5, 4, 6][:n_hidden], 3]
    check_network_gradients(sizes, [activation] * n_hidden, output, loss, seed=20)


@pytest.mark.parametrize(("output", "loss"), OUTPUTS_AND_LOSSES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("bias", [False, True])
def test_network_gradients_with_options(output, loss, weighted, l2, bias):
    check_network_gradients([3, 5, 4, 2], ["relu", "gelu"], output, loss, seed=30, weighted=weighted, l2=l2, bias=bias)


@pytest.mark.parametrize(("output", "loss"), OUTPUTS_AND_LOSSES)
def test_network_gradients_of_a_single_layer(output, loss):
    check_network_gradients([4, 3], [], output, loss, seed=40)


def test_network_takes_labels():
    x = oracle.random_arrays(50, (6, 3))[0]
    weights, biases = oracle.random_network(51, [3, 4, 5])
    labels = oracle.random_labels(52, 6, 5)
    by_label = reference.network_loss_and_gradients(x, labels, weights, biases, ["tanh"], "softmax")
    one_hot = reference.network_loss_and_gradients(x, np.eye(5)[labels], weights, biases, ["tanh"], "softmax")
    assert by_label[0] == one_hot[0]
    np.testing.assert_array_equal(by_label[3], one_hot[3])


@pytest.mark.parametrize("output", sorted(OUTPUTS))
def test_network_forward_is_its_layers_in_turn(output):
    x = oracle.random_arrays(60, (6, 3))[0]
    weights, biases = oracle.random_network(61, [3, 4, 5, 2])
    h1 = np.maximum(x @ weights[0] + biases[0], 0.0)
    h2 = np.tanh(h1 @ weights[1] + biases[1])
    z = h2 @ weights[2] + biases[2]
    y = {"softmax": reference.softmax(z), "sigmoid": 1.0 / (1.0 + np.exp(-z)), "identity": z, "exp": np.exp(z)}[output]
    outputs = reference.network_forward(x, weights, biases, ["relu", "tanh"], output)
    for actual, expected in zip(outputs, [h1, h2, y], strict=True):
        oracle.assert_close(actual, expected, np.float64, FLOAT64_DEPTH)


def test_network_errors_name_the_argument():
    x = np.ones((2, 3))
    weights, biases = oracle.random_network(70, [3, 4, 2])
    with pytest.raises(ValueError, match=r"^activations: expected 1"):
        reference.network_forward(x, weights, biases, ["relu", "relu"], "softmax")
    with pytest.raises(ValueError, match=r"^output: .*'relu'"):
        reference.network_forward(x, weights, biases, ["relu"], "relu")
    for output, loss in (("softmax", "sigmoid_cross_entropy"), ("sigmoid", ("huber", 1.0)), ("exp", "absolute_error")):
        with pytest.raises(ValueError, match=rf"^loss: .*{output} output, got .*{loss[0]}"):
            reference.network_loss_and_gradients(x, np.ones((2, 2)), weights, biases, ["relu"], output, loss)


# The comparisons themselves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("depth", oracle.AWKWARD_SIZES)
def test_tolerance_fails_zeros(dtype, depth):
    x, w = oracle.random_arrays(80, (4, depth), (depth, 3), dtype=dtype)
    expected = reference.linear(x, w)
    for scale in (None, np.abs(x) @ np.abs(w)):
        oracle.assert_close(x @ w, expected, dtype, depth, scale)
        with pytest.raises(AssertionError, match="elements differ"):
            oracle.assert_close(np.zeros_like(x @ w), expected, dtype, depth, scale)
    assert oracle.tolerance(dtype, depth) < 0.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_tolerance_is_missed_by_an_error_just_above_it(dtype):
    expected = np.array([1.0, -0.25])
    tolerance = oracle.tolerance(dtype, 1000)
    oracle.assert_close(expected.astype(dtype) * dtype(1.0 + 0.9 * tolerance), expected, dtype, 1000)
    with pytest.raises(AssertionError, match=r"1 of 2 elements differ .* index \(0,\)"):
        oracle.assert_close(expected.astype(dtype) * dtype(1.0 + 1.1 * tolerance), expected, dtype, 1000)


def test_comparison_that_zeros_would_pass_is_refused():
    with pytest.raises(AssertionError, match="zeros would pass"):
        oracle.assert_close(np.array([1e-9]), [1e-9], np.float64, 10, scale=1e9)
    with pytest.raises(AssertionError, match="zeros would pass"):
        oracle.assert_gradient([1e-12], lambda a: 1.0 + 1e-12 * a.sum(), [1.0])
    with pytest.raises(ValueError, match=r"^depth: "):
        oracle.tolerance(np.float32, 10**7)


@pytest.mark.parametrize(
    ("actual", "message"),
    [
        (np.array([1.0, np.nan, np.nan]), "elements differ"),
        (np.array([1.0, 2.0, 3.0]), "NaN and infinities"),
        (np.array([1.0, 2.0, -np.inf]), "NaN and infinities"),
        (np.array([1.0, np.inf, np.inf]), "elements differ"),
        (np.array([1.0, 2.0]), r"expected shape \(3,\)"),
        (np.array([1.0, 2.0, np.inf], dtype=np.float32), "expected dtype float64"),
    ],
)
def test_comparison_sees_nan_infinity_shape_and_dtype(actual, message):
    expected = [1.0, 2.0, np.inf] if not np.isnan(actual[-1]) else [1.0, 2.0, np.nan]
    oracle.assert_close(np.array(expected), expected, np.float64, 1)
    oracle.assert_close(np.array(expected), expected, np.float64, 1, scale=np.abs(expected))
    with pytest.raises(AssertionError, match=message):
        oracle.assert_close(actual, expected, np.float64, 1)


def test_wrong_gradients_fail():
    z = oracle.random_arrays(81, (3, 4))[0]
    right = 3.0 * z**2
    oracle.assert_gradient(right, lambda a: (a**3).sum(), z)
    for wrong in (np.zeros_like(z), right * (1.0 + 1e-6), right[:2]):
        with pytest.raises(AssertionError):
            oracle.assert_gradient(wrong, lambda a: (a**3).sum(), z)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("output", "loss"), OUTPUTS_AND_LOSSES)
def test_tolerance_of_a_network_holds_for_numpy_in_float32(activation, output, loss, monkeypatch):
    sizes, batch = [17, 64, 15, 3], 65
    x = oracle.random_arrays(82, (batch, sizes[0]), dtype=np.float32)[0]
    weights, biases = oracle.random_network(83, sizes, np.float32)
    target = oracle.random_target(84, loss, batch, sizes[-1], np.float32)
    arguments = x, target, weights, biases, [activation] * 2, output, loss
    value, dws, dbs, dx = reference.network_loss_and_gradients(*arguments)
    monkeypatch.setattr(reference, "_float64", lambda a: np.asarray(a, dtype=np.float32))
    low_value, *low = reference.network_loss_and_gradients(*arguments)

    depth = oracle.network_depth(sizes, batch)
    oracle.assert_close(low_value, value, np.float32, depth)
    for actual, expected in zip([*low[0], *low[1], low[2]], [*dws, *dbs, dx], strict=True):
        oracle.assert_close(np.float32(actual), expected, np.float32, depth)
        with pytest.raises(AssertionError, match="elements differ"):
            oracle.assert_close(np.zeros_like(expected, dtype=np.float32), expected, np.float32, depth)
