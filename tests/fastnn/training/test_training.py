"""fit and train_on_batch against a plain NumPy loop over kernels.reference, step by step."""

import copy
import pickle

import numpy as np
import pytest

from fastnn import MLP, SGD, Adam, Callback
from fastnn.schedules import CosineDecay, InverseScaling, StepDecay, WarmUp
from fastnn.training import learner
from kernels import reference
from tests.oracle import network_depth, random_arrays, random_labels, random_row_weights, random_target, tolerance

DTYPES = ["float32", "float64"]
WIDTHS = [7, 17, 5, 3]
ROWS, BATCH = 50, 16  # three batches and a ragged fourth
OPTIMIZERS = [
    SGD(0.1), SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.9, nesterov=True), SGD(StepDecay(0.2, 0.5, 3)),
    SGD(InverseScaling(0.2), momentum=0.5), Adam(0.01), Adam(0.02, beta1=0.8, beta2=0.95, epsilon=1e-4),
    Adam(WarmUp(CosineDecay(0.02, 20), 5)),
]  # fmt: skip


def rate(optimizer, step):
    return float(optimizer.rates(step, 1)[0])


class PlainLoop:
    """The training of a model, in NumPy float64, from its present parameters."""

    def __init__(self, model, optimizer, loss=None, l2=0.0):
        self.model, self.optimizer, self.loss, self.l2 = model, optimizer, loss, l2
        self.weights = [w.astype(np.float64) for w in model.weights]
        self.biases = [b.astype(np.float64) for b in model.biases]
        self.state = [(np.zeros_like(p), np.zeros_like(p)) for p in self.weights + self.biases]
        self.n_steps = 0

    def step(self, X, y, weight=None):
        """One step; returns the loss before it."""
        loss, dws, dbs, _ = reference.network_loss_and_gradients(
            X, y, self.weights, self.biases or None, self.model.activations, self.model.output, self.loss, weight,
            self.l2,
        )  # fmt: skip
        gradients = dws + dbs if self.biases else dws
        for p, gradient, (first, second) in zip(self.weights + self.biases, gradients, self.state, strict=True):
            o = self.optimizer
            if isinstance(o, SGD):
                reference.sgd(
                    p, gradient, first, learning_rate=rate(o, self.n_steps), momentum=o.momentum, nesterov=o.nesterov
                )
            else:
                reference.adam(
                    p, gradient, first, second, step=self.n_steps + 1, learning_rate=rate(o, self.n_steps),
                    beta1=o.beta1, beta2=o.beta2, epsilon=o.epsilon,
                )  # fmt: skip
        self.n_steps += 1
        return loss

    def epoch(self, X, y, weight=None):
        """Steps on the rows in order; returns their losses' mean, weighted like the rows."""
        total, mass = 0.0, 0.0
        for start in range(0, len(X), BATCH):
            rows = slice(start, start + BATCH)
            w = np.ones(len(X[rows])) if weight is None else weight[rows]
            total += self.step(X[rows], y[rows], w) * (1.0 if self.loss == "sum_squared_error" else w.sum())
            mass += w.sum()
        return total if self.loss == "sum_squared_error" else total / mass

    def assert_equals(self, model):
        """The model's parameters are these: the rounding of a gradient, for each step that was made.

        Adam divides a gradient by its own size: the rounding error of a small one is then as large as that of the
        largest, so that the step, rate by rate, errs like the whole gradient.
        """
        relative = tolerance(model.dtype, network_depth(WIDTHS, BATCH))
        travelled = sum(rate(self.optimizer, step) for step in range(self.n_steps))
        for ours, theirs, start in zip(
            model.weights + model.biases, self.weights + self.biases, [*self.start], strict=True
        ):
            moved = np.abs(theirs - start).max()
            allowed = relative * max(np.abs(theirs).max(), travelled)
            assert moved > 10 * allowed, "the tolerance is so wide that a model that was not trained would pass"
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=allowed)


def make(dtype, output="softmax", activation="tanh", optimizer=None, loss=None, l2=0.0, bias=True, seed=0):
    model = MLP(WIDTHS, activation, output, dtype=dtype, bias=bias, seed=seed)
    loop = PlainLoop(model, optimizer, loss, l2)
    loop.start = [p.copy() for p in loop.weights + loop.biases]
    (X,) = random_arrays(1, (ROWS, WIDTHS[0]), dtype=dtype)
    return model, loop, X


