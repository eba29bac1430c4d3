"""Networks of each kind of normalisation beside dense layers: the layers' references, and their own promises."""

import pickle

import numpy as np
import pytest

import fastnn
from fastnn.files import formats
from kernels import reference
from kernels.activations import ACTIVATIONS
from kernels.backends import engine as engine_of
from kernels.cpu.engine import schedule as schedules
from kernels.engine.network import perceptron
from kernels.layers import NORMS
from kernels.layout import Layout, aligned_zeros
from tests.oracle import assert_close, assert_gradient, network_depth, random_arrays, random_labels, tolerance

# By rows through all layers, by layers one after the other, and in gradient groups where rows are independent
SIZES = {"rows": ([7, 33, 17, 3], 50), "layers": ([90, 130, 129, 4], 41), "groups": ([20, 13, 3], 2600)}
NUMBERS = [(norm, size) for norm in NORMS for size in SIZES]


class Network:
    """A network with random parameters, and what its layers' references make of them in float64."""

    def __init__(self, widths, norm, activation="silu", dtype="float64"):
        self.network = perceptron(widths, [activation] * (len(widths) - 2), norm=norm)
        self.layout, self.dtype = Layout.of(self.network, dtype), dtype
        self.flat = aligned_zeros(self.layout.size, dtype)
        rng = np.random.default_rng(3)
        for w in self.layout.weights(self.flat):
            w[...] = rng.standard_normal(w.shape) * np.sqrt(2 / len(w))
        for b in self.layout.biases(self.flat):
            b[...] = 0.1 * rng.standard_normal(b.shape)
        for one in self.layout.norms(self.flat):
            one.gamma[...], one.beta[...] = 1 + 0.3 * rng.standard_normal((2, len(one.beta)))
            if one.mean is not None:
                one.mean[...], one.variance[...] = 0.5 + rng.random((2, len(one.beta)))

    def engine(self, threads=1, flat=None):
        return engine_of("cpu")(self.network, self.flat if flat is None else flat, threads)

    def parts(self, flat):
        """(w, b, statistics) of each stage, in float64."""
        for stage, arrays in self.layout.arrays(flat):
            yield stage, [array.astype(np.float64) for array in arrays]

    def forward(self, x, by_batch, flat=None):
        """The logits, and of each stage its input, pre-activations, outputs, w and what its backward reads."""
        seen, x = [], x.astype(np.float64)
        for stage, (w, b, *statistics) in self.parts(self.flat if flat is None else flat):
            z, saved = stage.layer.forward(x, w, b, () if by_batch else tuple(statistics))
            y = ACTIVATIONS[stage.layer.activation].reference(z)
            seen.append((x, z, y, w, saved))
            x = y
        return x, seen

    def gradients(self, x, labels, flat=None):
        """(loss, the gradient laid out like the parameters, dx)."""
        logits, seen = self.forward(x, True, flat)
        value, dy = reference.loss_and_gradient("softmax_cross_entropy", logits, labels)
        gradient = np.zeros(self.layout.size)
        places = list(self.parts_of(gradient))
        for (stage, _), place, (inputs, z, y, w, saved) in zip(
            list(self.parts(self.flat))[::-1], places[::-1], seen[::-1], strict=True
        ):
            dz = reference.activate_backward(dy, y, stage.layer.activation, pre=z)
            dy, dw, db = stage.layer.backward(dz, inputs, w, saved)
            place[0][...], place[1][...] = dw, db
        return value, gradient, dy

    def parts_of(self, flat):
        """Views of w and b of each stage."""
        return [arrays[:2] for _, arrays in self.layout.arrays(flat)]

    def depth(self, rows):
        """What is accumulated on the way, in float64 the means too."""
        return 4 * network_depth([stage.inputs for stage in self.network.stages] + [self.network.widths[-1]], rows)


def data(widths, rows, dtype):
    (x,) = random_arrays(1, (rows, widths[0]), dtype=dtype)
    return x, random_labels(2, rows, widths[-1])


