"""Whole networks on the GPU, or in the simulator, beside the CPU's engine."""

import itertools

import numpy as np
import pytest

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

from kernels.activations import ACTIVATIONS
from kernels.cpu.engine.engine import Engine as CpuEngine
from kernels.cuda import tuning
from kernels.cuda.engine import graph, launches
from kernels.cuda.engine.engine import Engine
from kernels.engine.network import perceptron
from kernels.layout import Layout, aligned_zeros
from kernels.optimizers.adam import Adam
from kernels.optimizers.sgd import SGD
from tests.kernels.cuda.device import SIMULATED
from tests.oracle import assert_close, network_depth, random_arrays, random_labels, random_network, random_target
from tests.requests import train_request

DTYPES = ["float32", "float64"]
ROWS, BATCH = 11, 6
# widths, activation, output, loss, metric, update, slots, l2, weights, bias
# Adam's epsilon is large: with a small one, a gradient of which rounding alone is left makes as large a step as any
MOMENTUM, ADAM = SGD(0.1, 0.9, nesterov=True), Adam(0.01, epsilon=1e-3)
NETWORKS = [
    ([5, 9, 3], "relu", "softmax", "softmax_cross_entropy", "label", ADAM, 0.1, True, True),
    ([3, 4, 2], "gelu", "sigmoid", "sigmoid_cross_entropy", "outputs", SGD(0.1), 0.0, False, False),
    ([4, 3, 2, 3], "tanh", "softmax", "softmax_cross_entropy", "largest", MOMENTUM, 0.2, False, True),
    ([3, 2, 2], "silu", "softmax", "mean_squared_error", "largest", MOMENTUM, 0.0, True, True),
    ([3, 2, 1], "sigmoid", "sigmoid", "sum_squared_error", "outputs", SGD(0.1), 0.0, True, True),
    ([2, 1], "relu", "identity", "mean_squared_error", None, ADAM, 0.0, False, True),
    ([3, 2, 2], "tanh", "identity", ("huber", 0.5), None, SGD(0.1), 0.0, True, True),
    ([3, 2, 2], "tanh", "identity", "absolute_error", None, MOMENTUM, 0.1, False, True),
    ([3, 2, 1], "tanh", "identity", ("quantile", 0.9), None, ADAM, 0.0, True, True),
]
if not SIMULATED:
    NETWORKS += [
        ([784, 256, 128, 10], "relu", "softmax", "softmax_cross_entropy", "label", ADAM, 0.0, False, True),
        ([30, 129, 65, 1], "leaky_relu", "identity", "mean_squared_error", None, MOMENTUM, 0.1, True, True),
    ]


def make_engine(kind, widths, activation, output, dtype, bias=True, dropout=()):
    layout = Layout.of(perceptron(widths, bias=bias), dtype)
    parameters = aligned_zeros(layout.size, dtype)
    weights, biases = random_network(0, widths)
    for view, values in zip(layout.weights(parameters) + layout.biases(parameters), weights + biases, strict=False):
        view[...] = values
    network = perceptron(widths, [activation] * (len(widths) - 2), output, bias=bias, dropout=dropout)
    return kind(network, parameters, 1)


def make_data(widths, loss, metric, weighted, dtype):
    """X of another dtype than the network's, an order, a target and weights."""
    (x,) = random_arrays(1, (ROWS, widths[0]), dtype="float64" if dtype == "float32" else "float32")
    if metric == "label":
        target = random_labels(2, ROWS, widths[-1])
    elif loss == "sigmoid_cross_entropy":
        target = np.random.default_rng(2).integers(0, 2, (ROWS, widths[-1])).astype(np.uint8)
    else:
        target = random_target(2, loss, ROWS, widths[-1])
    weight = np.random.default_rng(3).uniform(0.5, 2.0, ROWS) if weighted else None
    return x, target, weight, np.random.default_rng(4).permutation(ROWS).astype(np.uint32)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n[1]} {n[3]} {n[5]}")
