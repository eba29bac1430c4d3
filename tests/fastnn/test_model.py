"""MLP itself: parameters and their views, predictions and measures, copies and files."""

import copy
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastnn
from fastnn import MLP
from fastnn.files.formats import load_arrays, save_arrays
from kernels import reference
from kernels.losses import names_for
from tests.oracle import assert_close, network_depth, random_arrays, random_labels, random_target

DTYPES = ["float32", "float64"]


def trained(dtype="float32", output="softmax", **options):
    model = MLP([7, 17, 65, 3], ["relu", "silu"], output, dtype=dtype, seed=0, **options)
    (X,) = random_arrays(0, (100, 7), dtype=dtype)
    y = random_labels(1, 100, 3) if output != "identity" else X[:, :3]
    model.fit(X, y, 3, progress=False)
    return model, X, y


class TestParameters:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_weights_and_biases_are_views(self, dtype):
        model, X, _ = trained(dtype)
        assert [w.shape for w in model.weights] == [(7, 17), (17, 65), (65, 3)]
        assert [b.shape for b in model.biases] == [(17,), (65,), (3,)]
        for view in model.weights + model.biases:
            assert view.dtype == dtype
            assert np.shares_memory(view, model.parameters)
        before = model.predict(X)
        model.biases[-1][0] += 1.0
        model.weights[0][...] *= 0.5
        assert not np.array_equal(model.predict(X), before)
        outputs = reference.network_forward(X, model.weights, model.biases, model.activations, "softmax")
        assert_close(model.predict(X), outputs[-1], dtype, network_depth(model.layers, 1))

    def test_the_flat_array_restores_a_model(self):
        model, X, y = trained()
        kept, before = model.parameters.copy(), model.predict(X)
        model.fit(X, y, progress=False)
        assert not np.array_equal(model.predict(X), before)
        model.parameters[...] = kept
        np.testing.assert_array_equal(model.predict(X), before)

    def test_without_biases(self):
        model, X, _ = trained(bias=False)
        assert model.biases == ()
        assert model.n_parameters == 7 * 17 + 17 * 65 + 65 * 3
        outputs = reference.network_forward(X, model.weights, None, model.activations, "softmax")
        assert_close(model.predict(X), outputs[-1], "float32", network_depth(model.layers, 1))

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_initial_weights_do_not_depend_on_the_dtype(self, dtype):
        for ours, double in zip(
            MLP([7, 17, 3], seed=1, dtype=dtype).weights, MLP([7, 17, 3], seed=1, dtype="float64").weights, strict=True
        ):
            np.testing.assert_array_equal(ours, double.astype(dtype))

    def test_initial_scheme_follows_the_activation(self):
        """He's for the ReLU family, of variance 2 / fan-in, Xavier's otherwise, bounded by sqrt(6 / (fan-in + out))."""
        model = MLP([400, 400, 400, 10], ["relu", "tanh"], seed=0)
        assert model.weights[0].std() == pytest.approx(np.sqrt(2 / 400), rel=0.02)
        assert np.abs(model.weights[1]).max() <= np.sqrt(6 / 800)
        assert not any(bias.any() for bias in model.biases)
        assert np.std(MLP([400, 400], init=("normal", 0.1), seed=0).weights[0]) == pytest.approx(0.1, rel=0.02)