def test_the_sizes_are_what_they_are_called():
    for norm in NORMS:
        found = {}
        for name, (widths, rows) in SIZES.items():
            schedule = schedules.for_step(
                perceptron(widths, norm=norm), rows, 2, 4, gathered=True, dx=True, split=False
            )
            found[name] = schedule.gradient_groups > 0, schedule.first_layer > 0
        by_layers = NORMS[norm].couples_rows
        expected = {"rows": (False, by_layers), "layers": (False, True), "groups": (not by_layers, by_layers)}
        assert found == expected


@pytest.mark.parametrize("norm", [*NORMS])
@pytest.mark.parametrize("rows", [2, 5])
def test_the_reference_is_the_gradient_of_its_loss(norm, rows):
    """The one thing that nothing else checks: all parameters and x by central differences."""
    net = Network([3, 4, 5, 2], norm, "tanh")
    x, labels = data([3, 2], rows, "float64")
    _, gradient, dx = net.gradients(x, labels)
    used = np.zeros(net.layout.size, bool)
    for w, b in net.parts_of(used):
        w[...] = b[...] = True

    def loss(values):
        flat = net.flat.copy()
        flat[used] = values
        return net.gradients(x, labels, flat)[0]

    assert_gradient(gradient[used], loss, net.flat[used])
    assert_gradient(dx, lambda values: net.gradients(values, labels)[0], x)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("activation", ["relu", "silu", "tanh"])
@pytest.mark.parametrize("norm, size", NUMBERS)
def test_gradients_are_those_of_the_reference(norm, size, activation, dtype):
    widths, rows = SIZES[size]
    net = Network(widths, norm, activation, dtype)
    x, labels = data(widths, rows, dtype)
    value, gradient, dx = net.gradients(x, labels)
    got = net.engine().gradients(x, labels, weight=None, scale=1 / rows, loss="softmax_cross_entropy")
    assert_close(np.asarray(got[0], dtype), value, dtype, net.depth(rows))
    most = np.abs(gradient).max()
    stages = net.network.stages
    for n, (parts, expected) in enumerate(zip(net.parts_of(got[1]), net.parts_of(gradient), strict=True)):
        assert_close(parts[0], expected[0], dtype, net.depth(rows), scale=most)
        if n + 1 < len(stages) and stages[n + 1].layer.couples_rows:  # what all rows have in common is taken away again
            assert np.abs(parts[1]).max() <= tolerance(dtype, net.depth(rows)) * most
        else:
            assert_close(parts[1], expected[1], dtype, net.depth(rows), scale=most)
    assert_close(got[2], dx, dtype, net.depth(rows))


@pytest.mark.parametrize("norm, size", NUMBERS)
def test_the_bits_are_the_same_on_any_number_of_threads(norm, size):
    widths, rows = SIZES[size]
    x, labels = data(widths, rows, "float32")
    found = []
    for threads in (1, 2, 3):
        net = fastnn.MLP(widths, norm=norm, seed=0, threads=threads, dropout=0.2, device="cpu")
        net.fit(x, labels, epochs=3, batch_size=rows // 2 + 1, progress=False)
        found.append([net.parameters, net.predict(x), *net.loss_and_gradients(x, labels)[1]])
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, another)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm, size", NUMBERS)
def test_outputs_are_by_running_statistics(norm, size, dtype):
    widths, rows = SIZES[size]
    net = Network(widths, norm, dtype=dtype)
    x, labels = data(widths, rows, dtype)
    logits, _ = net.forward(x, by_batch=False)
    out = np.empty((rows, widths[-1]), dtype)
    losses, _ = net.engine(2).forward(x, out=out, target=labels)
    assert_close(out, reference.softmax(logits), dtype, net.depth(rows))
    value, _ = reference.loss_and_gradient("softmax_cross_entropy", logits, labels)
    assert_close(np.asarray(losses.mean(), dtype), value, dtype, net.depth(rows))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_moves_the_running_statistics_and_nothing_else_does(dtype):
    net = Network([5, 70, 3], "batch", dtype=dtype)
    x, labels = data([5, 3], 40, dtype)
    model = fastnn.MLP([5, 70, 3], "silu", norm="batch", dtype=dtype, device="cpu")
    model.parameters[...] = net.flat
    _, seen = net.forward(x, by_batch=True)
    (before,) = net.layout.norms(net.flat)
    expected = net.network.stages[1].layer.running(seen[0][2], *(one.astype(np.float64) for one in before[2:]))
    model.predict(x), model.evaluate(x, labels), model.loss_and_gradients(x, labels)
    np.testing.assert_array_equal(model.parameters, net.flat)
    model.train_on_batch(x, labels, fastnn.SGD(0.1))
    (after,) = model.norms
    for got, wanted in zip(after[2:], expected, strict=True):
        assert_close(got, wanted, dtype, 50)
    assert not np.array_equal(after.mean, before.mean)


