"""What describes a model, and the memory that compiled code has the addresses of, cannot be changed from outside."""

import contextlib
import copy
import inspect
import pickle

import numpy as np
import pytest
from sklearn.base import clone

from fastnn import MLP, SGD, Adam, Callback, MLPClassifier, MLPRegressor, load, schedules

X = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
Y = np.arange(60) % 3
OTHER = {
    "layers": [3, 9, 3], "activations": ["tanh", "tanh"], "output": "identity", "dropout": [0.5, 0.5], "bias": False,
    "norm": "batch", "init": "zeros", "dtype": "float64", "device": "cuda", "precision": "bf16", "threads": 2,
    "seed": 5,
}  # fmt: skip


def make(**options):
    return MLP([3, 4, 5, 3], **{"seed": 0, "device": "cpu", **options})


class TestTheDescription:
    def test_it_is_all_that_a_model_is_made_of(self):
        arguments = [name.replace("activation", "activations") for name in inspect.signature(MLP).parameters]
        assert sorted(OTHER) == sorted(arguments)

    @pytest.mark.parametrize("name", OTHER)
    def test_is_read_only(self, name):
        model = make()
        before, predicted, line = getattr(model, name), model.predict(X), repr(model)
        argument = {"activations": "activation"}.get(name, name)
        by = "MLP or fastnn.load" if name in ("device", "precision", "threads", "seed") else "a new MLP"
        with pytest.raises(AttributeError) as refused:
            setattr(model, name, OTHER[name])
        assert str(refused.value) == (
            f"{name} is decided when a model is made: pass {argument}={OTHER[name]!r} to {by}"
        )  # fmt: skip
        with pytest.raises(AttributeError):
            delattr(model, name)
        for each in (model, pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
            assert (getattr(each, name), repr(each)) == (before, line)
            np.testing.assert_array_equal(each.predict(X), predicted)

    @pytest.mark.parametrize("model", [make(), MLP.from_architecture(
        [{"input_dim": 2, "output_dim": 3, "activation": "relu"},
         {"input_dim": 3, "output_dim": 2, "activation": "softmax"}]
    )], ids=["widths", "architecture"])  # fmt: skip
    def test_sequences_are_tuples(self, tmp_path, model):
        model.save(tmp_path / "model.npz")
        for each in (model, load(tmp_path / "model.npz")):
            for sequence in (each.layers, each.activations, each.dropout, each.weights, each.biases):
                assert isinstance(sequence, tuple)

    def test_the_lists_that_it_was_made_from_are_not_its_own(self):
        layers, names, rates = [3, 4, 3], ["relu"], [0.5]
        model = MLP(layers, names, dropout=rates, seed=0)
        layers[-1], names[0], rates[0] = 5000, "tanh", 0.0
        assert (model.layers, model.activations, model.dropout) == ((3, 4, 3), ("relu",), (0.5,))


class TestTheParameters:
    @pytest.mark.parametrize("name", ["weights", "biases", "parameters"])
    def test_cannot_be_replaced(self, name):
        model = make()
        before = model.parameters.copy()
        with pytest.raises(AttributeError, match=f"^{name} cannot be replaced: write into them, as in {name}"):
            setattr(model, name, getattr(make(seed=1), name))
        if name != "parameters":
            message = r"^a model's array cannot be replaced: write into it, as in weights\[1\]\[...\] = values$"
            with pytest.raises(TypeError, match=message):
                getattr(model, name)[1] = getattr(make(seed=1), name)[1]
        else:
            with pytest.raises(AttributeError):
                model.parameters = model.weights[0].reshape(-1)  # where they begin, but not all
        np.testing.assert_array_equal(model.parameters, before)

    def test_steps_may_be_written_in_place(self):
        model, expected = make(), make()
        expected.weights[1][...] -= 0.25
        expected.biases[0][...] += 1.0
        expected.parameters[...] *= 0.5
        model.weights[1] -= 0.25
        model.biases[0] += 1.0
        model.parameters *= 0.5
        np.testing.assert_array_equal(model.parameters, expected.parameters)
        assert not np.array_equal(model.parameters, make().parameters)

    @pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")  # NumPy's, of shape, dtype and strides
    @pytest.mark.parametrize(
        "change",
        [
            lambda array: setattr(array, "shape", (-1, 2)),
            lambda array: setattr(array, "dtype", np.float64),
            lambda array: setattr(array, "strides", (0,)),
            lambda array: array.setflags(write=False),
            lambda array: array.resize(4, refcheck=False),
        ],
        ids=["shape", "dtype", "strides", "flags", "resize"],
    )
    def test_their_buffer_keeps_its_form(self, change):
        """Compiled code has the address; NumPy lets anybody who holds an array give it another shape in place."""
        model, twin = make(), make()
        with contextlib.suppress(ValueError):  # NumPy's own: a view cannot be resized
            change(model.parameters)
        for each in (model, twin):
            each.fit(X, Y, 2, progress=False)
        assert (model.parameters.shape, model.parameters.dtype) == (twin.parameters.shape, np.float32)
        assert model.parameters.flags.writeable
        np.testing.assert_array_equal(model.parameters, twin.parameters)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), twin.predict(X))


