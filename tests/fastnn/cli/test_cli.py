import csv
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import cli, optimizers
from fastnn.cli.commands import COMMANDS
from fastnn.files import formats
from fastnn.history import History
from kernels import devices
from kernels.losses import names_for
from tests.programs import CTRL_C, PATIENCE, environment


class LinearModel:
    """Stands in for MLP where a test is about the command line: least squares in one step, and what it was told."""

    interrupt = False

    def __init__(self, layers, **options):
        self.layers, self.options, self.metadata = layers, options, {}
        self.output, self.precision = options["output"], options.get("precision", "float32")
        self.n_parameters = 15
        LinearModel.last = self

    def fit(self, X, y, **options):
        self.X, self.y, self.fit_options = X, y, options
        wanted = np.eye(self.layers[-1])[y] if y.ndim == 1 else y
        self.weights = np.linalg.lstsq(np.c_[X, np.ones(len(X))], wanted, rcond=None)[0]
        history = History(seconds=0.5, compile_seconds=1.25, threads=2)
        history.append({"loss": 2.0, "val_loss": 3.0, "learning_rate": 0.1})
        if LinearModel.interrupt:
            warnings.warn("training was interrupted", stacklevel=1)
            history.interrupted = True
        return history

    def predict(self, X):
        return (np.c_[X, np.ones(len(X))] @ self.weights).astype(np.float32)

    def evaluate(self, X, y, loss):
        self.evaluated = loss
        if y.ndim == 1:
            return {"loss": 0.5, "accuracy": float(np.mean(self.predict(X).argmax(axis=1) == y))}
        return {"loss": float(np.mean((self.predict(X) - y) ** 2)), "r2": 0.5}

    def save(self, path):
        formats.save_arrays(
            path, {"w": self.weights}, {"layers": self.layers, "output": self.output, "more": self.metadata}
        )

    @classmethod
    def load(cls, path, **options):
        arrays, metadata = formats.load_arrays(path)
        model = cls(metadata["layers"], output=metadata["output"], **options)
        model.weights, model.metadata = arrays["w"], metadata["more"]
        return model


@pytest.fixture
def linear(monkeypatch, tmp_path):
    """LinearModel in place of MLP, an empty folder as the current one."""
    monkeypatch.setattr(fastnn, "MLP", LinearModel, raising=False)
    monkeypatch.setattr(fastnn, "load", LinearModel.load, raising=False)
    monkeypatch.setattr(LinearModel, "interrupt", False)
    monkeypatch.chdir(tmp_path)
    return LinearModel


def write_kinds(path, n=60, prefix=""):
    """Three kinds that one number and one text tell apart. prefix: of the ids, which are text with it."""
    kinds = ["apple", "pear", "plum"]
    rows = [f"{prefix}{i},{i % 3 + i / 1000:.3f},{'xyz'[i % 3]},{kinds[i % 3]}" for i in range(n)]
    path.write_text("\n".join(["id,size,shape,kind", *rows]) + "\n")


def write_prices(path, n=60):
    path.write_text("size,price\n" + "".join(f"{i},{100 * i + 7.5}\n" for i in range(n)))


def error_of(capsys, *argv):
    """The message of a command that must fail with exit code 2, one line on stderr and nothing on stdout."""
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"fastnn: error: [^\n]+\n", err)
    return err.removeprefix("fastnn: error: ").rstrip()


def table_of(text):
    return list(csv.reader(io.StringIO(text)))


# train, predict, evaluate


def test_classes_from_training_to_new_rows(linear, capsys):
    write_kinds(Path("kinds.csv"))
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in (
        "kinds.csv: 60 rows, 2 columns (1 of numbers, 1 of text)",
        "classification of 'kind', 3 classes: 'apple', 'pear', 'plum'\n",
        "4, numbers standardised, text one-hot encoded",
        "4 -> 64 relu -> 64 relu -> 3 softmax, 15 parameters",
        "10 % of the rows held out; up to 100 epochs, batches of 32, adam at 0.001",
        "train       loss 0.5, accuracy 1\n",
        "validation  loss 0.5, accuracy 1\n",
        "1 epochs in 0.5 s, 108 rows/s on cpu, 2 threads, and 1.2 s of compiling",
        "saved       kinds.fastnn.npz",
        "next        fastnn predict kinds.fastnn.npz NEW.csv",
    ):
        assert part in out
    assert linear.last.layers == [4, 64, 64, 3]

    Path("new.csv").write_text("shape,more,size\ny,?,1.01\nx,?,0.01\nz,?,\n")
    assert cli.main(["predict", "kinds.fastnn.npz", "new.csv"]) == 0
    assert capsys.readouterr().out == "kind\npear\napple\nplum\n"

    assert cli.main(["predict", "kinds.fastnn.npz", "new.csv", "--proba", "--output", "p.csv"]) == 0
    header, *rows = table_of(Path("p.csv").read_text())
    assert header == ["kind", "probability_apple", "probability_pear", "probability_plum"]
    for name, *numbers in rows:
        assert header[1 + np.argmax(np.array(numbers, float))] == f"probability_{name}"

    assert cli.main(["evaluate", "kinds.fastnn.npz", "kinds.csv"]) == 0
    assert capsys.readouterr().out == "data        kinds.csv: 60 rows\nmetrics     loss 0.5, accuracy 1\n"


