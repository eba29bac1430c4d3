"""The network of a model that `fastnn train` saved, in Python: it does not take raw rows for prepared ones."""

import sys
import types

import numpy as np
import pytest

import fastnn
from fastnn import MLP
from fastnn.tables.preprocessing import Preprocessing
from fastnn.tables.targets import Target

X, Y = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32)
CALLS = {
    "predict": lambda model: model.predict(X),
    "evaluate": lambda model: model.evaluate(X, Y),
    "fit": lambda model: model.fit(X, Y, progress=False),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "loss_and_gradients": lambda model: model.loss_and_gradients(X, Y),
    "profile": lambda model: model.profile(X, Y),
    "to_onnx": fastnn.to_onnx,
    "to_torch": fastnn.to_torch,
}
ZERO, ONE = np.zeros(2), np.ones(2)


def loaded(folder, shift=ZERO, scale=ONE, categories=None, target_scale=1.0):
    model = MLP([2, 1], output="identity", seed=0)
    inputs = Preprocessing(("a", "b"), ZERO, shift, scale, categories or {})
    target = Target("y", None, np.zeros(1), np.array([target_scale]))
    model.metadata.update(inputs=inputs.to_dict(), target=target.to_dict(), loss="mean_squared_error")
    model.save(folder / "model.npz")
    return fastnn.load(folder / "model.npz")


@pytest.mark.parametrize("call", CALLS)
def test_raw_rows_are_refused_and_the_way_out_is_named(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))  # refused before it is used
    model = loaded(tmp_path, scale=np.array([1.0, 3.0]))
    parameters = model.parameters.copy()
    with pytest.raises(
        ValueError, match=r"^model has [^\n]*`fastnn predict`[^\n]*model\.metadata\['inputs'\] out first$"
    ):
        CALLS[call](model)
    np.testing.assert_array_equal(model.parameters, parameters)


@pytest.mark.parametrize(
    "preparation",
    [
        {"shift": np.array([0.0, 1e-9])},
        {"scale": np.array([2.0, 1.0])},
        {"categories": {"a": ("x",)}},
        {"target_scale": 2.0},
    ],
    ids=str,
)
def test_whatever_the_preparation_changes(preparation, tmp_path):
    model = loaded(tmp_path, **preparation)
    with pytest.raises(ValueError, match="had prepared"):
        model.predict(X)
    del model.metadata["inputs"]
    assert model.predict(X).shape == (4, 1)


def test_rows_that_no_preparation_changes_are_taken(tmp_path):
    assert loaded(tmp_path).predict(X).shape == (4, 1)


@pytest.mark.parametrize("metadata", [{"inputs": ["a", "b"], "target": "y"}, {"inputs": {"shift": 1}, "target": {}}])
def test_metadata_of_the_callers_own_mean_nothing(metadata):
    model = MLP([2, 1], output="identity")
    model.metadata.update(metadata)
    assert model.predict(X).shape == (4, 1)