class Reshape(Callback):
    """Gives arrays that are being learnt from another shape and dtype, in place."""

    def __init__(self, *arrays):
        self.arrays = arrays

    def on_epoch_end(self, model, epoch, logs):
        for array in self.arrays:
            array.shape = (1, -1)
            array.dtype = np.uint8


@pytest.mark.filterwarnings("ignore:Setting the:DeprecationWarning")
class TestArraysInUse:
    def test_a_fit_keeps_their_form(self):
        results = []
        for reshaped in (False, True):
            arrays = [X.copy(), Y.copy(), np.ones(60), X[:9].copy(), Y[:9].copy()]
            model = make()
            history = model.fit(
                *arrays[:2], 4, sample_weight=arrays[2], validation_data=tuple(arrays[3:]), progress=False,
                callbacks=[Reshape(*arrays)] if reshaped else [],
            )  # fmt: skip
            results.append((history.metrics, model.parameters.tobytes()))
        assert results[0] == results[1]

    @pytest.mark.parametrize(("kind", "y"), [(MLPClassifier, Y), (MLPRegressor, X[:, :2])])
    def test_so_does_an_estimators(self, kind, y):
        results = []
        for reshaped in (False, True):
            arrays = [X.copy(), y.copy(), np.ones(60), X[:9].copy(), y[:9].copy()]
            estimator = kind(hidden_layer_sizes=(4,), max_iter=4, n_iter_no_change=9, random_state=0)
            estimator.set_params(callbacks=[Reshape(*arrays)] if reshaped else [Callback()])
            with pytest.warns(UserWarning, match="Maximum iterations"):
                estimator.fit(*arrays[:3], X_val=arrays[3], y_val=arrays[4])
            results.append((estimator.loss_curve_, estimator.network_.parameters.tobytes()))
        assert results[0] == results[1]