def test_numbers_come_back_in_their_own_units(linear, capsys):
    write_prices(Path("prices.csv"))
    assert cli.main(["train", "prices.csv", "--target", "price", "--output", "m.npz"]) == 0
    out = capsys.readouterr().out
    assert "task        regression of 'price'\n" in out
    assert "1 identity" in out
    assert abs(linear.last.y.mean()) < 0.1
    Path("new.csv").write_text("size\n10\n1000\n")
    assert cli.main(["predict", "m.npz", "new.csv"]) == 0
    (name,), *rows = table_of(capsys.readouterr().out)
    assert name == "price"
    np.testing.assert_allclose(np.array(rows, float)[:, 0], [1007.5, 100007.5], rtol=1e-5)
    assert cli.main(["evaluate", "m.npz", "prices.csv"]) == 0
    rmse = float(re.search(r"rmse (\S+)", capsys.readouterr().out)[1])
    assert rmse < 0.01  # of prices up to 6000: the rounding of float32
    assert error_of(capsys, "predict", "m.npz", "new.csv", "--proba") == "--proba: a regression has no probabilities"


def test_several_outputs_have_a_column_each(linear, capsys):
    X = np.random.default_rng(0).normal(size=(40, 3))
    np.savez("d.npz", X=X, y=X @ np.arange(6.0).reshape(3, 2))
    assert cli.main(["train", "d.npz"]) == 0
    capsys.readouterr()
    assert cli.main(["predict", "d.fastnn.npz", "d.npz"]) == 0
    header, *rows = table_of(capsys.readouterr().out)
    assert header == ["y_0", "y_1"]
    np.testing.assert_allclose(np.array(rows, float), X @ np.arange(6.0).reshape(3, 2), atol=1e-4)


def test_bytes_are_scaled_whatever_file_they_come_from(linear, capsys):
    X = np.random.default_rng(0).integers(0, 256, (50, 4, 2), np.uint8)
    y = X[:, 0, 0] // 128
    np.savez("d.npz", X=X, y=y)
    np.save("X.npy", X)
    np.save("y.npy", y)
    found = []
    for data in (["d.npz"], ["X.npy", "y.npy"]):
        assert cli.main(["train", *data, "--output", "m.npz"]) == 0
        assert "8, bytes divided by 255" in capsys.readouterr().out
        found.append(linear.last.X)
        assert cli.main(["predict", "m.npz", data[0]]) == 0
        found.append(capsys.readouterr().out)
    np.testing.assert_array_equal(found[0], found[2])
    assert found[1] == found[3]
    assert found[0].max() == 1
    assert cli.main(["train", "X.npy", "y.npy", "--no-scaling"]) == 0
    assert "8, memory-mapped, taken as they are" in capsys.readouterr().out
    assert isinstance(linear.last.X, np.memmap)


def test_memory_mapped_inputs_are_passed_on_as_they_are(linear, capsys):
    X = np.random.default_rng(0).normal(size=(50, 3))
    np.save("X.npy", X)
    np.save("y.npy", (X[:, 0] > 0).astype(np.int64))
    assert cli.main(["train", "X.npy", "y.npy"]) == 0
    assert isinstance(linear.last.X, np.memmap)
    assert linear.last.X.dtype == np.float64
    out = capsys.readouterr().out
    assert "memory-mapped, taken as they are" in out
    assert linear.last.fit_options["validation_split"] == 0.1
    assert "all rows    loss 0.5, accuracy" in out
    assert "validation  loss 3\n" in out
    assert "next        fastnn predict X.fastnn.npz NEW.npy" in out
    assert cli.main(["evaluate", "X.fastnn.npz", "X.npy", "y.npy"]) == 0


def test_labels_come_back_as_they_are_written(linear, capsys):
    codes = ["-0", "007", "1.50"]
    Path("codes.csv").write_text("size,code\n" + "".join(f"{i % 3},{codes[i % 3]}\n" for i in range(60)))
    assert cli.main(["train", "codes.csv", "--target", "code", "--task", "classification"]) == 0
    assert "3 classes: '-0', '1.50', '007'\n" in capsys.readouterr().out
    Path("new.csv").write_text("size,code\n1,7\n0,0\n2,1.5\n")
    assert cli.main(["predict", "codes.fastnn.npz", "new.csv", "--proba"]) == 0
    header, *rows = table_of(capsys.readouterr().out)
    assert header == ["code", "probability_-0", "probability_1.50", "probability_007"]
    assert linear.last.predict(np.array([[1.0], [0.0], [2.0]])).shape == (3, 3)
    assert {row[0] for row in rows} <= set(codes)
    assert rows[0][0] == header[1 + np.argmax(np.array(rows[0][1:], float))].removeprefix("probability_")
    assert cli.main(["evaluate", "codes.fastnn.npz", "new.csv"]) == 0  # the same numbers


