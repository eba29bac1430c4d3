"""How a step is cut into phases and tiles, and that each way of cutting it computes the same."""

from itertools import pairwise

import numpy as np
import pytest

from kernels import reference
from kernels.cpu import tuning
from kernels.cpu.engine import schedule as schedules
from kernels.cpu.engine.engine import Engine
from kernels.cpu.engine.operations.layers import backward_layer, forward_layer
from kernels.cpu.engine.operations.rows_through_layers import gather_batch, rows_through_layers, rows_to_outputs
from kernels.cpu.engine.operations.update_weights import transpose_weights
from kernels.cpu.engine.operations.weights import weights
from kernels.engine.codes import ROW_NUMBER
from kernels.engine.network import perceptron
from kernels.layout import Layout, aligned_zeros
from kernels.optimizers.sgd import SGD
from tests.oracle import assert_close, network_depth, random_arrays, random_labels, random_network
from tests.requests import train_request

# What a step is made of: widths, rows of the batch, rows of a second batch that is smaller
KINDS = {
    "rows": ([20, 33, 5], 50, 1),
    "layers": ([300, 290, 70, 5], 65, 21),
    "layers alone": ([90, 300], 3, 2),
    "groups": ([60, 13, 3], 8000, 2501),
    "pair of groups": ([60, 83, 3], 233, 41),
}


def operations(widths, rows, threads=2):
    schedule = schedules.for_step(perceptron(widths), rows, threads, 4, gathered=True, dx=False, split=False)
    return [phase.operation for phase in schedule.phases], schedule.gradient_groups


def test_the_kinds_are_what_they_are_called():
    assert operations(*KINDS["rows"][:2]) == ([transpose_weights, rows_through_layers, weights], 0)
    layers = [
        transpose_weights,
        gather_batch,
        *[forward_layer] * 2,
        rows_through_layers,
        backward_layer,
        weights,
    ]
    assert operations(*KINDS["layers"][:2]) == (layers, 0)
    alone = [transpose_weights, gather_batch, forward_layer, rows_through_layers, weights]
    assert operations(*KINDS["layers alone"][:2]) == (alone, 0)
    assert operations(*KINDS["groups"][:2])[0] == [transpose_weights, rows_through_layers, weights]
    assert operations(*KINDS["groups"][:2])[1] >= tuning.GROUPS_AT_ONCE


@pytest.mark.parametrize("rows", [1, 2, 31, 128, 1000, 5000, 100_003, 10_000_019])
@pytest.mark.parametrize("widths", [(2, 25, 1), (400, 25, 10), (784, 256, 128, 10), (1024, 2048, 2048, 1024, 10)])
def test_what_decides_a_sum_depends_on_the_sizes_alone(widths, rows):
    for_threads = [
        schedules.for_step(perceptron(widths), rows, n, 4, gathered=True, dx=False, split=False) for n in (1, 2, 7, 64)
    ]
    assert len({(schedule.gradient_groups, schedule.group_rows) for schedule in for_threads}) == 1
    groups, height = for_threads[0].gradient_groups, for_threads[0].group_rows
    assert groups == 0 or (groups - 1) * height < rows <= groups * height
    assert groups == 0 or groups * Layout.of(perceptron(widths), "float32").size <= rows * sum(
        widths
    )  # not more than it saves


@pytest.mark.parametrize("widths", [(1, 1), (2, 25, 1), (784, 256, 128, 10), (1024, 2048, 2048, 1024, 10)])
def test_the_weight_tiles_cover_every_weight_once(widths):
    covered = [np.zeros(shape, int) for shape in pairwise(widths)]
    for layer, i0, i1, j0, j1 in schedules.weight_tiles(perceptron(widths)):
        covered[layer][i0:i1, j0:j1] += 1
    assert all((layer == 1).all() for layer in covered)


@pytest.mark.parametrize("rows", [1, 7, 48, 100, 512, 5000])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_tiles_of_a_layer_cover_it(rows, threads):
    widths = (300, 2049, 1030)
    schedule = schedules.for_step(perceptron(widths), rows, threads, 4, gathered=True, dx=True, split=False)
    for operation, layer, height, across, width, *_ in schedule.phases:
        if operation in (forward_layer, backward_layer):
            columns = widths[layer + 1] if operation == forward_layer else widths[layer]
            assert 0 < height <= max(rows, 1)
            assert (across - 1) * width < columns <= across * width