class TestWhatTrainingHolds:
    @pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), Adam(0.01)])
    @pytest.mark.parametrize("arrays", [
        lambda good: good[:-1], lambda good: [array[:5] for array in good],
        lambda good: [array.astype(np.float64) for array in good],
        lambda good: [np.zeros(2 * len(array), np.float32)[::2] for array in good],
        lambda good: [np.frombuffer(array.tobytes(), np.float32) for array in good],
        lambda good: [np.zeros(4 * len(array) + 1, np.uint8)[1:].view(np.float32) for array in good],
    ], ids=["number", "size", "dtype", "strides", "read-only", "misaligned"])  # fmt: skip
    def test_an_optimizers_arrays_are_looked_at(self, optimizer, arrays):
        model = make()
        model.train_on_batch(X, Y, optimizer)
        before = model.parameters.copy()
        model.optimizer_state.arrays = arrays(model.optimizer_state.arrays)
        with pytest.raises(ValueError, match=r"^optimizer_state must hold \d arrays like the model's parameters"):
            model.train_on_batch(X, Y, optimizer)
        np.testing.assert_array_equal(model.parameters, before)
        model.optimizer_state = None
        model.train_on_batch(X, Y, optimizer)

    def test_an_optimizers_arrays_are_nobody_elses(self):
        """The parameters as state would be no distance from themselves, which compiled code takes for no state."""
        model = make()
        model.train_on_batch(X, Y, Adam(0.01))
        first, second = model.optimizer_state.arrays
        for arrays in ([model.parameters, second], [first, model.parameters], [first, first]):
            model.optimizer_state.arrays = arrays
            with pytest.raises(ValueError, match="each in writable memory of its own"):
                model.train_on_batch(X, Y, Adam(0.01))

    @pytest.mark.parametrize("step", [-1, 0.5, None])
    def test_an_optimizers_step_is_a_count(self, step):
        model = make()
        model.train_on_batch(X, Y, Adam(0.01))
        model.optimizer_state.step = step
        with pytest.raises((TypeError, ValueError), match=r"^optimizer_state\.step must be "):
            model.train_on_batch(X, Y, Adam(0.01))

    @pytest.mark.parametrize(("value", "name"), [
        (SGD(), "learning_rate"), (Adam(), "clip_norm"), (schedules.Constant(0.1), "rate"),
        (schedules.StepDecay(0.1, 0.5, 3), "every"), (schedules.CosineDecay(0.1, 3), "steps"),
        (schedules.InverseScaling(0.1), "power"), (schedules.WarmUp(0.1, 3), "schedule"),
    ])  # fmt: skip
    def test_optimizers_and_schedules_are_frozen(self, value, name):
        with pytest.raises(AttributeError, match=f"cannot assign to field '{name}'"):
            setattr(value, name, 0.5)
        assert clone(value, safe=False) == pickle.loads(pickle.dumps(value)) == value

    def test_callbacks_change_neither_the_list_nor_the_record(self):
        """Those that a callback adds or takes away, and what it does to the logs, are no part of this training."""

        class Meddler(Callback):
            def __init__(self):
                self.told = 0

            def on_slice_end(self, model, step, logs):
                logs.clear()

            def on_epoch_end(self, model, epoch, logs):
                self.told += 1
                callbacks.clear()
                logs["loss"] = -1.0

        callbacks = [Meddler()]
        (meddler,) = callbacks
        history = make().fit(X, Y, 3, callbacks=callbacks, progress=False)
        assert meddler.told == 3
        assert history.metrics == make().fit(X, Y, 3, callbacks=[Callback()], progress=False).metrics
        estimators = [MLPClassifier((4,), max_iter=3, random_state=0, callbacks=each) for each in ([meddler], None)]
        for estimator in estimators:
            with pytest.warns(UserWarning, match="Maximum iterations"):
                estimator.fit(X, Y)
        assert estimators[0].loss_curve_ == estimators[1].loss_curve_


class TestEstimators:
    @pytest.fixture
    def fitted(self):
        estimator = MLPClassifier((4,), max_iter=2, random_state=0)
        with pytest.warns(UserWarning, match="Maximum iterations"):
            return estimator.fit(X, Y)

    def test_the_network_cannot_be_replaced(self, fitted):
        with pytest.raises(AttributeError, match=r"^network_ cannot be replaced: set arrays of coefs_ and intercepts_"):
            fitted.network_ = MLP([3, 4, 3])
        with pytest.raises(AttributeError, match=r"^layers is decided when a model is made"):
            fitted.network_.layers = (3, 5, 3)

    @pytest.mark.parametrize(("attribute", "n", "shape", "wanted"), [
        ("coefs_", 1, (1, 3), (4, 3)), ("coefs_", 0, (3, 1), (3, 4)), ("coefs_", 1, (3,), (4, 3)),
    ])  # fmt: skip
    def test_arrays_that_do_not_fit_together(self, fitted, attribute, n, shape, wanted):
        """They were stretched to the shape that is needed."""
        getattr(fitted, attribute)[n] = np.ones(shape)
        with pytest.raises(ValueError) as refused:  # noqa: PT011 (compared below)
            fitted.predict(X)
        assert str(refused.value) == (
            f"{attribute}[{n}] must have shape {wanted}, as the layers beside it, got {shape}"
        )  # fmt: skip

    def test_arrays_may_be_replaced_as_in_scikit_learn(self, fitted):
        twin = pickle.loads(pickle.dumps(fitted))
        fitted.coefs_[0] = fitted.coefs_[0] * 2
        twin.coefs_[0][...] *= 2
        np.testing.assert_array_equal(fitted.predict_proba(X), twin.predict_proba(X))
        assert clone(fitted).get_params() == fitted.get_params()