@pytest.mark.parametrize(("data", "place"), [("new.csv", "new.csv: line 4"), ("new.npz", "new.npz: row 1")])
def test_outputs_that_are_not_finite_are_no_prediction(linear, capsys, monkeypatch, data, place):
    write_kinds(Path("kinds.csv"))
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id,shape"]) == 0
    capsys.readouterr()
    Path("new.csv").write_text("size\n1\n\n2\n3\n")
    np.savez("new.npz", X=np.arange(1.0, 4.0).reshape(3, 1))
    monkeypatch.setattr(LinearModel, "predict", lambda self, X: np.array([[1, 0, 0], [1, np.nan, 0], [np.nan, 0, 1]]))
    message = error_of(capsys, "predict", "kinds.fastnn.npz", data, "--output", "p.csv")
    assert message.startswith(f"{place}: the network's output is nan: the row's numbers are too large for it, or")
    assert not Path("p.csv").exists()


@pytest.mark.filterwarnings("default:.* far from 1")
def test_a_memory_map_far_from_one_is_warned_of(linear, capsys):
    def train(X, *options):
        np.save("X.npy", X)
        np.save("y.npy", X[:, 0] > X[:, 0].mean())
        np.savez("d.npz", X=X, y=X[:, 0] > X[:, 0].mean())
        found = []
        for data in (["X.npy", "y.npy"], ["d.npz"]):
            assert cli.main(["train", *data, *options, "--output", "m.npz"]) == 0
            found.append(capsys.readouterr().err)
        assert found[1] == ""
        return found[0]

    X = np.random.default_rng(0).normal(size=(50, 3))
    assert re.fullmatch(r"fastnn: warning: X.npy: [^\n]* far from 1: scale [^\n]* in one .npz[^\n]*\n", train(300 * X))
    assert train(X) == train(300 * X, "--no-scaling") == train(np.abs(50 * X).astype(np.uint8)) == ""


def test_the_share_held_out_of_a_memory_map_is_that_of_a_table(linear):
    np.save("X.npy", np.random.default_rng(0).normal(size=(50, 3)))
    np.save("y.npy", np.arange(50) % 2)
    for share, expected in (("0.999", 49 / 50), ("0.15", 7 / 50), ("0.01", 0.0)):
        assert cli.main(["train", "X.npy", "y.npy", "--validation", share]) == 0
        assert linear.last.fit_options.get("validation_split", 0.0) == expected


def test_prediction_goes_block_by_block(linear, capsys, monkeypatch):
    monkeypatch.setattr("fastnn.cli.commands.predict.PREDICT_ROWS", 7)
    write_kinds(Path("kinds.csv"))
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id"]) == 0
    capsys.readouterr()
    assert cli.main(["predict", "kinds.fastnn.npz", "kinds.csv"]) == 0
    assert capsys.readouterr().out.split() == ["kind", *["apple", "pear", "plum"] * 20]