def test_a_slice_of_steps_is_that_of_the_cpu(network, dtype):
    widths, activation, output, loss, metric, optimizer, l2, weighted, bias = network
    x, target, weight, order = make_data(widths, loss, metric, weighted, dtype)
    scalars = optimizer.scalars(0, optimizer.rates(0, 2))
    results = []
    for kind in (CpuEngine, Engine):
        engine = make_engine(kind, widths, activation, output, dtype, bias)
        state = [aligned_zeros(engine.layout.size, dtype) for _ in optimizer.slots]
        losses, right = engine.train(train_request(
            x, target, order=order, weight=weight, first=1, total=10, size=BATCH, scales=np.array([1 / 6, 1 / 4]),
            loss=loss, metric=metric, update=optimizer.update, state=state, scalars=scalars, l2=l2,
        ))  # fmt: skip
        results.append((losses, right, engine.parameters, *state))
    before = make_engine(CpuEngine, widths, activation, output, dtype, bias).parameters
    depth = 2 * network_depth(widths, BATCH)
    expected, actual = results
    assert_close(actual[0].astype(dtype), expected[0], dtype, depth)
    if metric:
        np.testing.assert_array_equal(actual[1], expected[1])
    change = expected[2].astype(np.float64) - before
    assert_close(actual[2], expected[2], dtype, depth, scale=np.abs(before).max())
    assert np.abs((actual[2] - before) - change).max() < 0.01 * np.abs(change).max(), "the steps themselves agree"
    for one, other in zip(actual[3:], expected[3:], strict=True):
        assert_close(one, other, dtype, depth)


