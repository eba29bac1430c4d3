"""The recipes keep what their articles promise, and run as commands."""

import csv
import importlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import cli
from fastnn.history import History
from fastnn.network.loading import load_kernels
from fastnn.recipes import RECIPES, breast_cancer, console, digits, moons, options, plain_numpy, xor
from fastnn.training import progress
from tests.oracle import assert_close, network_depth

ROOT = Path(__file__).parents[2]
MNIST = Path(os.environ.get("FASTNN_MNIST", ROOT.parent / "shared/data/mnist-test"))


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_recipes_are_those_of_the_articles(capsys):
    assert [*RECIPES] == ["xor", "moons", "breast-cancer", "digits"]
    assert cli.main(["recipe"]) == 0
    assert capsys.readouterr().out.split() == [*RECIPES]
    for module in RECIPES.values():
        assert callable(importlib.import_module(f"fastnn.recipes.{module}").main)


# What the articles promise


@pytest.mark.parametrize("truth", ["xor", "nand"])
def test_xor_falls_monotonically_to_the_truth(truth):
    net, history = xor.train(truth, seed=0)
    assert net.biases == ()
    assert history.epochs == 1500
    assert (np.diff(history.loss) < 0).all()
    expected = {"xor": [0, 1, 1, 0], "nand": [1, 1, 1, 0]}[truth]
    assert np.abs(net.predict(xor.INPUTS)[:, 0] - expected).max() < 0.05


def test_moons_are_told_apart():
    accuracies = []
    for seed in (42, 43, 44):
        X, X_test, y, y_test = moons.split(seed)
        assert (len(X), len(X_test)) == (900, 100)
        net, history, snapshots = moons.train(X, y, seed)
        assert net.layers == (2, 25, 50, 50, 25, 1)
        assert history.epochs == 10_000
        assert (min(snapshots.parameters), max(snapshots.parameters)) == (1, 10_000)
        np.testing.assert_array_equal(snapshots.parameters[10_000], net.parameters)
        accuracies.append(net.evaluate(X_test, y_test)["accuracy"])
    assert np.mean(accuracies) >= 0.97


def test_plain_numpy_has_the_same_gradients():
    random = np.random.default_rng(0)
    X, y = random.standard_normal((40, 2)), random.integers(0, 2, 40)
    parameters = plain_numpy.initial(moons.ARCHITECTURE, seed=0)
    net = fastnn.MLP.from_architecture(moons.ARCHITECTURE, dtype="float64")
    for n in range(5):
        net.weights[n][...] = parameters[f"w{n}"].T
        net.biases[n][...] = parameters[f"b{n}"][:, 0]
    outputs, memory = plain_numpy.forward(moons.ARCHITECTURE, parameters, X.T)
    gradients = plain_numpy.backward(moons.ARCHITECTURE, parameters, memory, outputs, y[None, :])
    loss, dws, dbs, _ = net.loss_and_gradients(X, y)

    depth = network_depth(net.layers, len(X))
    assert_close(np.float64(plain_numpy.cross_entropy(outputs, y[None, :])), loss, "float64", depth)
    for n in range(5):
        assert_close(dws[n], gradients[f"w{n}"].T, "float64", depth)
        assert_close(dbs[n], gradients[f"b{n}"][:, 0], "float64", depth)
    assert plain_numpy.accuracy(outputs, y[None, :]) == net.evaluate(X, y)["accuracy"]


def test_plain_numpy_learns():
    X, X_test, y, y_test = moons.split(42)
    parameters, losses = plain_numpy.train(moons.ARCHITECTURE, X.T, y[None, :], 500, 0.5, seed=0)
    assert losses[-1] < losses[0] / 2
    outputs, _ = plain_numpy.forward(moons.ARCHITECTURE, parameters, X_test.T)
    assert plain_numpy.accuracy(outputs, y_test[None, :]) > 0.8


def test_breast_cancer_is_recognised_when_standardised():
    rows = breast_cancer.split(seed=0)
    (X, y), (X_test, y_test) = rows["standardised"]
    assert (len(y), len(y_test)) == (456, 113)
    assert y.mean() == pytest.approx(y_test.mean(), abs=0.01)
    np.testing.assert_allclose([X.mean(axis=0), X.std(axis=0)], [[0] * 30, [1] * 30], atol=1e-12)
    net, _ = breast_cancer.train(rows["standardised"], "Adam", "He", seed=0)
    assert net.evaluate(X_test, y_test)["accuracy"] >= 0.95


def test_the_classification_report_is_that_of_scikit_learn():
    from sklearn.metrics import precision_recall_fscore_support

    y, predicted = np.random.default_rng(0).random((2, 200)) < 0.4
    lines = [line.split() for line in breast_cancer.report(y, predicted).splitlines()[1:]]
    for (name, *values), label in zip(lines, (True, False), strict=True):
        expected = [column[0] for column in precision_recall_fscore_support(y, predicted, labels=[label])]
        assert name == ("malignant" if label else "benign")
        assert [float(value) for value in values] == pytest.approx(expected, abs=5e-4)