@pytest.mark.filterwarnings("default:.* were not seen in training")
def test_texts_that_training_did_not_see_are_a_line_a_column(linear, capsys, monkeypatch):
    monkeypatch.setattr("fastnn.cli.commands.predict.PREDICT_ROWS", 2)
    flags = ["TRUE", "FALSE"]
    rows = [f"{flags[i % 2]},{'xyz'[i % 3]},{i % 2 + 2 * (i % 3)}.5" for i in range(60)]
    Path("a.csv").write_text("\n".join(["flag,shape,y", *rows]) + "\n")
    assert cli.main(["train", "a.csv", "--target", "y", "--output", "m.npz"]) == 0
    assert capsys.readouterr().err == ""
    Path("b.csv").write_text("shape,y,flag\nx,1,True\ny,2,FALSE\nq,3,yes\nz,4,True\n,5,TRUE\n")
    expected = [
        "column 'flag': 3 of 5 values were not seen in training, 'True' say, and count as none of 'FALSE', 'TRUE'",
        "column 'shape': 2 of 5 values were not seen in training, 'q' say, and count as none of 'x', 'y', 'z'",
    ]
    for command in ("predict", "evaluate"):
        assert cli.main([command, "m.npz", "b.csv"]) == 0
        assert capsys.readouterr().err == "".join(f"fastnn: warning: b.csv: {line}\n" for line in expected)
    Path("c.csv").write_text("shape,y,flag\nx,1,TRUE\n")
    assert cli.main(["predict", "m.npz", "c.csv"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.filterwarnings("default:.* were not seen in training", "default:.* among those to learn from")
def test_texts_and_classes_that_are_all_held_out_are_warned_of(linear, capsys):
    kinds = ["a"] * 10 + ["b"] * 9 + ["c"]
    Path("a.csv").write_text("shape,kind\n" + "".join(f"{kind.upper()},{kind}\n" for kind in kinds))
    assert cli.main(["train", "a.csv", "--target", "kind", "--validation", "0.5"]) == 0
    assert capsys.readouterr().err == (
        "fastnn: warning: target 'kind': no row of class 'c' is among those to learn from\n"
        "fastnn: warning: a.csv: column 'shape': 1 of 10 values were not seen in training, 'C' say, and count as none "
        "of 'A', 'B'\n"
    )


@pytest.mark.filterwarnings("default:.* the model is worse than")
@pytest.mark.parametrize(("options", "r2", "rows", "advice"), [
    ([], {True: -0.5, False: 0.5}, "the rows learnt from", "more --epochs or another --learning-rate"),
    ([], {True: 0.5, False: -0.5}, "the 6 rows held out", "--early-stopping 10, --l2 0.001, "),
    (["--early-stopping", "3"], {True: 0.5, False: -0.5}, "the 6 rows held out", "--l2 0.001, "),
    ([], {True: -0.5, False: -0.5}, "the rows learnt from", "more --epochs"),
    (["--validation", "0"], {True: -0.5}, "the rows learnt from", "more --epochs"),
    ([], {True: 0.5, False: 0.5}, None, None), (["--validation", "0"], {True: 0.5}, None, None),
])  # fmt: skip
def test_a_model_that_is_worse_than_the_mean_says_so(linear, capsys, monkeypatch, options, r2, rows, advice):
    def evaluate(self, X, y, loss):
        value = r2[len(y) == len(self.y)]
        return {"loss": float((1 - value) * np.mean((y - self.y.mean()) ** 2)), "r2": value}

    monkeypatch.setattr(LinearModel, "evaluate", evaluate)
    write_prices(Path("prices.csv"))
    assert cli.main(["train", "prices.csv", "--target", "price", *options]) == 0
    err = capsys.readouterr().err
    said = f"fastnn: warning: on {rows} the model is worse than always saying the mean: loss "
    assert err.startswith(said) if rows else err == ""
    assert err.count("\n") == bool(rows)
    assert not rows or f"; try {advice}" in err


@pytest.mark.filterwarnings("default:.* the model is worse than")
def test_a_memory_map_whose_rows_held_out_are_worse_than_their_mean(linear, capsys, monkeypatch):
    def train(r2, *options):
        fit = LinearModel.fit

        def worse(self, *args, **more):
            history = fit(self, *args, **more)
            history.metrics["val_r2"] = [r2]
            return history

        with monkeypatch.context() as patch:
            patch.setattr(LinearModel, "fit", worse)
            assert cli.main(["train", "X.npy", "y.npy", *options]) == 0
        return capsys.readouterr().err

    X = np.random.default_rng(0).normal(size=(50, 3))
    np.save("X.npy", X)
    np.save("y.npy", X[:, 0])
    said = "on the rows held out the model is worse than always saying their mean: r2 -0.25 against 0; try"
    assert train(-0.25).startswith(f"fastnn: warning: {said} --early-stopping 10")
    assert train(0.25) == train(-0.25, "--loss", "quantile:0.9") == ""


def test_options_reach_the_model(linear, capsys):
    write_kinds(Path("kinds.csv"))
    options = (
        "--layers 8,4 --activation tanh --epochs 7 --batch-size 5 --optimizer sgd --learning-rate 0.5 --l2 0.25 "
        "--validation 0.5 --seed 3 --threads 1 --device cpu --norm batch --dropout 0.25 --early-stopping 4 "
        "--metrics m.csv --no-scaling"
    )
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id", *options.split()]) == 0
    model = linear.last
    assert model.layers == [4, 8, 4, 3]
    assert model.options == {
        "activation": "tanh", "norm": "batch", "dropout": 0.25, "output": "softmax", "device": "cpu",
        "precision": "float32", "threads": 1, "seed": 3,
    }  # fmt: skip
    assert "15 parameters, batch norm, dropout 0.25\n" in capsys.readouterr().out
    fit = model.fit_options
    assert (fit["epochs"], fit["batch_size"], fit["l2"]) == (7, 5, 0.25)
    assert fit["optimizer"] == fastnn.optimizers.SGD(0.5)
    assert len(fit["validation_data"][1]) == len(model.y) == 30
    assert [type(callback).__name__ for callback in fit["callbacks"]] == ["EarlyStopping", "CSVLogger"]
    assert fit["callbacks"][0].patience == 4
    assert 0 < model.X[:, 0].mean() < 2  # sizes as they are


@pytest.mark.parametrize(
    ("given", "loss", "said"),
    [("huber:0.5", ("huber", 0.5), "adam at 0.001, huber 0.5"), ("huber", ("huber", 1.0), "huber 1"),
     ("absolute_error", "absolute_error", "adam at 0.001, absolute_error"),
     ("quantile:9e-1", ("quantile", 0.9), "adam at 0.001, quantile 0.9")],
)  # fmt: skip
def test_the_loss_is_learnt_saved_and_measured(linear, capsys, given, loss, said):
    write_prices(Path("prices.csv"))
    assert cli.main(["train", "prices.csv", "--target", "price", "--loss", given]) == 0
    assert linear.last.fit_options["loss"] == linear.last.evaluated == loss
    assert f"{said}\n" in capsys.readouterr().out
    assert cli.main(["evaluate", "prices.fastnn.npz", "prices.csv"]) == 0
    assert linear.last.evaluated == (loss if isinstance(loss, str) else [*loss])


@pytest.mark.parametrize(
    ("target", "given", "message"),
    [
        (
            "price",
            "hing",
            r"loss must be one of .* \('quantile', level\), .* for identity outputs, got 'hing'; .*",
        ),
        ("price", "quantile", r"loss must be \('quantile', level\) with level in \(0, 1\), got 'quantile'"),
        ("price", "huber:-1", r"loss: delta must be a finite number in \(0, inf\), got -1.0"),
        ("price", "absolute_error:1", r"loss must be one of .*, got \('absolute_error', 1.0\)"),
        ("kind", "huber", r"loss must be one of .* for softmax outputs, got 'huber'"),
    ],
)
def test_a_loss_that_is_wrong(linear, capsys, target, given, message):
    write_prices(Path("price.csv"))
    write_kinds(Path("kind.csv"))
    argv = ["train", f"{target}.csv", "--target", target, "--loss", given]
    assert re.fullmatch(message, error_of(capsys, *argv, *(["--ignore", "id"] if target == "kind" else [])))


def test_targets_stay_as_they_are_for_a_loss_that_takes_no_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = [f"{x},{1 if x > 3 else -1}" for x in range(12)]
    (tmp_path / "r.csv").write_text("x,t\n" + "\n".join(rows))
    options = ["--task", "regression", "--loss", "hinge", "--epochs", "2", "--device", "cpu"]
    assert cli.main(["train", "r.csv", "--target", "t", *options]) == 0, capsys.readouterr().err
    assert cli.main(["evaluate", "r.fastnn.npz", "r.csv"]) == 0
    metadata = fastnn.load("r.fastnn.npz").metadata["target"]
    assert (metadata["shift"], metadata["scale"]) == ([0.0], [1.0])


def test_a_parameter_of_a_loss_that_is_no_number(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "price.csv", "--loss", "huber:big"])
    assert "argument --loss: expected a number behind the colon, got 'big'" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [
    ["train", ""], ["train", "X.npy", ""], ["train", "a.csv", "--output", ""], ["train", "a.csv", "--metrics", ""],
    ["train", "a.csv", "--plot", ""], ["predict", "", "a.csv"], ["predict", "m.npz", ""], ["evaluate", "m.npz", ""],
    ["predict", "m.npz", "a.csv", "--output", ""], ["evaluate", "", "a.csv"], ["evaluate", "m.npz", "X.npy", ""],
])  # fmt: skip
def test_a_name_of_no_letters_is_no_file(capsys, argv):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    assert stopped.value.code == 2
    assert re.fullmatch(r"fastnn: error: argument .*: expected the name of a file, got ''.*\n", capsys.readouterr().err)