class TestFitEqualsAPlainLoop:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
    @pytest.mark.parametrize("l2", [0.0, 0.05])
    def test_every_optimizer(self, dtype, optimizer, l2):
        model, loop, X = make(dtype, optimizer=optimizer, l2=l2)
        y = random_labels(2, ROWS, 3)
        history = model.fit(X, y, 3, BATCH, optimizer, l2=l2, shuffle=False, progress=False)
        expected = [loop.epoch(X, y) for _ in range(3)]
        loop.assert_equals(model)
        np.testing.assert_allclose(history.loss, expected, rtol=tolerance(dtype, network_depth(WIDTHS, BATCH)))
        assert history.learning_rate == [rate(optimizer, step) for step in (3, 7, 11)]

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize(
        ("output", "loss"),
        [("softmax", None), ("softmax", "sum_squared_error"), ("sigmoid", None), ("sigmoid", "mean_squared_error"),
         ("identity", None), ("identity", "sum_squared_error"), ("identity", "absolute_error"),
         ("identity", ("huber", 0.3)), ("identity", ("quantile", 0.8))],
    )  # fmt: skip
    def test_every_output(self, dtype, weighted, output, loss):
        optimizer = SGD(0.02, momentum=0.9)
        model, loop, X = make(dtype, output, "gelu", optimizer, loss, bias=output != "sigmoid")
        kinds = {"softmax": "softmax_cross_entropy", "sigmoid": "sigmoid_cross_entropy"}
        kind = kinds.get(output, "mean_squared_error")
        y = random_target(2, kind, ROWS, 3, dtype)
        weight = random_row_weights(3, ROWS) if weighted else None
        history = model.fit(
            X, y, 2, BATCH, optimizer, loss, shuffle=False, sample_weight=weight, progress=False
        )  # fmt: skip
        expected = [loop.epoch(X, y, weight) for _ in range(2)]
        loop.assert_equals(model)
        np.testing.assert_allclose(history.loss, expected, rtol=tolerance(dtype, network_depth(WIDTHS, BATCH)))

    @pytest.mark.parametrize("class_weight", [{0: 2.0, 2: 0.25}, "balanced"])
    @pytest.mark.parametrize("weighted", [False, True])
    def test_class_weights(self, class_weight, weighted):
        model, loop, X = make("float64", optimizer=SGD(0.1))
        y = np.minimum(random_labels(2, ROWS, 5), 2)
        weight = random_row_weights(3, ROWS) if weighted else np.ones(ROWS)
        per_class = [2.0, 1.0, 0.25] if class_weight != "balanced" else ROWS / (3 * np.bincount(y))
        model.fit(
            X, y, 2, BATCH, SGD(0.1), shuffle=False, progress=False, class_weight=class_weight,
            sample_weight=weight if weighted else None,
        )  # fmt: skip
        for _ in range(2):
            loop.epoch(X, y, weight * np.array(per_class)[y])
        loop.assert_equals(model)

    @pytest.mark.parametrize("class_weight", [{0: 2.0, 2: 0.25}, {1: 0}, "balanced"])
    @pytest.mark.parametrize("kind", ["float64", "uint8", "bool"])
    def test_class_weights_of_one_hot_rows(self, class_weight, kind):
        """They are the row weights that the labels would have."""
        y = np.minimum(random_labels(2, ROWS, 5), 2)
        for output, labels, targets in (
            ("softmax", y, np.eye(3)[y]), ("sigmoid", y, np.eye(3)[y]), ("sigmoid", y // 2, y[:, np.newaxis] // 2),
        ):  # fmt: skip
            counts = np.bincount(labels)
            of = {"balanced": ROWS / (len(counts) * counts), "{1: 0}": np.array([1.0, 0.0, 1.0])}
            by_row = of.get(str(class_weight), np.array([2.0, 1.0, 0.25]))[labels]
            found = []
            for options in ({"class_weight": class_weight}, {"sample_weight": by_row}):
                model = MLP([7, 5, targets.shape[1]], output=output, seed=0)
                (X,) = random_arrays(1, (ROWS, 7), dtype="float32")
                history = model.fit(X, targets.astype(kind), 2, BATCH, SGD(0.1), progress=False, **options)
                found.append((history.metrics, model.parameters.tobytes()))
            assert found[0] == found[1]

    def test_a_batch_whose_rows_weigh_nothing_changes_nothing(self):
        weight = np.ones(ROWS)
        weight[BATCH : 2 * BATCH] = 0.0
        y = random_labels(2, ROWS, 3)
        model, loop, X = make("float64", optimizer=SGD(0.1))
        model.fit(X, y, 1, BATCH, SGD(0.1), shuffle=False, sample_weight=weight, progress=False)
        for start in (0, 2 * BATCH, 3 * BATCH):
            loop.step(X[start : start + BATCH], y[start : start + BATCH])
        loop.assert_equals(model)

    @pytest.mark.parametrize("factor", [2.0**-1000, 2.0**-140, 2.0**-126, 2.0**126])
    def test_the_size_of_the_weights_changes_no_bit_of_a_mean(self, factor):
        y, weight = random_labels(2, ROWS, 3), random_row_weights(3, ROWS)
        found = []
        for weights in (weight, factor * weight):
            model, _, X = make("float32", optimizer=Adam(0.01))
            history = model.fit(X, y, 2, BATCH, Adam(0.01), sample_weight=weights, progress=False)
            found.append((history.loss, model.parameters.tobytes(), model.loss_and_gradients(
                X, y, sample_weight=weights)[0]))  # fmt: skip
        assert found[0] == found[1]
        assert found[0][0][1] < found[0][0][0]

    @pytest.mark.parametrize("tiny", [1e-37, 1e-39, 1e-44, 1e-300])
    def test_weights_next_to_nothing_are_nothing_or_exact(self, tiny):
        """A batch of rows that weigh together less than float32 has numbers for changes nothing."""
        weight = np.ones(ROWS)
        weight[:BATCH] = tiny
        y = random_labels(2, ROWS, 3)
        model, loop, X = make("float32", optimizer=SGD(0.1))
        history = model.fit(X, y, 1, BATCH, SGD(0.1), shuffle=False, sample_weight=weight, progress=False)
        for start in range(0 if tiny == 1e-37 else BATCH, ROWS, BATCH):
            loop.step(X[start : start + BATCH], y[start : start + BATCH])
        loop.assert_equals(model)
        assert np.isfinite(history.loss).all()

    def test_shuffling_visits_each_row_once_an_epoch(self):
        """With one row per batch and a rate of zero, the sum of losses does not depend on the order."""
        model, _, X = make("float64")
        y = random_labels(2, ROWS, 3)
        history = model.fit(X, y, 3, 1, SGD(1e-300), progress=False)
        np.testing.assert_allclose(history.loss, model.evaluate(X, y)["loss"], rtol=1e-12)
        assert history.accuracy == [model.evaluate(X, y)["accuracy"]] * 3


class TestSlices:
    def test_their_number_changes_no_bit(self, monkeypatch):
        """Steps come in slices of as many as fit a tenth of a second: one at a time or all at once, it is the same."""
        y = random_labels(2, ROWS, 3)
        models = []
        for seconds in (0.0, 1e9):
            monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", seconds)
            model, _, X = make("float32")
            steps = []

            class Slices(Callback):
                def on_slice_end(self, model, step, logs, steps=steps):
                    steps.append(step)

            history = model.fit(
                X, y, 3, 4, Adam(WarmUp(CosineDecay(0.02, 20), 5)), callbacks=[Slices()], progress=False
            )
            models.append((model.parameters.tobytes(), history.loss, history.accuracy))
            assert steps[-1] == 38
            assert len(steps) == 39 if seconds == 0.0 else len(steps) < 15
        assert models[0] == models[1]

    @pytest.mark.parametrize("batch_size", [ROWS, BATCH])
    @pytest.mark.parametrize("weighted", [False, True])
    @pytest.mark.parametrize("loss", ["mean_squared_error", "sum_squared_error"])
    def test_epochs_that_nobody_watches_are_made_together_and_are_the_same(
        self, monkeypatch, batch_size, weighted, loss
    ):
        monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", 1e9)
        calls, results = [], []
        for callbacks in ([], [Callback()]):
            model = MLP(WIDTHS, dropout=0.25, seed=0)
            engine = model.engine()
            monkeypatch.setattr(
                engine,
                "train",
                lambda request, engine=engine: (
                    calls.append(request.batches.passes) or type(engine).train(engine, request)
                ),
            )
            (X,), y = random_arrays(1, (ROWS, WIDTHS[0]), dtype="float32"), np.eye(3)[random_labels(2, ROWS, 3)]
            history = model.fit(
                X, y, 60, batch_size, Adam(WarmUp(CosineDecay(0.02, 90), 5)), loss, l2=0.01, progress=False,
                sample_weight=random_row_weights(3, ROWS) if weighted else None, callbacks=callbacks,
            )  # fmt: skip
            results.append((model.parameters.tobytes(), history.metrics, model.random.integers(1 << 62)))
        assert max(calls) > 20
        assert len(results[0][1]["loss"]) == 60
        assert results[0] == results[1]


@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_decays_into_subnormal_numbers(dtype):
    """They are slow. A first moment without a gradient shrinks by a tenth a step, and would be one after a few."""
    tiny = np.finfo(dtype).tiny
    model = MLP([4, 8, 3], dtype=dtype, seed=0)
    X, y = np.zeros((16, 4)), np.arange(16) % 3  # no gradient for the first weights
    model.train_on_batch(X, y, Adam())
    for array in model.optimizer_state.arrays:
        array[array == 0] = 2 * tiny
    for _ in range(20):
        model.train_on_batch(X, y, Adam())
    for array in model.optimizer_state.arrays:
        assert not ((np.abs(array) > 0) & (np.abs(array) < tiny)).any()
    assert (model.optimizer_state.arrays[0] == 0).any()
    half = np.full(1, tiny, dtype) * np.full(1, 0.5, dtype)
    assert half > 0  # outside of training, arithmetic is as it was


class TestTrainOnBatch:
    @pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=str)
    def test_is_the_step_of_fit(self, optimizer):
        y = random_labels(2, ROWS, 3)
        by_fit, _, X = make("float32")
        history = by_fit.fit(X, y, 2, BATCH, optimizer, shuffle=False, l2=0.1, progress=False)
        by_batch, _, _ = make("float32")
        for epoch in range(2):
            results, rows = [], []
            for start in range(0, ROWS, BATCH):
                batch = X[start : start + BATCH], y[start : start + BATCH]
                results.append(by_batch.train_on_batch(*batch, copy.copy(optimizer), l2=0.1))
                rows.append(len(batch[0]))
            for name, values in history.metrics.items():
                if name != "learning_rate":
                    mean = np.average([result[name] for result in results], weights=rows)
                    np.testing.assert_allclose(values[epoch], mean, rtol=1e-14)
        np.testing.assert_array_equal(by_batch.parameters, by_fit.parameters)

    def test_measures_before_the_update(self):
        model, _, X = make("float64")
        y = random_labels(2, ROWS, 3)
        before = model.evaluate(X, y)
        result = model.train_on_batch(X, y, SGD(0.1))
        assert result.keys() == {"loss", "accuracy"}
        np.testing.assert_allclose(result["loss"], before["loss"], rtol=1e-14)
        assert result["accuracy"] == before["accuracy"]
        assert model.evaluate(X, y)["loss"] < before["loss"]

    def test_numbers_have_no_accuracy(self):
        model, _, X = make("float64", "identity")
        assert model.train_on_batch(X, X[:, :3], "sgd").keys() == {"loss"}

    def test_state_is_that_of_the_optimizer(self):
        """Another optimiser, and the first call after a fit, start with fresh state."""
        y = random_labels(2, ROWS, 3)
        momentum, other = SGD(0.1, momentum=0.9), SGD(0.1, momentum=0.8)
        for interruption in ("train_on_batch", "fit"):
            model, _, X = make("float64")
            model.train_on_batch(X, y, momentum)
            getattr(model, interruption)(X, y, optimizer=other)
            fresh = MLP(WIDTHS, "tanh", dtype="float64")
            fresh.parameters[...] = model.parameters
            model.train_on_batch(X, y, momentum)
            fresh.train_on_batch(X, y, momentum)
            np.testing.assert_array_equal(model.parameters, fresh.parameters)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_a_copy_goes_on_like_the_original(self, copied):
        y = random_labels(2, ROWS, 3)
        model, _, X = make("float32")
        model.train_on_batch(X, y)
        twin = copied(model)
        for each in (model, twin):
            each.train_on_batch(X, y)
        np.testing.assert_array_equal(model.parameters, twin.parameters)
        model.train_on_batch(X, y)
        assert not np.array_equal(model.parameters, twin.parameters)


def test_the_bits_do_not_depend_on_how_steps_are_sliced(monkeypatch):
    (X,), y = random_arrays(1, (18501, 60), dtype="float32"), random_labels(2, 18501, 3)
    results = []
    for seconds in (0.0, 10.0):
        monkeypatch.setattr(learner, "SLICE_SECONDS", seconds)
        model = MLP([60, 13, 3], seed=1)
        history = model.fit(X, y, epochs=3, batch_size=8000, progress=False)
        results.append((history.loss, model.parameters.copy()))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("label", [-100, 3, 10**8])
def test_labels_that_change_while_they_are_learnt_from_are_an_error(label):
    X, y = np.ones((500, 3), np.float32), np.zeros(500, np.int64)

    class Mask(Callback):
        def on_epoch_end(self, model, epoch, logs):
            y[77] = label  # as -100 marks rows for PyTorch to leave out

    net = MLP([3, 4, 3], seed=0)
    with pytest.raises(ValueError, match=r"^labels must stay from 0 to 2 while they are read, but that of row 77 "):
        net.fit(X, y, 5, callbacks=[Mask()], progress=False)
    assert np.isfinite(net.parameters).all()