def test_digits_are_mended_step_by_step():
    held = digits.load(None, seed=0)
    assert held.X.shape == (1438, 64)
    assert held.X_test.shape == (359, 64)
    naive, he, fewer, mended = (digits.run(step, held, seed=0) for step in digits.STEPS)

    assert naive.norms[0] < 0.1 * naive.norms[-1]  # the gradient vanishes on its way to the first layer
    assert naive.norms[0] < 1e-3 * he.norms[0]
    assert naive.history.loss[-1] == pytest.approx(np.log(10), abs=0.01)  # no better than guessing
    assert naive.accuracy < 0.2
    assert min(he.norms) > 0.1
    assert he.accuracy > 0.9
    assert fewer.net.n_parameters < he.net.n_parameters / 5
    assert fewer.accuracy > 0.9
    assert (mended.net.output, fewer.net.output) == ("sigmoid", "softmax")
    assert mended.accuracy >= 0.97
    for outcome in (naive, he, fewer, mended):
        assert len(outcome.seconds) == len(outcome.history.loss) == 30
        assert (np.diff(outcome.seconds) > 0).all()


@pytest.mark.skipif(not MNIST.is_dir(), reason="no folder of MNIST's IDX files; name one in FASTNN_MNIST")
def test_digits_of_mnist():
    held = digits.load(str(MNIST), seed=0)
    assert held.X.shape == (5000, 400)
    assert held.X_test.shape[0] >= 5000
    assert digits.run(digits.STEPS[-1], held, seed=0).accuracy >= 0.95


# As commands


@pytest.fixture
def short(monkeypatch):
    """Every recipe for a few epochs, and none of the peers."""
    monkeypatch.setattr(xor, "ITERATIONS", 5)
    for recipe in (moons, breast_cancer, digits):
        monkeypatch.setattr(recipe, "EPOCHS", 5)
    monkeypatch.setattr(moons, "NUMPY_EPOCHS", 2)
    for name in ("keras", "torch"):
        monkeypatch.setitem(sys.modules, name, None)


PICTURES = {
    "xor": ["xor.png"],
    "moons": ["moons-accuracy.png", "moons-loss.png", "moons.gif", "moons.png"],
    "breast-cancer": ["breast-cancer-accuracy.png", "breast-cancer-loss.png"],
    "digits": ["digits-cost.png", "digits-gradients.png", "digits-wrong.png"],
}
RUNS = {"xor": 1, "moons": 3, "breast-cancer": 12, "digits": 4}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_writes_what_it_is_asked_for_and_says_where(name, short, capsys):
    options = ["--plot", "pictures", "--metrics", "metrics.csv", "--seed", "7", "--threads", "1"]
    assert cli.main(["recipe", name, *options]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert sorted(path.name for path in Path("pictures").iterdir()) == PICTURES[name]
    for path in ["metrics.csv", *(f"pictures/{picture}" for picture in PICTURES[name])]:
        assert f"  written    {path}\n" in out
    rows = rows_of("metrics.csv")
    assert len(rows) == 5 * RUNS[name]
    assert len({row["run"] for row in rows}) == RUNS[name]
    assert all(np.isfinite(float(row["loss"])) for row in rows)
    assert "1 thread\n" in out or "1 thread;" in out
    assert "2 threads" not in out


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_writes_nothing_unasked(name, short, capsys):
    assert cli.main(["recipe", name]) == 0
    assert "  written    " not in capsys.readouterr().out
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_is_the_same_run_with_any_number_of_threads(name, short):
    for threads in "12":
        assert cli.main(["recipe", name, "--metrics", f"{threads}.csv", "--threads", threads]) == 0
    assert Path("1.csv").read_bytes() == Path("2.csv").read_bytes()
    assert cli.main(["recipe", name, "--metrics", "other.csv", "--seed", "8"]) == 0
    assert Path("other.csv").read_bytes() != Path("1.csv").read_bytes()


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_compiles_is_said_before(name, short, monkeypatch):
    said, unsaid = set(), set()

    def load(engine, say, needs):
        X, target, _ = needs.gathered
        found = {("loss", needs.loss), ("update", needs.update), ("data", X), ("target", target)}
        if say is progress.line:
            said.update(found)
        else:
            unsaid.update(found - said)
        return load_kernels(engine, say, needs)

    monkeypatch.setattr("fastnn.network.base.load_kernels", load)
    assert cli.main(["recipe", name]) == 0
    assert {kind for kind, _ in said} == {"loss", "update", "data", "target"}
    assert unsaid == set()


def test_a_missing_peer_is_said(short, capsys):
    assert cli.main(["recipe", "moons"]) == 0
    out = capsys.readouterr().out
    assert "  Keras      not timed: Keras cannot be imported" in out
    assert "extrapolated from the fastest of 3 runs of 2 epochs" in out
    assert cli.main(["recipe", "moons", "--full"]) == 0
    assert "extrapolated" not in capsys.readouterr().out
    assert cli.main(["recipe", "breast-cancer"]) == 0
    assert "  PyTorch    not timed: PyTorch cannot be imported" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("xor --metrics nowhere/m.csv", "nowhere/m.csv: there is no folder HERE/nowhere"),
        ("digits --data .", ".: no train-images* or t10k-images* file of MNIST's in this folder"),
        ("digits --data few.npz", "few.npz: expected more than 5000 images of 28x28 pixels and their labels"),
        ("digits --data iris", "iris: expected more than 5000 images of 28x28 pixels and their labels"),
    ],
)
def test_errors_are_one_line(argv, message, capsys):
    np.savez("few.npz", X=np.zeros((5000, 784), np.uint8), y=np.arange(5000) % 10)
    assert cli.main(["recipe", *argv.split()]) == 2
    assert capsys.readouterr().err == f"fastnn: error: {message}\n".replace("HERE", os.path.realpath("."))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("xor --truth or", "argument --truth: invalid choice: 'or'"),
        ("digits --threads 0", "argument --threads: expected a whole number of at least 1, got '0'"),
        ("moons --seed x", "argument --seed: expected a whole number of at least 0, got 'x'"),
    ],
)
def test_wrong_arguments_are_one_line(argv, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["recipe", *argv.split()])
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fastnn: error: {message}")
    assert f"(see fastnn recipe {argv.split()[0]} --help)" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", RECIPES)