def test_validation_may_be_left_out(linear, capsys):
    write_kinds(Path("kinds.csv"))
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id", "--validation", "0"]) == 0
    assert "validation_data" not in linear.last.fit_options
    out = capsys.readouterr().out
    assert "no rows held out" in out
    assert "validation" not in out
    argv = "train kinds.csv --target kind --ignore id --validation 0 --early-stopping 3"
    message = error_of(capsys, *argv.split())
    assert message == "--early-stopping needs rows to validate on: raise --validation"


def test_plot_draws_each_metric(linear):
    write_prices(Path("prices.csv"))
    assert cli.main(["train", "prices.csv", "--target", "price", "--plot", "a/b"]) == 0
    assert sorted(path.name for path in Path("a/b").iterdir()) == ["loss.png"]
    assert Path("a/b/loss.png").read_bytes().startswith(b"\x89PNG")


def test_task_of_numbers_is_said_and_can_be_changed(linear, capsys):
    Path("d.csv").write_text("a,b\n" + "".join(f"{i % 4 + i / 1000},{i % 4}\n" for i in range(40)))
    assert cli.main(["train", "d.csv", "--target", "b"]) == 0
    assert "4 classes: '0', '1', '2', '3' (--task regression if these are quantities)" in capsys.readouterr().out
    assert cli.main(["train", "d.csv", "--target", "b", "--task", "regression"]) == 0
    assert "regression of 'b'" in capsys.readouterr().out
    # Number classes taken as text are text again when the model is evaluated.
    assert cli.main(["train", "d.csv", "--target", "b", "--text", "b"]) == 0
    assert cli.main(["evaluate", "d.fastnn.npz", "d.csv"]) == 0


# Errors


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("train kinds.csv", "kinds.csv: say what to predict: --target COLUMN, one of 'id', 'size', 'shape', 'kind'"),
        ("train kinds.csv --target sort", "kinds.csv: line 1 has no column 'sort'"),
        ("train kinds.csv --target kind --text id", "kinds.csv: column 'id' has 54 different texts in 54 rows"),
        ("train kinds.csv --target kind --ignore id --text size", "kinds.csv: column 'size' has 54 different texts"),
        ("train nowhere.csv --target kind", "nowhere.csv: no such file or folder"),
        ("train kinds.csv --target kind --task regression", "target 'kind' is text, as 'apple'"),
        ("train kinds.csv --target size --text size --task regression", "--text size: a regression needs numbers"),
        ("train kinds.csv --target kind --output m.txt", "m.txt"),
        ("train kinds.csv --target kind --output nowhere/m.npz", "--output: there is no folder nowhere"),
        ("train kinds.csv --target kind --output folder.npz", "--output: folder.npz is a folder"),
        ("train d.npz --output d.npz", "--output: d.npz is a file that this command reads or writes already"),
        ("train d.npz --metrics d.npz", "--metrics: d.npz is a file that this command reads or writes already"),
        (
            "train d.npz --output m.npz --metrics ./m.npz",
            "--metrics: ./m.npz is a file that this command reads or writes already",
        ),
        ("train d.npz --target y", "--target names columns of a CSV, and d.npz is none"),
        ("train X.npy", "X.npy: name the file of the targets behind it, as in X.npy y.npy"),
        ("train iris --plot kinds.csv", "kinds.csv: File exists"),
        ("predict nowhere.npz kinds.csv", "nowhere.npz: No such file or directory"),
        ("predict foreign.npz kinds.csv", "foreign.npz: does not tell how its inputs were prepared"),
        ("recipe nothing", "no recipe 'nothing': the recipes are one, two"),
    ],
)
def test_errors_are_one_line(linear, recipes, capsys, argv, message):
    write_kinds(Path("kinds.csv"), prefix="n")
    Path("folder.npz").mkdir()
    np.save("X.npy", np.zeros((4, 2)))
    np.savez("d.npz", X=np.zeros((4, 2)), y=np.arange(4) % 2)
    formats.save_arrays("foreign.npz", {"w": np.zeros((2, 1))}, {"layers": [1, 1], "output": "", "more": {}})
    assert message in error_of(capsys, *argv.split())