class TestPredictAndEvaluate:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_no_rows_have_no_outputs(self, dtype):
        outputs = MLP([7, 3], dtype=dtype).predict(np.ones((0, 7)))
        assert (outputs.shape, outputs.dtype) == ((0, 3), dtype)
        with pytest.raises(ValueError, match=r"X must have 7 columns, as the network's input, got shape \(0, 0\)"):
            MLP([7, 3], dtype=dtype).predict(np.ones((0, 0)))

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
    @pytest.mark.parametrize("rows", [1, 2, 241, 1000])
    def test_against_the_reference(self, dtype, output, rows):
        model, _, _ = trained(dtype, output)
        (X,) = random_arrays(2, (rows, 7), dtype=dtype)
        y = random_target(3, names_for(output)[0], rows, 3, dtype)
        network = model.weights, model.biases, model.activations, output
        predicted = reference.network_forward(X, *network)[-1]
        assert_close(model.predict(X), predicted, dtype, network_depth(model.layers, 1))
        measured = model.evaluate(X, y)
        loss = reference.network_loss_and_gradients(X, y, *network)[0]
        np.testing.assert_allclose(measured["loss"], loss, rtol=1e-4 if dtype == "float32" else 1e-12)
        if output == "softmax":
            right = predicted.argmax(1) == y.argmax(1)
        else:
            right = ((predicted > 0.5) == (y > 0.5)).all(1)
        if output == "identity":
            assert measured.keys() == {"loss", "r2"}
            if rows > 1:
                r2 = 1 - ((predicted - y) ** 2).sum(0) / ((y - y.mean(0)) ** 2).sum(0)
                np.testing.assert_allclose(measured["r2"], r2.mean(), rtol=1e-4, atol=1e-4)
        else:
            assert measured == {"loss": measured["loss"], "accuracy": right.mean()}

    @pytest.mark.parametrize("output", ["softmax", "sigmoid", "identity"])
    @pytest.mark.parametrize("loss", [None, "sum_squared_error"])
    @given(weight=st.lists(st.integers(0, 3), min_size=2, max_size=40).filter(lambda counts: sum(counts) > 1))
    @settings(max_examples=25, deadline=None)  # the first compiles
    def test_a_row_of_weight_3_counts_as_three_rows(self, output, loss, weight):
        model, rows = MLP([7, 17, 3], output=output, dtype="float64", seed=0), len(weight)
        (X,) = random_arrays(rows, (rows, 7), dtype="float64")
        y = X[:, :3] if output == "identity" else (X[:, :3] > 0.5) * 1.0
        measured = model.evaluate(X, y, loss=loss, sample_weight=np.array(weight) * (1.0 if loss else 1e-300))
        expected = model.evaluate(np.repeat(X, weight, 0), np.repeat(y, weight, 0), loss=loss)
        assert measured.keys() == expected.keys()
        for name, value in expected.items():
            assert measured[name] == pytest.approx(value, rel=1e-12, abs=1e-12)

    def test_accuracy_of_labels_is_that_of_the_largest_output(self):
        for output in ("softmax", "sigmoid"):
            model, X, y = trained(output=output)
            predicted = model.predict(X)
            assert model.evaluate(X, y)["accuracy"] == (predicted.argmax(1) == y).mean()
            by_row = (predicted.argmax(1) == y) if output == "softmax" else ((predicted > 0.5) == np.eye(3)[y]).all(1)
            assert model.evaluate(X, np.eye(3)[y])["accuracy"] == by_row.mean()

    def test_rows_do_not_depend_on_each_other(self):
        model, _, _ = trained()
        (X,) = random_arrays(2, (500, 7), dtype="float32")
        predicted = model.predict(X)
        for rows in (slice(0, 1), slice(17, 80), slice(239, 242), slice(499, 500)):
            np.testing.assert_array_equal(model.predict(X[rows]), predicted[rows])

    def test_nan_stays_in_its_row(self):
        model, X, _ = trained()
        X = X.copy()
        expected = model.predict(X)
        X[5, 2], X[17, 0] = np.nan, np.inf
        predicted = model.predict(X)
        assert np.isnan(predicted[5]).all()
        others = np.setdiff1d(np.arange(100), [5, 17])
        np.testing.assert_array_equal(predicted[others], expected[others])

    def test_r2_of_a_constant_target(self):
        """As scikit-learn's: 1 if it is met exactly, else 0."""
        model = MLP([2, 1], output="identity", init="zeros")
        assert model.evaluate(np.ones((5, 2)), np.zeros(5))["r2"] == 1.0
        assert model.evaluate(np.ones((5, 2)), np.ones(5)) == {"loss": 1.0, "r2": 0.0}

    @pytest.mark.parametrize("first", [0.1, 5.0])
    @pytest.mark.parametrize("scale", [1.0, 1e-300])
    def test_r2_of_a_constant_target_whose_mean_is_rounded(self, first, scale):
        """The mean of three tenths is no tenth; a row of another target counts where it has a weight."""
        model = MLP([2, 1], output="identity", init="zeros", dtype="float64")
        y, weight = np.array([first, 0.1, 0.1, 0.1]), scale * np.array([0.0, 1.0, 1.0, 1.0])
        assert model.evaluate(np.ones((4, 2)), y, sample_weight=weight)["r2"] == 0.0
        assert model.evaluate(np.ones((3, 2)), y[1:])["r2"] == 0.0