def test_a_batch_of_one_row_gives_beta_and_keeps_nothing():
    """Its columns have no variance: PyTorch refuses it."""
    x, labels = data([5, 3], 9, "float32")
    model = fastnn.MLP([5, 8, 3], norm="batch", seed=0, device="cpu")
    history = model.fit(x, labels, epochs=2, batch_size=8, progress=False)  # the second batch has one row
    assert np.isfinite(history.loss).all()
    assert np.isfinite(model.parameters).all()
    model.norms[0].beta[...] = 0.5
    before = [one.copy() for one in model.norms[0]]
    logits = np.maximum(before[1].astype(float), 0) @ model.weights[1] + model.biases[1]
    expected, _ = reference.loss_and_gradient("softmax_cross_entropy", logits[np.newaxis], labels[:1])
    loss = model.train_on_batch(x[:1], labels[:1], fastnn.SGD(0.1))["loss"]
    assert loss == pytest.approx(expected, rel=1e-5)
    for one, other in zip(model.norms[0][2:], before[2:], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2, 7, 33, 100])
def test_a_row_of_equal_numbers_gives_beta(width, dtype):
    """However large they are, and however their mean is rounded."""
    model = fastnn.MLP([1, width, width], "identity", "identity", norm="layer", init="zeros", dtype=dtype, device="cpu")
    model.weights[1][...] = np.eye(width)
    for value in (0.1, 110.3, 11000.7):
        model.biases[0][...] = value
        np.testing.assert_allclose(model.predict(np.zeros((1, 1))), 0.0, atol=1e-3)


def test_what_is_learnt_and_kept_is_written_into():
    model = fastnn.MLP([2, 3, 2], norm="batch")
    model.norms[0].gamma *= 2
    model.norms[0].mean += 1
    np.testing.assert_array_equal(model.norms[0][:1] + model.norms[0][2:3], [[2, 2, 2], [1, 1, 1]])
    with pytest.raises(AttributeError, match=r"^gamma cannot be replaced: write into it, as in gamma\[...\] = values$"):
        model.norms[0].gamma = np.ones(3)
    with pytest.raises(AttributeError, match=r"^norms cannot be replaced: write into them"):
        model.norms = ()


def test_a_network_is_the_same_in_another_process():
    net = fastnn.MLP([2, 3, 2], norm="batch").network
    again = pickle.loads(pickle.dumps(net))
    assert again == net
    assert hash(again) == hash(net)
    assert b"_hash" not in pickle.dumps(net)