def test_a_folder_that_cannot_be_written_is_found_before_training(linear, capsys, monkeypatch):
    write_kinds(Path("kinds.csv"))
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    message = error_of(capsys, "train", "kinds.csv", "--target", "kind", "--output", "./m.npz")
    assert message == "--output: no permission to write into the folder ."


def test_what_fails_after_training_does_not_cost_the_model(linear, capsys, monkeypatch):
    def fail(history, folder):
        raise OSError(28, "No space left on device", folder)

    monkeypatch.setattr("fastnn.plots.history", fail)
    write_kinds(Path("kinds.csv"))
    argv = ["train", "kinds.csv", "--target", "kind", "--ignore", "id"]
    assert cli.main([*argv, "--plot", "pictures"]) == 2
    out, err = capsys.readouterr()
    assert err == "fastnn: error: pictures: No space left on device\n"
    assert "saved       kinds.fastnn.npz" in out
    assert cli.main(["evaluate", "kinds.fastnn.npz", "kinds.csv"]) == 0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("trian", "invalid choice: 'trian'"),
        ("train d.csv --epochs 0", "argument --epochs: expected a whole number of at least 1, got '0'"),
        ("train d.csv --epochs 1.5", "argument --epochs: expected a whole number of at least 1, got '1.5'"),
        ("train d.csv --layers 8,", "argument --layers: expected a whole number of at least 1, got ''"),
        ("train d.csv --validation 1", "argument --validation: expected a share from 0 to below 1, got '1'"),
        ("train d.csv --learning-rate nan", "argument --learning-rate: expected a number above 0, got 'nan'"),
        ("train d.csv --l2 -1", "argument --l2: expected a number of at least 0, got '-1'"),
        ("warmup --dtype float16", "argument --dtype: invalid choice: 'float16'"),
    ],
)
def test_arguments_that_cannot_be_parsed(capsys, argv, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv.split())
    assert stopped.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"fastnn: error: [^\n]+\n", err)
    assert message in err


def test_a_failed_run_leaves_the_model_alone(linear, capsys, monkeypatch):
    write_kinds(Path("kinds.csv"))
    argv = ["train", "kinds.csv", "--target", "kind", "--ignore", "id"]
    assert cli.main(argv) == 0
    before = Path("kinds.fastnn.npz").read_bytes()
    capsys.readouterr()

    def diverge(self, X, y, **options):
        raise ValueError("the loss became\nNaN")

    monkeypatch.setattr(LinearModel, "fit", diverge)
    assert cli.main(argv) == 2
    assert capsys.readouterr().err == "fastnn: error: the loss became NaN\n"
    assert Path("kinds.fastnn.npz").read_bytes() == before


def test_a_diverged_model_is_not_saved(linear, monkeypatch, capsys):
    write_kinds(Path("kinds.csv"))
    monkeypatch.setattr(LinearModel, "evaluate", lambda self, X, y, loss: {"loss": float("nan")})
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id"]) == 2
    assert capsys.readouterr().err.startswith("fastnn: error: training diverged: the loss is not finite")
    assert not Path("kinds.fastnn.npz").exists()


@pytest.mark.filterwarnings("default:training was interrupted")
def test_an_interrupted_training_is_saved_beside_the_model(linear, capsys, monkeypatch):
    write_kinds(Path("kinds.csv"))
    Path("kinds.fastnn.npz").write_bytes(b"the last whole run")
    monkeypatch.setattr(LinearModel, "interrupt", True)
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id"]) == 130
    out, err = capsys.readouterr()
    assert err == "fastnn: warning: training was interrupted\n"
    assert "saved       kinds.fastnn.interrupted.npz" in out
    assert Path("kinds.fastnn.npz").read_bytes() == b"the last whole run"
    assert cli.main(["evaluate", "kinds.fastnn.interrupted.npz", "kinds.csv"]) == 0