class TestCopiesAndFiles:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_a_copy_is_a_model_of_its_own(self, dtype, copied):
        model, X, y = trained(dtype)
        model.metadata["columns"] = ["a", "b"]
        twin, before = copied(model), model.predict(X)
        assert twin.metadata == model.metadata
        np.testing.assert_array_equal(twin.predict(X), before)
        twin.fit(X, y, progress=False)
        np.testing.assert_array_equal(model.predict(X), before)
        assert not np.array_equal(twin.predict(X), before)

    def test_a_copy_goes_on_as_the_original_would(self):
        model, X, y = trained()
        twin = pickle.loads(pickle.dumps(model))
        for each in (model, twin):
            each.fit(X, y, 2, validation_split=0.1, progress=False)
        np.testing.assert_array_equal(model.parameters, twin.parameters)

    @pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("bias", [True, False])
    def test_files(self, tmp_path, suffix, dtype, bias):
        model, X, y = trained(dtype, bias=bias)
        model.metadata["classes"] = ["no", "yes"]
        path = tmp_path / f"model{suffix}"
        model.save(path)
        read = fastnn.load(path, threads=1, seed=5)
        assert (read.layers, read.activations, read.output) == (model.layers, model.activations, model.output)
        assert (read.dtype, read.bias, read.metadata, read.threads, read.seed) == (dtype, bias, model.metadata, 1, 5)
        np.testing.assert_array_equal(read.predict(X), model.predict(X))
        assert read.evaluate(X, y) == model.evaluate(X, y)
        read.fit(X, y, progress=False)

    def test_files_hold_arrays_without_padding(self, tmp_path):
        model, _, _ = trained()
        model.save(tmp_path / "model.npz")
        arrays, metadata = load_arrays(tmp_path / "model.npz")
        assert {name: array.shape for name, array in arrays.items()} == {
            "w0": (7, 17), "w1": (17, 65), "w2": (65, 3), "b0": (17,), "b1": (65,), "b2": (3,),
        }  # fmt: skip
        assert json.loads(json.dumps(metadata))["architecture"]["layers"] == [7, 17, 65, 3]

    @pytest.mark.parametrize(("change", "message"), [
        (lambda arrays, metadata: arrays.update(w0=np.ones((1, 17))), r"w0 must have shape \(7, 17\), got \(1, 17\)"),
        (lambda arrays, metadata: arrays.pop("b2"), "b2 is missing"),
        (lambda arrays, metadata: metadata.pop("architecture"), "architecture is missing"),
        (lambda arrays, metadata: metadata["architecture"].update(output="tree"), "output must be one of .*"),
    ])  # fmt: skip
    def test_a_file_that_does_not_fit_together(self, tmp_path, change, message):
        path = tmp_path / "model.npz"
        trained()[0].save(path)
        arrays, metadata = load_arrays(path)
        change(arrays, metadata)
        save_arrays(path, arrays, metadata)
        with pytest.raises(ValueError, match=f"model.npz is not a model of this version of fastnn: {message}$"):
            fastnn.load(path)

    def test_wrong_options_are_not_the_files_fault(self, tmp_path):
        trained()[0].save(tmp_path / "model.npz")
        with pytest.raises(ValueError, match=r"^threads must be an integer >= 1, got 0$"):
            fastnn.load(tmp_path / "model.npz", threads=0)
        with pytest.raises(
            TypeError, match=r"^options of load must be among threads, device, precision, seed, got thread$"
        ):
            fastnn.load(tmp_path / "model.npz", thread=1)

    def test_a_precision_is_kept_and_another_may_be_asked_for(self, tmp_path):
        path = tmp_path / "model.npz"
        model = MLP([2, 3])
        model._precision = "tf32"  # as a GPU would have it
        model.save(path)
        message = "model.npz cannot be loaded as it is: precision 'tf32' needs device 'cuda', got 'cpu'; pass precision"
        with pytest.raises(ValueError, match=f"{message}='float32'$"):
            fastnn.load(path, device="cpu")
        assert fastnn.load(path, device="cpu", precision="float32").precision == "float32"
        with pytest.raises(ValueError, match=r"^precision 'tf32' needs device 'cuda', got 'cpu'$"):
            fastnn.load(path, device="cpu", precision="tf32")
        with pytest.raises(ValueError, match="precision 'tf32' needs device 'cuda', got 'cpu'"):
            model.predict([[0.0, 1.0]])


class TestWords:
    def test_summary(self, capsys):
        assert MLP([784, 256, 10], "silu").summary() is None
        assert capsys.readouterr().out == (
            "layer   inputs  outputs  activation   parameters\n"
            "    1      784      256  silu            200,960\n"
            "    2      256       10  softmax           2,570\n"
            "203,530 parameters in float32, on the cpu\n"
        )
        model = MLP([2, 1], output="sigmoid")
        model._precision = "tf32"
        model.summary()
        assert capsys.readouterr().out.endswith("3 parameters in float32, products in tf32, on the cpu\n")
        assert repr(model) == "MLP([2, 1], output='sigmoid', dtype='float32', precision='tf32')"
        MLP([2, 1], output="sigmoid", bias=False, dtype="float64").summary()
        assert capsys.readouterr().out.endswith("2 parameters in float64, no biases, on the cpu\n")

    @pytest.mark.parametrize("model", [
        MLP([2, 3]), MLP([2, 5, 4, 3], "tanh", "sigmoid", dtype="float64", bias=False),
        MLP([2, 5, 4, 3], ["tanh", "relu"], "identity"),
    ], ids=repr)  # fmt: skip
    def test_repr_makes_the_model(self, model):
        assert repr(eval(repr(model))) == repr(model)
        assert repr(MLP([2, 5, 3])) == "MLP([2, 5, 3], activation='relu', output='softmax', dtype='float32')"

    def test_the_articles_form(self):
        architecture = [
            {"input_dim": 2, "output_dim": 25, "activation": "relu"},
            {"input_dim": 25, "output_dim": 50, "activation": "logistic"},
            {"input_dim": 50, "output_dim": 1, "activation": "sigmoid"},
        ]
        model = MLP.from_architecture(architecture, seed=3, dtype="float64")
        assert repr(model) == repr(MLP([2, 25, 50, 1], ["relu", "sigmoid"], "sigmoid", dtype="float64"))