@pytest.mark.parametrize("norm", [*NORMS])
@pytest.mark.parametrize("clip_norm", [None, 1e9])
def test_l2_and_decay_leave_gamma_and_beta_alone(norm, clip_norm):
    """As biases: in the loss, in the gradient, and in an optimiser that decays weights alone."""
    x, labels = data([6, 4], 30, "float64")
    after = []
    for l2, decay in ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5)):
        model = fastnn.MLP([6, 9, 4], "tanh", norm=norm, dtype="float64", seed=0, device="cpu")
        model.norms[0].gamma[...] = 3.0
        loss = model.train_on_batch(
            x, labels, fastnn.AdamW(1e-2, weight_decay=decay, epsilon=1.0, clip_norm=clip_norm), l2=l2
        )["loss"]
        squares = sum(float((w**2).sum()) for w in fastnn.MLP([6, 9, 4], "tanh", dtype="float64", seed=0).weights)
        after.append((loss - 0.5 * l2 * squares, model.weights[1].copy(), *(one.copy() for one in model.norms[0][:2])))
    for loss, w, *norms in after[1:]:
        assert loss == pytest.approx(after[0][0], rel=1e-12)
        assert not np.array_equal(w, after[0][1])
        for one, other in zip(norms, after[0][2:], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("norm", [*NORMS])
def test_nan_stays_in_its_row_where_nothing_is_learnt(norm):
    model = fastnn.MLP([4, 6, 3], norm=norm, seed=0, device="cpu")
    (x,) = random_arrays(0, (5, 4), dtype="float32")
    expected = model.predict(x)
    x[2, 1] = np.nan
    found = model.predict(x)
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(np.delete(found, 2, 0), np.delete(expected, 2, 0))


@pytest.mark.parametrize("norm", [*NORMS])
def test_normalisation_learns_where_inputs_are_of_odd_scales(norm):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 8)) * 10.0 ** np.arange(-3, 5)
    labels = (x[:, 0] * 1e3 + x[:, 7] * 1e-4 > 0).astype(int)
    model = fastnn.MLP([8, 32, 32, 2], norm=norm, seed=0, device="cpu")
    model.fit(x, labels, epochs=60, progress=False)
    plain = fastnn.MLP([8, 32, 32, 2], seed=0, device="cpu")
    plain.fit(x, labels, epochs=60, progress=False)
    assert model.evaluate(x, labels)["loss"] < plain.evaluate(x, labels)["loss"]


def test_what_norm_takes():
    with pytest.raises(ValueError, match=r"^norm must be one of batch, layer, got 'group'$"):
        fastnn.MLP([2, 3, 1], output="sigmoid", norm="group")
    with pytest.raises(ValueError, match=r"^norm must be "):
        fastnn.MLP([2, 3, 1], output="sigmoid", norm=True)
    model = fastnn.MLP([2, 3, 1], output="sigmoid", norm="batch")
    assert model.device == "cpu"
    assert model.n_parameters == 6 + 3 + 3 + 3 + 3 + 1
    with pytest.raises(AttributeError, match="norm is decided when a model is made"):
        model.norm = None
    assert fastnn.MLP([2, 1], output="sigmoid", norm="batch").norms == ()


def learnt(norm, dtype="float32", **options):
    """A network that has learnt a little, so that nothing in it is as at first, and rows for it."""
    x, labels = data([6, 3], 70, dtype)
    model = fastnn.MLP([6, 20, 9, 3], "tanh", norm=norm, dtype=dtype, seed=0, device="cpu", **options)
    model.fit(x, labels, epochs=3, optimizer=fastnn.Adam(0.1), batch_size=16, progress=False)
    return model, x


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
@pytest.mark.parametrize("norm", [*NORMS])
def test_files_and_pickles_keep_all_of_it(norm, suffix, tmp_path):
    model, x = learnt(norm, dropout=0.1)
    model.save(tmp_path / f"model.{suffix}")
    for other in (fastnn.load(tmp_path / f"model.{suffix}"), pickle.loads(pickle.dumps(model))):
        assert repr(other) == repr(model)
        assert f"norm={norm!r}" in repr(other)
        np.testing.assert_array_equal(other.parameters, model.parameters)
        np.testing.assert_array_equal(other.predict(x), model.predict(x))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_folded_network_predicts_the_same(dtype, bias):
    model, x = learnt("batch", dtype, bias=bias)
    folded = model.folded()
    assert (folded.norm, folded.bias, folded.norms) == (None, True, ())
    assert_close(folded.predict(x), model.predict(x).astype(np.float64), dtype, network_depth(model.layers, 1))
    again = folded.folded()
    np.testing.assert_array_equal(again.parameters, folded.parameters)
    assert not np.shares_memory(again.parameters, folded.parameters)


def test_what_goes_by_rows_cannot_be_folded():
    model, _ = learnt("layer")
    with pytest.raises(ValueError, match=r"^norm must be one by statistics that are kept to be folded, got 'layer'$"):
        model.folded()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", [*NORMS])