@pytest.mark.filterwarnings("default:training was interrupted")
def test_a_training_without_an_epoch_says_that_nothing_is_saved(linear, capsys, monkeypatch):
    write_kinds(Path("kinds.csv"))
    monkeypatch.setattr(LinearModel, "interrupt", True)
    monkeypatch.setattr(History, "append", lambda self, logs: None)
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id"]) == 130
    assert capsys.readouterr().out.endswith("saved       nothing: not one epoch had ended\n")
    assert [path.name for path in Path().iterdir()] == ["kinds.csv"]


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_training_that_diverges_is_an_error_and_leaves_the_last_model(linear, capsys, monkeypatch, epochs):
    """What was finite before is kept beside it; of the first epoch nothing is."""
    write_kinds(Path("kinds.csv"))
    Path("kinds.fastnn.npz").write_bytes(b"the last whole run")
    fit = LinearModel.fit

    def diverge(self, X, y, **options):
        history = fit(self, X, y, **options)
        for _ in range(epochs - 1):
            history.append({"loss": float("nan"), "val_loss": float("nan"), "learning_rate": 0.1})
        history.diverged = True
        return history

    monkeypatch.setattr(LinearModel, "fit", diverge)
    assert cli.main(["train", "kinds.csv", "--target", "kind", "--ignore", "id"]) == 2
    out, err = capsys.readouterr()
    assert Path("kinds.fastnn.npz").read_bytes() == b"the last whole run"
    beside = Path("kinds.fastnn.diverged.npz")
    if epochs == 1:
        message = "training diverged in its first epoch: lower --learning-rate (nothing was saved)"
        assert not beside.exists()
    else:
        message = f"training diverged in epoch 3: lower --learning-rate ({beside} has the model from before it)"
        assert f"saved       {beside}" in out
        assert cli.main(["evaluate", str(beside), "kinds.csv"]) == 0
    assert err == f"fastnn: error: {message}\n"


def test_ctrl_c_outside_of_training(capsys, monkeypatch):
    def interrupt(args):
        raise KeyboardInterrupt

    monkeypatch.setattr("fastnn.cli.commands.info.run", interrupt)
    assert cli.main(["info"]) == 130
    assert capsys.readouterr().err == "fastnn: interrupted\n"


def test_errors_of_the_program_itself_keep_their_traceback(monkeypatch):
    def mistaken(args):
        raise TypeError("a bug")

    monkeypatch.setattr("fastnn.cli.commands.info.run", mistaken)
    with pytest.raises(TypeError):
        cli.main(["info"])


def test_precision_is_the_models(linear, capsys):
    write_kinds(Path("table.csv"))
    assert cli.main(["train", "table.csv", "--target", "kind", "--ignore", "id", "--precision", "bf16"]) == 0
    assert linear.last.options["precision"] == "bf16"
    assert "parameters, products in bf16\n" in capsys.readouterr().out
    for command in ("predict", "evaluate"):
        assert cli.main([command, "table.fastnn.npz", "table.csv"]) == 0
        assert "precision" not in linear.last.options
        assert cli.main([command, "table.fastnn.npz", "table.csv", "--precision", "float32"]) == 0
        assert linear.last.options["precision"] == "float32"


def test_a_precision_that_this_machine_has_not_is_said_in_words_of_the_command_line(tmp_path, capsys):
    path = tmp_path / "model.npz"
    model = fastnn.MLP([2, 3], device="cpu")
    model._precision = "tf32"  # as a GPU would have it
    model.save(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "why_not", lambda: "there is no GPU")
        assert cli.main(["predict", str(path), "iris"]) == 2
    assert capsys.readouterr().err == (
        f"fastnn: error: {path} cannot be loaded as it is: precision 'tf32' needs device 'cuda', got 'cpu'; "
        "pass --precision float32\n"
    )


# The other commands


@pytest.fixture
def recipes(monkeypatch):
    """Two recipes; what the first was called with is in its list `calls`."""
    package = types.ModuleType("fastnn.recipes")
    package.RECIPES = {"one": "first", "two": "second"}
    first = types.ModuleType("fastnn.recipes.first")
    first.calls = []
    first.main = first.calls.append
    monkeypatch.setitem(sys.modules, "fastnn.recipes", package)
    monkeypatch.setitem(sys.modules, "fastnn.recipes.first", first)
    return first


def test_recipe_hands_its_arguments_over(recipes, capsys):
    assert cli.main(["recipe", "one", "--truth", "nand", "--help"]) == 0
    assert cli.main(["recipe", "one"]) == 0
    assert recipes.calls == [["--truth", "nand", "--help"], []]
    assert cli.main(["recipe"]) == 0
    assert capsys.readouterr().out == "one\ntwo\n"


def test_warmup_compiles_the_dtypes(monkeypatch, capsys):
    import kernels.cpu

    monkeypatch.setattr(kernels.cpu, "warmup", lambda dtypes: 1.5 * len(dtypes), raising=False)
    assert cli.main(["warmup"]) == 0
    assert cli.main(["warmup", "--dtype", "float32", "float64"]) == 0
    assert capsys.readouterr().out == (
        "kernels for float32 are ready after 1.5 s\nkernels for float32 and float64 are ready after 3.0 s\n"
    )


# As a process, with the real model


def run(*argv, cwd, **more):
    return subprocess.run(
        [sys.executable, "-m", "fastnn", *argv], cwd=cwd, env=environment(), capture_output=True, text=True, **more
    )


