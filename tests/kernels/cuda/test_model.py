"""fastnn's models on the GPU, or in the simulator: fit, predict and the rest, beside the CPU."""

import itertools
import pickle

import numpy as np
import pytest

import fastnn
from tests.kernels.cuda import device  # noqa: F401 (skips where there is none)
from tests.kernels.cuda.stubs import ByInterface
from tests.oracle import assert_close, network_depth

LAYERS = [3, 4, 2]
RNG = np.random.default_rng(0)
X = RNG.standard_normal((12, 3))
Y = (X[:, 0] > 0).astype(int)
DEPTH = 4 * network_depth(LAYERS, 9)


def networks(**options):
    return [fastnn.MLP(LAYERS, seed=0, device=name, **options) for name in ("cpu", "cuda")]


def test_fit_learns_what_the_cpu_learns():
    histories, models = [], networks()
    for model in models:
        histories.append(model.fit(X, Y, epochs=2, batch_size=5, validation_split=0.25, l2=0.01, progress=False))
    on_cpu, on_cuda = histories
    assert (on_cpu.device, on_cuda.device) == ("cpu", "cuda")
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert_close(np.float32(on_cuda.metrics[name]), on_cpu.metrics[name], "float32", DEPTH)
    assert_close(models[1].parameters, models[0].parameters, "float32", DEPTH)


def test_numbers_are_learnt_and_validated_alike():
    histories = []
    for device_name in ("cpu", "cuda"):
        model = fastnn.MLP([3, 2], output="identity", seed=0, device=device_name)
        history = model.fit(X, X[:, :2], validation_data=(X[:5], X[:5, :2]), shuffle=False, progress=False)
        histories.append(history)
    for name in ("loss", "val_loss", "val_r2"):
        assert_close(np.float32(histories[1].metrics[name]), histories[0].metrics[name], "float32", DEPTH)


def test_batches_gradients_and_a_copy_go_on_alike():
    results = []
    for model in networks(activation="gelu"):
        logs = [model.train_on_batch(X, Y)["loss"]]
        model = pickle.loads(pickle.dumps(model))
        logs.append(model.train_on_batch(X, Y)["loss"])
        loss, dw, db, dx = model.loss_and_gradients(X, Y)
        results.append([np.float32([*logs, loss, model.evaluate(X, Y)["loss"]]), *dw, *db, dx, model.predict(X)])
    for expected, actual in zip(*results, strict=True):
        assert_close(actual, expected, "float32", DEPTH)


def test_no_rows_have_no_outputs():
    model = networks()[1]
    assert model.predict(X[:0]).shape == model.predict(ByInterface(X[:0])).shape == (0, 2)


def test_writing_to_weights_changes_the_model():
    model = networks()[1]
    before = model.predict(X)
    for w in model.weights:
        w[...] = 0
    np.testing.assert_array_equal(model.predict(X), np.full((12, 2), 0.5, np.float32))
    assert not np.array_equal(before, model.predict(X))