def test_onnx_runtime_gives_the_same(norm, dtype):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra test has onnxruntime")
    model, x = learnt(norm, dtype)
    session = onnxruntime.InferenceSession(
        fastnn.to_onnx(model).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"X": x})
    assert_close(y, model.predict(x).astype(np.float64), dtype, network_depth(model.layers, 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("norm", [*NORMS])
def test_pytorch_gives_the_same_and_comes_back(norm, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model, x = learnt(norm, dtype, dropout=0.1)
    module = fastnn.to_torch(model).eval()
    with torch.inference_mode():
        y = module(torch.from_numpy(x)).numpy()
    assert_close(y, model.predict(x).astype(np.float64), dtype, network_depth(model.layers, 1))
    back = fastnn.from_torch(module, device="cpu")
    assert repr(back) == repr(model)
    np.testing.assert_array_equal(back.parameters, model.parameters)


@pytest.mark.parametrize("norm", [*NORMS])
def test_pytorch_learns_the_same(norm):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    model, x = learnt(norm, "float64")
    labels = np.arange(len(x)) % 3
    module = fastnn.to_torch(model)[:-1].train()  # without softmax
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(20):
        model.train_on_batch(x, labels, fastnn.SGD(0.1))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(labels)).backward()
        optimizer.step()
    back = fastnn.from_torch(module, "softmax", device="cpu")
    np.testing.assert_allclose(back.parameters, model.parameters, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("change", ["norm", "variance"])
def test_a_file_that_says_another_thing_is_refused(change, tmp_path):
    """A network without what is in the file, and a variance that is none."""
    model, _ = learnt("batch")
    if change == "variance":
        model.norms[1].variance[0] = -1
    model.save(tmp_path / "model.npz")
    arrays, metadata = formats.load_arrays(tmp_path / "model.npz")
    if change == "norm":
        metadata["architecture"]["norm"] = None
    formats.save_arrays(tmp_path / "model.npz", arrays, metadata)
    with pytest.raises(
        ValueError, match="beta0 belongs to no layer" if change == "norm" else "variance1 must be at least 0"
    ):
        fastnn.load(tmp_path / "model.npz")


def test_what_of_pytorch_cannot_be_taken():
    nn = pytest.importorskip("torch", reason="PyTorch is not installed").nn
    for parts, message in (
        (
            [nn.Linear(4, 5), nn.BatchNorm1d(5, eps=1e-3), nn.ReLU(), nn.Linear(5, 2)],
            r"module\[1\] must have eps 1e-05",
        ),
        ([nn.Linear(4, 5), nn.ReLU(), nn.BatchNorm1d(5), nn.Linear(5, 2)], r"module\[2\] must be a Linear layer"),
        (
            [nn.Linear(4, 5), nn.Dropout(), nn.LayerNorm(5), nn.Linear(5, 2)],
            r"module\[2\] must come right after a Linear",
        ),
        ([nn.Linear(4, 5), nn.LayerNorm(5), nn.LayerNorm(5)], r"module\[2\] must come right after a Linear"),
        ([nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2), nn.LayerNorm(2)], "the same normalisation after each"),
        ([nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 5), nn.Linear(5, 2)], "the same normalisation after each"),
        ([nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.Linear(5, 2)], "track_running_stats True"),
    ):
        with pytest.raises(ValueError, match=message):
            fastnn.from_torch(nn.Sequential(*parts))
    with pytest.raises(TypeError, match=r"^options of from_torch must not be what the module decides, got norm$"):
        fastnn.from_torch(nn.Sequential(nn.Linear(2, 2)), norm="layer")


@pytest.mark.parametrize("norm", [*NORMS])
def test_each_part_of_a_step_is_explained_and_clocked(norm):
    model, x = learnt(norm)
    labels = np.arange(len(x)) % 3
    rows = {(row.layer, row.phase) for row in model.profile(x, labels, batch_size=32).rows}
    expected = {(n, phase) for n in range(1, 6) for phase in ("forward", "dx", "dw", "update")} - {(1, "dx")}
    assert expected <= rows
    assert {phase for layer, phase in rows if layer == 2} >= {"activation", "derivative"}
    text = model.explain(32)
    assert ("layer 2 (batch norm) forward" in text) == NORMS[norm].couples_rows


def test_the_summary_has_a_line_for_each(capsys):
    fastnn.MLP([4, 3, 2], norm="batch").summary()
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "    1        4        3                             15",
        "    2        3        3  batch norm, relu            6",
        "    3        3        2  softmax                     8",
    ]