@pytest.mark.parametrize("ordered", [True, False])
def test_several_passes_are_those_of_as_many_calls(ordered):
    widths, rates, results = [3, 5, 2], [0.5], []
    x, target, weight, order = make_data(widths, "softmax_cross_entropy", "label", True, "float32")
    orders = np.concatenate([order[:1], order[1:], order[:0:-1]])  # two passes over ten rows, after the first one
    for passes in (2, 1):
        engine = make_engine(Engine, widths, "tanh", "softmax", "float32", dropout=rates)
        state, losses = [aligned_zeros(engine.layout.size, "float32")], []
        scalars = np.tile([0.1, 0.9, 1.0], (2 * passes, 1))
        for part in range(2 // passes):
            losses += [
                engine.train(train_request(
                    x, target, order=orders if ordered else None, weight=weight,
                    first=1 + (10 * part if ordered else 0), total=10, size=BATCH, passes=passes,
                    scales=np.tile([1 / 6, 1 / 4], passes), loss="softmax_cross_entropy", metric="label",
                    update=SGD(momentum=0.9).update, state=state, scalars=scalars, noise=(7, 2 * part),
                ))
            ]  # fmt: skip
        results.append([engine.parameters, *state, *np.concatenate(losses, axis=1)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu", "identity"])
def test_dropout_is_that_of_the_cpu(activation, dtype):
    widths, rates = [3, 5, 4, 3, 2], [0.5, 0.0, 0.25]
    x, target, _, order = make_data(widths, "softmax_cross_entropy", "label", False, dtype)
    results = []
    for kind in (CpuEngine, Engine):
        engine = make_engine(kind, widths, activation, "softmax", dtype, dropout=rates)
        scalars = np.full((2, 1), 0.1)
        losses, _ = engine.train(train_request(
            x, target, order=order, total=ROWS, size=BATCH, scales=np.array([1 / 6, 1 / 5]),
            loss="softmax_cross_entropy", update=SGD().update, state=[], scalars=scalars, noise=(2**40 + 7, 2**31 + 3),
        ))  # fmt: skip
        engine.forward(x, out=(out := np.empty((ROWS, 2), dtype)))  # which drops nothing
        results.append((losses.astype(dtype), engine.parameters, out))
    depth = 2 * network_depth(widths, BATCH)
    before = make_engine(CpuEngine, widths, activation, "softmax", dtype).parameters
    for expected, actual, start in zip(*results, (0, before, 0), strict=True):
        assert_close(actual, expected, dtype, depth, scale=np.abs(expected).max())
        change = expected.astype(np.float64) - start
        assert np.abs(actual - start - change).max() < 0.01 * np.abs(change).max()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("limit", "scale"), [(1e-3, 1.0), (1e9, 1.0), (0.5, 1e25), (0.5, np.inf)])
@pytest.mark.filterwarnings("ignore:invalid value", "ignore:overflow")  # NumPy's, in the simulator
def test_clipping_is_that_of_the_cpu(limit, scale, dtype):
    widths, results = [3, 4, 2], []
    x, target, _, _ = make_data(widths, "softmax_cross_entropy", "label", False, dtype)
    for kind in (CpuEngine, Engine):
        engine = make_engine(kind, widths, "relu", "softmax", dtype)
        before = engine.parameters.copy()
        scalars = np.full((1, 1), 1.0)
        engine.train(train_request(
            x, target, total=ROWS, size=ROWS, scales=np.array([scale]), loss="softmax_cross_entropy",
            update=SGD().update, state=[], scalars=scalars, clip_norm=limit,
        ))  # fmt: skip
        results.append(engine.parameters - before)
    np.testing.assert_array_equal(np.isnan(results[1]), np.isnan(results[0]))
    assert np.isnan(results[0]).any() == np.isinf(scale)
    if scale < np.inf:
        largest = np.abs(before).max() + np.abs(results[0]).max()
        assert_close(results[1], results[0], dtype, network_depth(widths, ROWS), scale=largest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("network", [NETWORKS[0], NETWORKS[3], NETWORKS[6]], ids=lambda n: f"{n[1]} {n[3]}")
def test_gradients_and_forward_are_those_of_the_cpu(network, dtype):
    widths, activation, output, loss, metric, _, l2, weighted, bias = network
    x, target, weight, order = make_data(widths, loss, metric, weighted, dtype)
    depth, results = network_depth(widths, ROWS), []
    for kind in (CpuEngine, Engine):
        engine = make_engine(kind, widths, activation, output, dtype, bias)
        value, gradient, dx = engine.gradients(x, target, weight=weight, scale=1 / ROWS, loss=loss, l2=l2)
        out, part = np.empty((ROWS, widths[-1]), dtype), np.empty((4, widths[-1]), dtype)
        every = engine.forward(x, out=out, target=target, weight=weight, loss=loss, metric=metric)
        some = engine.forward(x, order=order[:4], out=part, target=target, weight=weight, loss=loss, metric=metric)
        known = 2 if metric else 1  # without a metric nothing is said of rightness
        results.append((np.asarray(value, dtype), gradient, dx, out, part, *every[:known], *some[:known]))
    for actual, expected in zip(results[1], results[0], strict=True):
        assert_close(actual.astype(dtype), expected, dtype, depth)
    padding = np.ones(engine.layout.size, bool)
    for view in engine.layout.weights(padding) + engine.layout.biases(padding):
        view[...] = False
    assert not results[1][1][padding].any()


@pytest.mark.parametrize("widths", [[3, 4, 2], [3, 9, 2]], ids=["narrow", "wide"])
def test_many_rows_go_through_the_layers_a_few_at_a_time(widths, monkeypatch):
    x, target, weight, order = make_data(widths, "softmax_cross_entropy", "label", True, "float32")
    engine, results = make_engine(Engine, widths, "relu", "softmax", "float32"), []
    x, target, weight = engine.place(x, target, weight)  # else the rows of an order are picked on the host
    for rows in (ROWS, 4):
        monkeypatch.setattr(tuning, "FORWARD_ELEMENTS", rows * sum(engine.layout.strides))
        out = np.empty((10, widths[-1]), np.float32)
        losses, right = engine.forward(x, order=order[1:], out=out, target=target, weight=weight, metric="label")
        results.append((out, losses, right))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_same_call_gives_the_same_bits():
    widths = [3, 4, 2]
    x, target, _, order = make_data(widths, "softmax_cross_entropy", "label", False, "float32")
    results = []
    for _ in range(2):
        engine = make_engine(Engine, widths, "relu", "softmax", "float32")
        losses, right = engine.train(train_request(
            x, target, order=order, total=ROWS, size=BATCH, scales=np.ones(2),
            loss="softmax_cross_entropy", metric="label", update=SGD().update, state=[],
            scalars=np.full((2, 1), 0.1),
        ))  # fmt: skip
        results.append((losses, right, engine.parameters))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("widths", "activation", "dtype"),
    [
        ([9, 4, 2], "relu", "float32"), ([9, 4, 2], "gelu", "float64"), ([3, 8, 1, 5, 3], "tanh", "float32"),
        ([3, 8, 1, 5, 3], "identity", "float64"),
    ],
    ids=str,
)  # fmt: skip
def test_narrow_networks_have_the_bits_of_others(widths, activation, dtype, monkeypatch):
    x, target, weight, order = make_data(widths, "softmax_cross_entropy", "label", True, dtype)
    results = []
    for tiles in (tuning.NARROW_TILES, dict.fromkeys(tuning.NARROW_TILES, ())):
        monkeypatch.setattr(tuning, "NARROW_TILES", tiles)
        engine = make_engine(Engine, widths, activation, "softmax", dtype)
        out = np.empty((ROWS, widths[-1]), dtype)
        every = engine.forward(x, out=out, target=target, metric="label")
        gradients = engine.gradients(x, target, weight=weight, scale=0.1, loss="softmax_cross_entropy", l2=0.1)
        steps = engine.train(train_request(
            x, target, order=order, weight=weight, total=ROWS, size=BATCH, scales=np.ones(2),
            loss="softmax_cross_entropy", metric="label", update=SGD().update, state=[],
            scalars=np.full((2, 1), 0.1),
        ))  # fmt: skip
        assert (engine._plan(BATCH, True).narrow is None) == (not tiles[dtype])
        results.append((out, *every, *gradients, *steps, engine.parameters))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("dtype", "tile"), [(dtype, tile) for dtype in DTYPES for tile in tuning.NARROW_TILES[dtype]], ids=str
)
def test_every_tile_of_narrow_networks_gives_the_bits_of_others(tile, dtype, monkeypatch):
    widths, rows, results = [5, tile.columns, tile.columns - 1, 3], tile.rows + 1, []
    x, target = random_arrays(1, (rows, 5), dtype=dtype)[0], random_labels(2, rows, 3)
    for tiles in ((tile,), ()):
        monkeypatch.setattr(tuning, "NARROW_TILES", {dtype: tiles})
        engine = make_engine(Engine, widths, "relu", "softmax", dtype)
        out = np.empty((rows, 3), dtype)
        every = engine.forward(x, out=out, target=target, metric="label")
        loss = "softmax_cross_entropy"
        results.append((out, *every, *engine.gradients(x, target, weight=None, scale=0.1, loss=loss)))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("widths", "activations"),
    [([3, 2], []), ([3, 129, 2], ["relu"]), ([3, 4, 129], ["relu"]), ([3, 4, 5, 2], ["relu", "tanh"])],
    ids=str,
)
def test_other_networks_take_a_launch_per_layer(widths, activations):
    layout, activations = Layout.of(perceptron(widths), "float32"), [ACTIVATIONS[name] for name in activations]
    assert launches.Plan(layout, activations, BATCH, True).narrow is None
    assert launches.Plan(layout, activations, BATCH, False).narrow is None