class Watch(fastnn.callbacks.Callback):
    """Asks for the parameters after each epoch, and in the end goes back to those of the first."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, model, epoch, logs):
        self.seen.append(model.parameters.copy())

    def on_train_end(self, model):
        model.parameters[...] = self.seen[0]


def test_callbacks_see_and_may_change_the_parameters():
    results = []
    for model in networks():
        watch = Watch()
        model.fit(X, Y, epochs=2, batch_size=12, progress=False, callbacks=[watch])
        assert not np.array_equal(*watch.seen)
        np.testing.assert_array_equal(model.parameters, watch.seen[0])
        results.append(watch.seen)
    for expected, actual in zip(*results, strict=True):
        assert_close(actual, expected, "float32", DEPTH)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # NumPy's, of the simulator
@pytest.mark.parametrize("callbacks", [[], [fastnn.Callback()]], ids=["together", "watched"])
@pytest.mark.parametrize("optimizer", [lambda rate: fastnn.SGD(rate, momentum=0.5), fastnn.Adam])
def test_a_training_that_diverges_ends_with_its_last_finite_parameters(monkeypatch, callbacks, optimizer):
    monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", 1e9)
    model, twin = (fastnn.MLP([3, 2], seed=0, device="cuda") for _ in range(2))
    lost = optimizer(lambda step: np.where(step < 11, 0.1, 1e39))
    with pytest.warns(RuntimeWarning, match=r"^training diverged in epoch 6: .* from the end of epoch 5; lower"):
        history = model.fit(X, Y, 9, 6, optimizer=lost, callbacks=callbacks, progress=False)
    expected = twin.fit(X, Y, 5, 6, optimizer=optimizer(0.1), progress=False)
    assert history.diverged
    assert history.loss[:5] == expected.loss
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_too_little_memory_is_said_and_changes_nothing(monkeypatch):
    from kernels.cuda.driver import device_arrays, errors

    model = networks()[1]
    before, answer = model.parameters.copy(), model.predict(X)

    def full(n, dtype):
        raise errors.OutOfMemoryError("CUDA_ERROR_OUT_OF_MEMORY")

    with monkeypatch.context() as patch:
        patch.setattr(device_arrays, "device_array", full)
        with pytest.raises(MemoryError, match=r"device 'cuda' has no room for an array of .* bytes"):
            model.fit(X, Y, progress=False)
    np.testing.assert_array_equal(model.parameters, before)
    np.testing.assert_array_equal(model.predict(X), answer)


def test_whichever_array_there_is_no_room_for_the_model_is_as_it_was(monkeypatch):
    from kernels.cuda.driver import device_arrays, errors

    def model_and_fit():
        model = fastnn.MLP([3, 2], seed=0, device="cuda")
        return model, lambda: model.fit(X[:2], Y[:2], shuffle=False, progress=False)

    def refusing(n):  # the n-th array from now on
        numbers = itertools.count()

        def device_array(size, dtype):
            if next(numbers) == n:
                raise errors.OutOfMemoryError("CUDA_ERROR_OUT_OF_MEMORY")
            return allocate(size, dtype)

        return device_array, numbers

    allocate = device_arrays.device_array
    model, fit = model_and_fit()
    counting, numbers = refusing(-1)
    monkeypatch.setattr(device_arrays, "device_array", counting)
    fit()
    learnt, most = model.parameters.copy(), next(numbers)
    assert most > 8, "parameters, gradient, activations, results, data, state, what describes a job"
    for n in range(most):
        model, fit = model_and_fit()
        before = model.parameters.copy()
        monkeypatch.setattr(device_arrays, "device_array", refusing(n)[0])
        with pytest.raises(MemoryError, match="device 'cuda' has no room"):
            fit()
        np.testing.assert_array_equal(model.parameters, before)
        fit()
        np.testing.assert_array_equal(model.parameters, learnt)


def test_repeated_runs_give_the_same_bits():
    runs = []
    for _ in range(2):
        model = networks()[1]
        model.fit(X, Y, batch_size=5, progress=False)
        runs.append(model.parameters)
    np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8])
def test_data_on_the_gpu_is_learnt_from_where_it_lies(kind):
    x, weights = np.abs(X * 4).astype(kind), {0: 1.0, 1: 2.0}
    results = []
    for on_device in (False, True):
        data, labels = (ByInterface(x), ByInterface(Y)) if on_device else (x, Y)
        model = networks()[1]
        history = model.fit(
            data, labels, batch_size=7, validation_data=(data, labels), class_weight=weights, progress=False
        )
        evaluated, step = model.evaluate(data, labels), model.train_on_batch(data, labels)
        answer = model.predict(data)
        assert hasattr(answer, "__cuda_ndarray__") == on_device
        answer = answer.copy_to_host() if on_device else answer
        results.append([*history.loss, *history.val_loss, *evaluated.values(), *step.values(), *answer.ravel()])
    np.testing.assert_array_equal(*results)


def test_numbers_on_the_gpu_are_learnt_where_they_lie():
    targets, results = X[:, :2].copy(), []
    for data in ((X, targets), (ByInterface(X)[::-1][::-1], ByInterface(np.asfortranarray(targets)))):
        model = fastnn.MLP([3, 2], output="identity", seed=0, device="cuda")
        history = model.fit(*data, validation_split=0.25, sample_weight=np.arange(12.0), progress=False)
        results.append([*history.loss, *history.val_r2, *model.evaluate(*data).values()])
    np.testing.assert_array_equal(*results)


WRONG = [
    (lambda n, x, y: n.fit(x[:, :2], y), "X must have 3 columns"),
    (lambda n, x, y: n.fit(ByInterface(X * np.inf), y), "X must be finite in float32, got numbers from"),
    (lambda n, x, y: n.fit(x, ByInterface(Y + 1)), "y must hold labels from 0 to 1, got labels from 1 to 2"),
    (lambda n, x, y: n.fit(x, ByInterface(X[:, :2])), r"y must lie in \[0, 1\] for softmax outputs, got num"),
    (lambda n, x, y: n.predict(ByInterface(X.astype(complex))), "X must hold real numbers of at most 64 bits"),
]


@pytest.mark.parametrize(("call", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_is_wrong_with_data_on_the_gpu_is_said(call, message):
    model = networks()[1]
    before = model.parameters.copy()
    with pytest.raises((ValueError, TypeError), match=message):
        call(model, ByInterface(X), ByInterface(Y))
    np.testing.assert_array_equal(model.parameters, before)


def test_a_model_on_the_cpu_takes_none_of_it():
    model = networks()[0]
    for call in (lambda: model.predict(ByInterface(X)), lambda: model.fit(ByInterface(X), Y)):
        with pytest.raises(ValueError, match="X must be in the host's memory for a model on the cpu"):
            call()