@pytest.mark.parametrize(
    ("argv", "says", "heavy"),
    [
        (["--help"], "warmup", {"numpy", "kernels", "fastnn.files"}),
        (["train", "--help"], "--early-stopping", {"numba", "llvmlite", "sklearn", "matplotlib", "fastnn.model"}),
    ],
)
def test_help_imports_nothing_heavy(argv, says, heavy, tmp_path):
    code = (
        "import sys; from fastnn.cli import main\n"
        f"try: main({argv})\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        f"heavy = {heavy} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_a_module_and_help(command, capsys):
    assert callable(importlib.import_module(f"fastnn.cli.commands.{command}").run)
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: fastnn {command} [-h]")
    assert " ".join(COMMANDS[command].split()) in " ".join(out.split())


def test_the_help_of_train_names_what_there_is_to_choose(capsys):
    with pytest.raises(SystemExit):
        cli.main(["train", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for name in (*optimizers.known, *names_for("identity"), *names_for("softmax")):
        assert re.search(rf"\b{name}\b", out)


def test_version_and_info(tmp_path):
    done = run("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"fastnn {fastnn.__version__}\n")
    done = run("info", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"fastnn", "python", "numpy", "numba", "device", "threads", "cache"} <= {
        line.split()[0] for line in done.stdout.splitlines()
    }


def test_process_trains_evaluates_and_predicts(tmp_path):
    write_kinds(tmp_path / "kinds.csv")
    done = run("train", "kinds.csv", "--target", "kind", "--ignore", "id", "--metrics", "m.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "validation  loss" in done.stdout
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 101
    done = run("evaluate", "kinds.fastnn.npz", "kinds.csv", cwd=tmp_path)
    assert "accuracy 1\n" in done.stdout
    done = run("predict", "kinds.fastnn.npz", "kinds.csv", "--proba", cwd=tmp_path)
    rows = table_of(done.stdout)[1:]
    assert [row[0] for row in rows] == ["apple", "pear", "plum"] * 20
    np.testing.assert_allclose(np.array([row[1:] for row in rows], float).sum(axis=1), 1, atol=1e-6)


def test_process_learns_a_regression(tmp_path):
    write_prices(tmp_path / "prices.csv", 200)
    done = run("train", "prices.csv", "--target", "price", "--output", "m.npz", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    r2 = float(re.search(r"validation  .*r2 (\S+?),", done.stdout)[1])
    assert r2 > 0.99  # a straight line


def test_same_seed_same_file(tmp_path):
    write_kinds(tmp_path / "kinds.csv")
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        argv = ["train", "kinds.csv", "--target", "kind", "--ignore", "id", "--epochs", "2", "--seed", seed]
        assert run(*argv, "--output", f"{name}.npz", cwd=tmp_path).returncode == 0
    models = [formats.load_arrays(tmp_path / f"{name}.npz")[0] for name in "abc"]
    for name, array in models[0].items():
        np.testing.assert_array_equal(array, models[1][name])
    assert any((models[0][name] != models[2][name]).any() for name in models[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "sort"], "kinds.csv: line 1 has no column 'sort'"),
        (["--target", "kind", "--ignore", "id", "--activation", "step"], "step"),
    ],
)
def test_process_errors(tmp_path, options, message):
    write_kinds(tmp_path / "kinds.csv")
    done = run("train", "kinds.csv", *options, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"fastnn: error: [^\n]+\n", done.stderr)
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["kinds.csv"]


def test_process_survives_a_reader_that_leaves(tmp_path):
    write_kinds(tmp_path / "kinds.csv", 3000)
    argv = ["train", "kinds.csv", "--target", "kind", "--ignore", "id", "--epochs", "1", "--output", "m.npz"]
    assert run(*argv, cwd=tmp_path).returncode == 0
    command = f"{sys.executable} -m fastnn predict m.npz kinds.csv --proba | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(("command", "code", "message"), [
    ("recipe >&-", 0, ""), ("train nowhere.csv >&- 2>&-", 2, ""),
    ("--version > /dev/full", 2, "fastnn: error: [Errno 28] No space left on device\n"),
])  # fmt: skip
def test_process_without_anywhere_to_write(tmp_path, command, code, message):
    command = f"{sys.executable} -m fastnn {command}"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=environment(), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", message)


@pytest.mark.filterwarnings("default:.* it is left out")
def test_messages_that_have_nowhere_to_go_change_no_exit_code(linear, monkeypatch):
    write_kinds(Path("kinds.csv"), prefix="no ")
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert cli.main(["train", "nowhere.csv"]) == 2
        assert cli.main(["train", "kinds.csv", "--target", "kind"]) == 0  # with a warning
    assert Path("kinds.fastnn.npz").exists()


def test_ctrl_c_ends_training_and_keeps_what_was_learnt(tmp_path):
    write_kinds(tmp_path / "kinds.csv")
    argv = ["train", "kinds.csv", "--target", "kind", "--ignore", "id", "--epochs", "100000000", "--metrics", "m.csv"]
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C + "import sys; from fastnn.cli import main; sys.exit(main())", *argv],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        metrics = tmp_path / "m.csv"
        deadline = time.monotonic() + PATIENCE
        while not (metrics.exists() and metrics.stat().st_size > 100):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "no epoch ended"
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "saved       kinds.fastnn.interrupted.npz" in out
    assert not (tmp_path / "kinds.fastnn.npz").exists()
    assert run("evaluate", "kinds.fastnn.interrupted.npz", "kinds.csv", cwd=tmp_path).returncode == 0