def test_a_narrow_network_that_drops_takes_a_launch_per_layer():
    layout, relu = Layout.of(perceptron([3, 4, 2]), "float32"), [ACTIVATIONS["relu"]]
    assert launches.Plan(layout, relu, BATCH, True, [0.0]).narrow is not None
    assert launches.Plan(layout, relu, BATCH, True, [0.5]).narrow is None


@pytest.mark.parametrize("total", [11, 7])  # 7: all rows of the last batch are in the first part of its sums
def test_bits_do_not_depend_on_how_an_epoch_is_cut_into_calls(total, monkeypatch):
    monkeypatch.setattr(tuning, "SPLIT_ROWS", 3)
    widths = [3, 4, 2]
    x, target, weight, order = make_data(widths, "softmax_cross_entropy", "label", True, "float32")
    results = []
    for cuts in ([(0, 2)], [(0, 1), (1, 2)]):
        engine = make_engine(Engine, widths, "relu", "softmax", "float32")
        losses = []
        for start, end in cuts:
            rows = min(total, end * BATCH) - start * BATCH
            part, _ = engine.train(train_request(
                x, target, order=order, weight=weight, first=start * BATCH, total=rows, size=BATCH,
                scales=np.ones(end - start), loss="softmax_cross_entropy", metric="label",
                update=SGD().update, state=[], scalars=np.full((end - start, 1), 0.1), l2=0.1,
            ))  # fmt: skip
            losses.extend(part)
        results.append((losses, engine.parameters))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_placed_data_is_the_same_data_and_stays_where_it_is():
    widths = [3, 2]
    x, target, weight, order = make_data(widths, "softmax_cross_entropy", "label", True, "float32")
    engine = make_engine(Engine, widths, "relu", "softmax", "float32")
    placed = engine.place(x[:, ::-1], target, weight)
    assert engine.place(*placed) == placed
    results = []
    for data in ((x[:, ::-1], target, weight), placed):
        out = np.empty((4, 2), np.float32)
        losses, right = engine.forward(
            data[0], order=order[:4], out=out, target=data[1], weight=data[2], metric="label"
        )  # fmt: skip
        results.append((out, losses, right))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_part_of_placed_data_is_that_part():
    x, target, _, _ = make_data([3, 2], "softmax_cross_entropy", "label", False, "float32")
    engine = make_engine(Engine, [3, 2], "relu", "softmax", "float32")
    placed, labels, _ = engine.place(x, target.astype(np.uint8))
    expected = engine.forward(x[2:7], target=target[2:7], metric="label")
    actual = engine.forward(placed[2:7], target=labels[2:7], metric="label")
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bool", "int8", "uint8", "int64", ">f4", ">i2"])
def test_data_of_any_type_is_converted_batch_by_batch(dtype):
    x = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    engine = make_engine(Engine, [3, 2], "relu", "identity", "float32")
    outputs = [np.empty((2, 2), np.float32) for _ in range(2)]
    engine.forward(x, out=outputs[0])
    engine.forward(x.astype(np.float32), out=outputs[1])
    np.testing.assert_array_equal(*outputs)
    assert outputs[0].any()