def test_help_names_the_common_options(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["recipe", name, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: fastnn recipe {name}")
    assert all(option in out for option in ("--plot DIR", "--metrics FILE.csv", "--seed N", "--threads N"))


def test_without_scikit_learn_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for module in [name for name in sys.modules if name.startswith("sklearn.")]:
        monkeypatch.delitem(sys.modules, module)
    for name in ("moons", "breast-cancer", "digits"):
        assert cli.main(["recipe", name]) == 2
        assert 'needs scikit-learn: pip install "fastnn-numba[recipes]"' in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:Training interrupted by user")
def test_ctrl_c_ends_a_recipe(short, monkeypatch, capsys):
    def interrupt(self, model, epoch, logs):
        raise KeyboardInterrupt

    monkeypatch.setattr(console.Watch, "on_epoch_end", interrupt)
    for name in RECIPES:
        assert cli.main(["recipe", name]) == 130
        assert "fastnn: interrupted" in capsys.readouterr().err


# What they share


def test_metrics_of_several_runs_share_a_table():
    runs = {"a": History({"loss": [3.0, 2.0]}), "b": History({"loss": [1.0], "accuracy": [0.5]})}
    options.write_metrics("m.csv", runs)
    assert Path("m.csv").read_text().splitlines() == ["run,epoch,loss,accuracy", "a,0,3.0,", "a,1,2.0,", "b,0,1.0,0.5"]


def test_a_curve_is_as_high_as_its_values():
    assert console.curve([8.0, 6.0, 4.0, 1.0, 0.0]) == "█▇▅▂▁"
    assert console.curve([1.0, float("nan"), float("inf"), 0.5]) == "███▅"
    assert console.curve([0.0, 0.0]) == "▁▁"

    assert len(console.curve(range(1000), width=10)) == 10


def test_a_level_on_a_logarithmic_scale():
    levels = [console.on_log_scale(value, 1e-4, 1e4) for value in (0, 1e-9, 1e-4, 1, 9e3, 1e9, float("nan"))]
    assert levels == ["▁", "▁", "▁", "▅", "█", "█", "█"]


def test_images_keep_their_proportions():
    assert console.image(np.array([[0.0, 0.3], [0.7, 1.0]])) == ["  ░░", "▓▓██"]
    large = np.zeros((20, 20))
    large[4:6] = 1
    lines = console.image(large)
    assert [len(line) for line in lines] == [20] * 10
    assert [n for n, line in enumerate(lines) if line.strip()] == [2]


def test_a_terminal_without_unicode_gets_ascii(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="ascii") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        assert console.curve([8.0, 4.0, 0.0]) == "#+_"
        assert console.image(np.array([[0.0, 1.0]])) == ["  ##"]


def test_headings_are_bold_on_a_terminal_alone(monkeypatch, capsys):
    console.heading("a")
    assert capsys.readouterr().out == "\na\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    console.heading("a")
    assert capsys.readouterr().out == "\n\033[1ma\033[0m\n"
    monkeypatch.setenv("NO_COLOR", "1")
    console.heading("a")
    assert capsys.readouterr().out == "\na\n"


def test_the_bar_is_shown_on_a_terminal_and_wiped(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    watch = console.Watch("xor", 3)
    assert "0/3" in capsys.readouterr().err
    watch.on_train_begin(None)
    for epoch in range(3):
        watch.on_epoch_end(None, epoch, {})
    watch.on_train_end(None)
    assert capsys.readouterr().err.endswith("\r")
    assert len(watch.seconds) == 3


def test_the_clock_runs_without_tqdm(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    watch = console.Watch("xor", 1)
    watch.on_train_begin(None)
    watch.on_epoch_end(None, 0, {})
    watch.on_train_end(None)
    assert len(watch.seconds) == 1
    assert capsys.readouterr().err == ""