class Setting:
    """An engine in float64, data for it, and what kernels.reference makes of them."""

    def __init__(self, kind, activation, threads, labels=np.int64, in_place=False):
        self.widths, self.rows, self.rest = KINDS[kind]
        layout = Layout.of(perceptron(self.widths), "float64")
        self.parameters = aligned_zeros(layout.size, "float64")
        self.weights, self.biases = layout.weights(self.parameters), layout.biases(self.parameters)
        weights, biases = random_network(0, self.widths)
        for view, values in zip(self.weights + self.biases, weights + biases, strict=True):
            view[...] = values
        self.activations = [activation] * (len(self.widths) - 2)
        self.engine = Engine(perceptron(self.widths, self.activations), self.parameters, threads)
        n = self.rows + self.rest
        (self.x,) = random_arrays(1, (n, self.widths[0]))
        self.y = random_labels(2, n, self.widths[-1]).astype(labels)
        self.order = None if in_place else np.random.default_rng(3).permutation(n).astype(ROW_NUMBER)
        self.depth = network_depth(self.widths, self.rows)

    def reference(self, weights, biases, batch):
        return reference.network_loss_and_gradients(
            self.x[batch], self.y[batch].astype(np.int64), weights, biases, self.activations, "softmax"
        )

    def train(self, rate=0.5):
        """Two steps of descent, the second on fewer rows; returns their losses."""
        scalars = np.full((2, 1), rate)
        losses, right = self.engine.train(train_request(
            self.x, self.y, order=self.order, total=self.rows + self.rest, size=self.rows,
            scales=1 / np.array([self.rows, self.rest]), loss="softmax_cross_entropy", metric="label",
            update=SGD().update, state=[], scalars=scalars,
        ))  # fmt: skip
        return losses, right


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("kind", KINDS)
class TestKinds:
    def test_two_steps(self, kind, activation, in_place, threads):
        setting = Setting(kind, activation, threads, in_place=in_place)
        weights, biases = [w.copy() for w in setting.weights], [b.copy() for b in setting.biases]
        losses, _ = setting.train()
        order = np.arange(len(setting.x)) if in_place else setting.order
        for n, batch in enumerate((order[: setting.rows], order[setting.rows :])):
            loss, dws, dbs, _ = setting.reference(weights, biases, batch)
            assert_close(losses[n], loss, "float64", setting.depth)
            weights = [w - 0.5 * dw for w, dw in zip(weights, dws, strict=True)]
            biases = [b - 0.5 * db for b, db in zip(biases, dbs, strict=True)]
        for actual, expected in zip(setting.weights + setting.biases, weights + biases, strict=True):
            assert_close(actual, expected, "float64", 2 * setting.depth)

    def test_gradients(self, kind, activation, in_place, threads):
        setting = Setting(kind, activation, threads)
        x = setting.x[: setting.rows] if in_place else setting.x.astype(np.float32)[: setting.rows]
        setting.x = x.astype(np.float64)
        y = setting.y[: setting.rows]
        loss, gradient, dx = setting.engine.gradients(
            x, y, weight=None, scale=1 / setting.rows, loss="softmax_cross_entropy"
        )
        expected = setting.reference(setting.weights, setting.biases, slice(setting.rows))
        assert_close(loss, expected[0], "float64", setting.depth)
        layout = setting.engine.layout
        for actual, wanted in zip(
            layout.weights(gradient) + layout.biases(gradient), expected[1] + expected[2], strict=True
        ):
            assert_close(actual, wanted, "float64", setting.depth)
        assert_close(dx, expected[3], "float64", setting.depth)


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_threads_gives_the_same_bits(kind):
    results = []
    for threads in (1, 2, 3):
        setting = Setting(kind, "gelu", threads)
        results.append((*setting.train(), setting.parameters))
    for other in results[1:]:
        for expected, actual in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64"])