def test_parameters_stay_on_the_device_while_training_and_come_back():
    engine = make_engine(Engine, [3, 2], "relu", "softmax", "float32")
    x, target, _, _ = make_data([3, 2], "softmax_cross_entropy", "label", False, "float32")
    steps = itertools.count()

    def step():
        next(steps)
        engine.train(train_request(
            x, target, total=ROWS, size=ROWS, scales=np.ones(1),
            loss="softmax_cross_entropy", update=SGD().update, state=[],
            scalars=np.full((1, 1), 0.1),
        ))  # fmt: skip

    first = engine.parameters.copy()
    with engine.training():
        step()
        np.testing.assert_array_equal(engine.parameters, first)
        engine.pull()
        second = engine.parameters.copy()
        assert not np.array_equal(second, first)
        engine.parameters[...] = first  # what a callback does that goes back to the best parameters
        step()
    np.testing.assert_array_equal(engine.parameters, second)
    engine.parameters[...] = first  # outside of training the host's are the truth
    step()
    np.testing.assert_array_equal(engine.parameters, second)
    assert next(steps) == 3


def test_slices_on_the_same_arrays_share_a_graph_which_is_let_go_with_them(monkeypatch):
    captures = []

    def counted(launches):
        captures.append(launches)
        return captured(launches)

    captured = graph.captured
    monkeypatch.setattr(graph, "captured", counted)
    engine = make_engine(Engine, [3, 4, 2], "relu", "softmax", "float32")
    x, target, _, order = make_data([3, 4, 2], "softmax_cross_entropy", "label", False, "float32")
    x, target, _ = engine.place(x, target)
    state = engine.hold([np.zeros(engine.layout.size, np.float32)])
    with engine.training():
        for steps in (2, 1, 1, 2):
            engine.train(train_request(
                x, target, order=order, total=min(ROWS, steps * BATCH), size=BATCH,
                scales=np.ones(steps), loss="softmax_cross_entropy", metric="label",
                update=SGD(momentum=0.9).update, state=state, scalars=np.tile([0.1, 0.9, 0.0], (steps, 1)),
            ))  # fmt: skip
        assert len(captures) == 1
        assert any(x.flat is array for array in captures[0][0][2])
        assert engine._repeated._launches
    assert not engine._repeated._launches


def test_there_is_no_hook():
    engine = make_engine(Engine, [3, 2], "relu", "softmax", "float32")
    with pytest.raises(NotImplementedError, match="hook must be None on device 'cuda'"):
        engine.train(train_request(
            np.zeros((1, 3)), np.zeros(1, int), total=1, size=1, scales=np.ones(1), loss="softmax_cross_entropy",
            update=SGD().update, state=[], scalars=np.zeros((1, 1)), hook=(0, 0),
        ))  # fmt: skip


@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_a_label_of_no_output_is_an_error_that_names_its_row(label):
    """As when an array on the GPU changes after it was checked."""
    (x,), labels = random_arrays(1, (ROWS, 5), dtype="float32"), random_labels(2, ROWS, 3)
    labels[7] = label
    engine = make_engine(Engine, [5, 9, 3], "relu", "softmax", "float32")
    steps = -(-ROWS // BATCH)
    with pytest.raises(ValueError, match=r"^labels must stay from 0 to 2 .* row 7 "):
        engine.train(train_request(
            x, labels, total=ROWS, size=BATCH, scales=np.full(steps, 1 / BATCH), loss="softmax_cross_entropy",
            metric="label", update=SGD().update, state=[], scalars=np.full((steps, 1), 0.1),
        ))  # fmt: skip
    assert np.isfinite(engine.parameters).all()
    with pytest.raises(ValueError, match=r"row 7 "):
        engine.forward(x, target=labels)
    with pytest.raises(ValueError, match=r"row 7 "):
        engine.gradients(x, labels, weight=None, scale=1 / ROWS, loss="softmax_cross_entropy")


def test_an_order_of_rows_that_are_not_there_is_refused():
    engine, (x,) = make_engine(Engine, [5, 9, 3], "relu", "softmax", "float32"), random_arrays(1, (ROWS, 5))
    with pytest.raises(IndexError, match="an order must hold rows below 11, got 11"):
        engine.forward(engine.place(x)[0], order=np.array([3, ROWS]))
