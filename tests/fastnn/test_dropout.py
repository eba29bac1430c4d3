"""MLP(dropout=...): training drops by the network's seed and its own count of steps; nothing else does."""

import pickle

import numpy as np
import pytest

import fastnn
from fastnn import MLP, SGD, Adam, profile
from fastnn.files import formats
from kernels import reference
from tests.oracle import assert_close, network_depth, random_arrays, random_labels

X = random_arrays(1, (50, 6), dtype=np.float32)[0]
Y = random_labels(2, 50, 3)
QUIET = {"progress": False, "shuffle": False}


def make(dropout=0.5, seed=3, **options):
    return MLP([6, 20, 10, 3], "tanh", dropout=dropout, seed=seed, **options)


def test_a_step_is_that_of_the_reference_and_each_step_is_numbered():
    net = make([0.5, 0.2], dtype="float64")
    x = X.astype(np.float64)
    for step in range(4):
        factors = [
            reference.dropout_factors(rate, 3, n, step, 50, net.layers[n + 1]) for n, rate in enumerate((0.5, 0.2))
        ]
        weights, biases = [w.copy() for w in net.weights], [b.copy() for b in net.biases]
        loss, dws, dbs, _ = reference.network_loss_and_gradients(
            x, Y, weights, biases, net.activations, "softmax", factors=factors
        )
        if step < 2:  # two trainings, and two steps of one: all are counted on
            logs = {"loss": net.fit(x, Y, 1, 50, SGD(0.1), **QUIET).loss[0]}
        else:
            logs = net.train_on_batch(x, Y, SGD(0.1))
        depth = network_depth(net.layers, 50)
        assert_close(np.array([logs["loss"]]), np.array([loss]), "float64", depth)
        for actual, before, gradient in zip(
            [*net.weights, *net.biases], [*weights, *biases], [*dws, *dbs], strict=True
        ):
            assert_close(actual, before - 0.1 * gradient, "float64", depth)


def test_the_same_seed_and_any_number_of_threads_give_the_same_bits():
    trained = [make(threads=threads) for threads in (1, 2)] + [make(seed=4), make(0.0)]
    for net in trained:
        net.fit(X, Y, 3, 7, progress=False)
    np.testing.assert_array_equal(trained[0].parameters, trained[1].parameters)
    assert not np.array_equal(trained[0].parameters, trained[2].parameters)
    assert not np.array_equal(trained[0].parameters, trained[3].parameters)


def test_a_seed_means_the_same_first_weights_and_order_with_and_without():
    nets = [make(0.0), make(0.5)]
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    for net in nets:
        net.fit(X, Y, 1, progress=False)
    assert nets[0].random.bit_generator.state == nets[1].random.bit_generator.state
    assert MLP([1, 2]).noise.seed != MLP([1, 2]).noise.seed


def test_what_is_not_training_drops_nothing():
    net, plain = make(), make(0.0)
    net.fit(X, Y, 2, progress=False)
    plain.parameters[...] = net.parameters
    np.testing.assert_array_equal(net.predict(X), plain.predict(X))
    assert net.evaluate(X, Y) == plain.evaluate(X, Y)
    for one, other in zip(net.loss_and_gradients(X, Y)[1], plain.loss_and_gradients(X, Y)[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_network_of_its_own_seed_learns_and_generalises_with_dropout():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 10)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    net = MLP([10, 64, 64, 2], dropout=0.2, seed=0)
    history = net.fit(x[:300], y[:300], 60, 30, Adam(3e-3), progress=False)
    assert history.loss[-1] < 0.5 * history.loss[0]
    assert net.evaluate(x[300:], y[300:])["accuracy"] > 0.8


def test_a_copy_goes_on_with_the_same_bits():
    net = make()
    net.fit(X, Y, 2, progress=False)
    copy = pickle.loads(pickle.dumps(net))
    for each in (net, copy):
        each.fit(X, Y, 2, progress=False)
    np.testing.assert_array_equal(copy.parameters, net.parameters)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_keep_it(tmp_path, suffix):
    for dropout, expected in ((0.5, (0.5, 0.5)), ([0.0, 0.25], (0.0, 0.25))):
        make(dropout).save(tmp_path / f"net{suffix}")
        assert fastnn.load(tmp_path / f"net{suffix}").dropout == expected


def test_a_file_from_before_there_was_dropout_has_none(tmp_path):
    net = make(0.0)
    architecture = {name: getattr(net, name) for name in ("layers", "activations", "output", "bias", "dtype")}
    arrays = {f"w{n}": w for n, w in enumerate(net.weights)} | {f"b{n}": b for n, b in enumerate(net.biases)}
    formats.save_arrays(tmp_path / "old.npz", arrays, {"architecture": architecture, "user": {}})
    assert fastnn.load(tmp_path / "old.npz").dropout == (0.0, 0.0)


def test_the_articles_form():
    layers = [
        {"input_dim": 6, "output_dim": 20, "activation": "relu", "dropout": 0.5},
        {"input_dim": 20, "output_dim": 10, "activation": "relu"},
        {"input_dim": 10, "output_dim": 3, "activation": "softmax"},
    ]
    assert MLP.from_architecture(layers).dropout == (0.5, 0.0)
    assert MLP.from_architecture(layers, dropout=0.1).dropout == (0.1, 0.1)
    layers[-1]["dropout"] = 0.5
    with pytest.raises(ValueError, match=r"architecture\[-1\] must have no dropout, for it is the output, got 0.5"):
        MLP.from_architecture(layers)


def test_it_is_said(capsys):
    make([0.5, 0.0]).summary()
    assert capsys.readouterr().out.endswith("on the cpu\ndropout of hidden layers: 0.5, 0\n")
    assert "dropout=0.5" in repr(make())
    for net in (make(), make([0.5, 0.0])):
        assert eval(repr(net)).dropout == net.dropout
    assert "dropout" not in repr(make(0.0))


@pytest.mark.parametrize(
    ("dropout", "error", "message"),
    [(1.0, ValueError, "dropout must be .*got 1.0"), (-0.1, ValueError, "dropout must be .*got -0.1"),
     (float("nan"), ValueError, "dropout must be .*got nan"), ("half", TypeError, "dropout must be .*got 'half'"),
     ([0.5], ValueError, r"dropout must be one rate or one per hidden layer \(2\), got \[0.5\]"),
     ([0.5, 2], ValueError, "dropout must be .*got 2"), (None, TypeError, "dropout must be .*got None")],
    ids=str,
)  # fmt: skip
def test_what_is_wrong_is_said(dropout, error, message):
    with pytest.raises(error, match=message):
        make(dropout)


def test_profile_counts_it_and_leaves_the_model_as_it_is(monkeypatch):
    monkeypatch.setattr(profile, "SECONDS", 0.0)
    monkeypatch.setattr(profile, "ROUND_SECONDS", 1e-9)
    net, other = MLP([6, 4, 3], dropout=0.5, seed=0), MLP([6, 4, 3], seed=0)
    rows, plain = ({(row.layer, row.phase): row for row in each.profile(X, Y, 10).rows} for each in (net, other))
    assert net.noise.step == 0
    assert (1, "activation") not in plain
    assert (rows[1, "activation"].operations, rows[1, "activation"].bytes) == (40, 2 * 4 * 40)
    assert rows[1, "derivative"].operations == plain[1, "derivative"].operations + 40