@pytest.mark.parametrize("kind", ["rows", "groups"])
def test_labels_are_read_as_they_are(kind, dtype):
    expected, actual = Setting(kind, "relu", 1), Setting(kind, "relu", 1)
    if dtype == "bool":
        expected.y, actual.y = np.minimum(expected.y, 1), np.minimum(actual.y, 1)
    actual.y = np.repeat(actual.y.astype(dtype), 2)[::2]  # strided, too
    for one, other in zip(expected.train(), actual.train(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(actual.parameters, expected.parameters)


@pytest.fixture
def never_transposed(monkeypatch):
    """From here on dw is never made as its transpose."""

    def forget():
        monkeypatch.setattr(schedules, "transposed_dw_pays", lambda *sizes: False)
        schedules.for_step.cache_clear()

    yield forget
    schedules.for_step.cache_clear()


@pytest.mark.parametrize("kind", ["rows", "layers", "groups"])
def test_a_gradient_made_as_its_transpose_has_the_same_bits(kind, never_transposed):
    widths, rows, _ = KINDS[kind]
    assert any(schedules.for_step(perceptron(widths), rows, 1, 8, gathered=True, dx=False, split=False).transposed_dw)
    found = []
    for forget in (lambda: None, never_transposed):
        forget()
        setting = Setting(kind, "relu", 2)
        losses, _ = setting.train()
        value, gradient, _ = setting.engine.gradients(
            setting.x, setting.y, weight=None, scale=1.0, loss="softmax_cross_entropy"
        )
        found.append([losses, setting.parameters, value, gradient])
    assert not any(
        schedules.for_step(perceptron(widths), rows, 1, 8, gathered=True, dx=False, split=False).transposed_dw
    )
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


WIDE = (300, 700, 800, 700, 6)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("rows", [1, 2, 33, tuning.FORWARD_ROWS, tuning.FORWARD_ROWS + 1])
def test_few_rows_go_forward_by_parts_of_large_layers(rows, in_place):
    """Layer 0 is not large, layers 1 and 2 are; the last is done with the outputs."""
    phases = [
        phase.operation for phase in schedules.for_outputs(perceptron(WIDE), rows, 2, 4, not in_place, rows).phases
    ]
    by_layers = rows <= tuning.FORWARD_ROWS
    assert phases == [*[gather_batch] * (not in_place), *[forward_layer] * 3, rows_to_outputs][0 if by_layers else -1 :]
    (phase,) = schedules.for_outputs(perceptron(WIDE), rows, 1, 4, not in_place, rows).phases
    assert phase.operation is rows_to_outputs
    weights, biases = random_network(3, WIDE)
    parameters = aligned_zeros(Layout.of(perceptron(WIDE), "float32").size, np.float32)
    layout = Layout.of(perceptron(WIDE), "float32")
    for w, b, values, bias in zip(layout.weights(parameters), layout.biases(parameters), weights, biases, strict=True):
        w[...], b[...] = values, bias
    (x,) = random_arrays(4, (rows, WIDE[0]))
    x = x if in_place else x.astype(np.float64)
    labels = random_labels(5, rows, WIDE[-1])
    results = []
    for threads in (1, 2, 3):
        engine = Engine(perceptron(WIDE, ["relu", "gelu", "tanh"]), parameters, threads)
        out = np.full((rows, WIDE[-1]), np.nan, np.float32)
        results.append((out, *engine.forward(x, out=out, target=labels, loss="softmax_cross_entropy", metric="label")))
    expected = x.astype(np.float64)
    for w, b, activation in zip(weights, biases, ["relu", "gelu", "tanh", "identity"], strict=True):
        expected = reference.linear(expected, w.astype(np.float32), b.astype(np.float32), activation)
    assert_close(results[0][0], reference.softmax(expected), "float32", network_depth(WIDE, 1))
    for other in results[1:]:
        for one, another in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize(("widths", "rows", "threads", "layers"), [
    ((784, 256, 128, 10), 1, 2, 1), ((784, 256, 128, 10), 384, 2, 1), ((784, 256, 128, 10), 385, 2, 0),
    ((784, 256, 128, 10), 1, 1, 0), ((64, 64, 10), 1, 2, 0), ((30, 1000, 1000, 10), 3, 2, 2),
    ((1 << 16, 4, 10), 1, 2, 0),  # whose columns are one tile, however narrow the vectors are
])  # fmt: skip
def test_few_rows_go_one_by_one_through_layers_of_which_each_thread_reads_a_part(widths, rows, threads, layers):
    assert schedules.streamed(perceptron(widths), rows, threads, 4) == layers
