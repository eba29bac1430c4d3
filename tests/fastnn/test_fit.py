"""What surrounds the steps of fit: validation, history, callbacks, starting again."""

import csv

import numpy as np
import pytest

from fastnn import MLP, SGD, Adam, Callback, CSVLogger, EarlyStopping, History, ModelCheckpoint, load
from tests.oracle import random_arrays, random_labels

SLOW = SGD(1e-3)


def data(rows=100, seed=0):
    (X,) = random_arrays(seed, (rows, 7), dtype="float32")
    return X, (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


def make(output="softmax", **options):
    return MLP([7, 17, 3], output=output, seed=0, **options)


class Recorder(Callback):
    """Writes down what it is told; asks to stop at the event and number it is given."""

    def __init__(self, name="", log=None, stop_at=None):
        self.name, self.log, self.stop_at = name, [] if log is None else log, stop_at

    def tell(self, event, number=None, logs=None):
        self.log.append((self.name, event, number, dict(logs or {})))
        return (event, number) == self.stop_at

    def on_train_begin(self, model):
        return self.tell("begin")

    def on_slice_end(self, model, step, logs):
        return self.tell("slice", step, logs)

    def on_epoch_end(self, model, epoch, logs):
        return self.tell("epoch", epoch, logs)

    def on_train_end(self, model):
        return self.tell("end")

    def events(self, kind):
        return [entry for entry in self.log if entry[1] == kind]


class TestValidation:
    @pytest.mark.parametrize(("output", "metric"), [("softmax", "accuracy"), ("identity", "r2")])
    def test_data_of_its_own(self, output, metric):
        (X, y), (X_val, y_val) = data(), data(41, seed=5)
        if output == "identity":
            y, y_val = X[:, :3], X_val[:, :3]
        model = make(output)
        history = model.fit(X, y, 3, validation_data=(X_val, y_val), progress=False)
        measured = model.evaluate(X_val, y_val)
        assert (history.val_loss[-1], history.metrics[f"val_{metric}"][-1]) == (measured["loss"], measured[metric])
        expected = ["loss", "val_loss", f"val_{metric}", "learning_rate"]
        if output == "softmax":
            expected.insert(1, "accuracy")
        assert list(history.metrics) == expected
        assert all(len(values) == 3 for values in history.metrics.values())

    @pytest.mark.parametrize(("output", "metric"), [("softmax", "accuracy"), ("identity", "r2")])
    def test_data_with_weights(self, output, metric):
        (X, y), (X_val, y_val) = data(), data(41, seed=5)
        if output == "identity":
            y, y_val = X[:, :3], X_val[:, :3]
        weight, model = np.arange(41.0) % 5, make(output)
        history = model.fit(X, y, 2, validation_data=(X_val, y_val, weight), progress=False)
        measured, plain = model.evaluate(X_val, y_val, sample_weight=weight), model.evaluate(X_val, y_val)
        assert (history.val_loss[-1], history.metrics[f"val_{metric}"][-1]) == (measured["loss"], measured[metric])
        assert measured["loss"] != plain["loss"]
        assert measured[metric] != plain[metric]
        for same in ([X_val, y_val, None], (X_val, y_val, np.ones(41))):
            twin = make(output)
            val_loss = twin.fit(X, y, 2, validation_data=same, progress=False).val_loss
            np.testing.assert_allclose(val_loss[-1], twin.evaluate(X_val, y_val)["loss"], rtol=1e-6)

    @pytest.mark.parametrize(("output", "metric"), [("softmax", "accuracy"), ("identity", "r2")])
    def test_rows_that_are_split_off_keep_their_weights(self, output, metric):
        X, y = data()
        y = X[:, :3] if output == "identity" else y
        model, weight = make(output), np.random.default_rng(8).uniform(0.5, 3.0, len(X))
        history = model.fit(X, y, 1, shuffle=False, validation_split=0.3, sample_weight=weight, progress=False)
        rows = make(output).random.permutation(len(X))[: round(0.3 * len(X))]  # as the first thing that is drawn
        measured = model.evaluate(X[rows], y[rows], sample_weight=weight[rows])
        np.testing.assert_allclose(history.val_loss[-1], measured["loss"], rtol=1e-6)
        np.testing.assert_allclose(history.metrics[f"val_{metric}"][-1], measured[metric], rtol=1e-6)
        assert abs(measured["loss"] - model.evaluate(X[rows], y[rows])["loss"]) > 1e-4

    def test_rows_that_are_split_off_must_weigh_something(self):
        X, y = data()
        rows = make().random.permutation(len(X))[: round(0.3 * len(X))]
        weight, model = np.ones(len(X)), make()
        weight[rows] = 0.0
        before = model.parameters.copy()
        with pytest.raises(
            ValueError, match=r"^sample_weight must not be 0 for all 30 rows that validation_split holds"
        ):
            model.fit(X, y, validation_split=0.3, sample_weight=weight, progress=False)
        np.testing.assert_array_equal(model.parameters, before)

    def test_changes_no_parameter(self):
        X, y = data()
        with_validation, without = make(), make()
        with_validation.fit(X, y, 3, validation_data=data(41, seed=5), progress=False)
        without.fit(X, y, 3, progress=False)
        np.testing.assert_array_equal(with_validation.parameters, without.parameters)

    def test_rows_that_are_split_off_are_not_trained_on(self):
        """Labels that are noise can be learnt by heart, and not be guessed."""
        X, _ = data(60)
        y = random_labels(1, 60, 3)
        model = MLP([7, 200, 3], seed=0)
        history = model.fit(X, y, 300, 60, Adam(0.01), validation_split=0.25, progress=False)
        right = model.predict(X).argmax(1) == y
        assert history.accuracy[-1] == 1.0
        assert history.val_accuracy[-1] < 0.9
        assert right.sum() == 45 + round(15 * history.val_accuracy[-1])

    def test_the_split_follows_the_seed(self):
        X, y = data()
        one, same, other = (
            MLP([7, 3], seed=seed).fit(X, y, validation_split=0.3, progress=False) for seed in (1, 1, 2)
        )
        assert one.metrics == same.metrics
        assert one.metrics != other.metrics


class TestHistory:
    def test_contents(self):
        X, y = data()
        model = make(threads=1)
        history = model.fit(X, y, 4, optimizer=SLOW, progress=False)
        assert isinstance(history, History)
        assert list(history.metrics) == ["loss", "accuracy", "learning_rate"]
        assert history.epochs == len(history.loss) == len(history.accuracy) == 4
        assert history.learning_rate == [1e-3] * 4
        assert history.val_loss == history.r2 == []
        assert (history.device, history.threads, history.interrupted) == ("cpu", 1, False)
        assert history.seconds > 0
        assert all(type(value) is float for values in history.metrics.values() for value in values)

    def test_repr_is_a_line(self):
        X, y = data()
        text = repr(make().fit(X, y, 50, optimizer=SLOW, progress=False))
        assert text.startswith("History(epochs=50, loss=")
        assert "\n" not in text
        assert len(text) < 120
        assert repr(History(interrupted=True)) == "History(epochs=0, seconds=0, interrupted=True)"


class TestCallbacks:
    def test_order(self):
        log = []
        X, y = data()
        make().fit(X, y, 2, 100, callbacks=[Recorder("a", log), Recorder("b", log)], progress=False)
        assert [entry[:3] for entry in log] == [
            (name, event, number)
            for event, number in [
                ("begin", None),
                ("slice", 0),
                ("epoch", 0),
                ("slice", 1),
                ("epoch", 1),
                ("end", None),
            ]
            for name in "ab"
        ]

    def test_logs(self):
        X, y = data()
        recorder = Recorder()
        history = make().fit(X, y, 3, 8, validation_split=0.2, callbacks=[recorder], progress=False)
        logs = [entry[3] for entry in recorder.events("epoch")]
        assert logs == [dict(zip(history.metrics, values, strict=True)) for values in zip(*history.metrics.values())]
        last = recorder.events("slice")[-1]
        assert last[2] == 29
        assert last[3] == {"loss": history.loss[-1], "accuracy": history.accuracy[-1]}

    @pytest.mark.parametrize(("stop_at", "epochs"), [(("epoch", 1), 2), (("slice", 0), 1)])
    def test_stop(self, stop_at, epochs):
        """The others hear of the epoch, too, and of the end."""
        X, y = data()
        stopper, other = Recorder(stop_at=stop_at), Recorder()
        history = make().fit(X, y, 5, 8, callbacks=[stopper, other], progress=False)
        assert history.epochs == epochs
        assert not history.interrupted
        for recorder in (stopper, other):
            assert [len(recorder.events(event)) for event in ("begin", "epoch", "end")] == [1, epochs, 1]

    def test_a_stop_in_an_epoch_leaves_the_means_so_far(self):
        X, y = data()
        history = make().fit(X, y, 5, 8, shuffle=False, callbacks=[Recorder(stop_at=("slice", 0))], progress=False)
        before = make().evaluate(X[:8], y[:8])  # the first slice is one step
        assert history.accuracy == [before["accuracy"]]
        np.testing.assert_allclose(history.loss, before["loss"], rtol=1e-6)

    def test_any_object_with_on_epoch_end(self):
        class Plain:
            def on_epoch_end(self, model, epoch, logs):
                return epoch == 1

        assert make().fit(*data(), 5, callbacks=(Plain(),), progress=False).epochs == 2

    def test_the_model_may_be_used_and_changed(self):
        seen = []

        class Freezer(Callback):
            def on_epoch_end(self, model, epoch, logs):
                model.weights[0][...] = 0.0
                seen.append(model.predict(np.ones((1, 7))))

        model = make()
        model.fit(*data(), 3, callbacks=[Freezer()], progress=False)
        assert not model.weights[0].any()
        assert len(seen) == 3

    def test_early_stopping_restores_the_best(self):
        X, _ = data(60)
        y = random_labels(1, 60, 3)
        saved = []

        class Saver(Callback):
            def on_epoch_end(self, model, epoch, logs):
                saved.append((logs["val_loss"], model.parameters.copy()))

        stopping = EarlyStopping(patience=5)
        model = MLP([7, 100, 3], seed=0)
        history = model.fit(
            X, y, 1000, optimizer=Adam(0.01), validation_split=0.3, callbacks=[Saver(), stopping], progress=False
        )
        assert history.epochs == stopping.best_epoch + 6 < 1000
        assert stopping.best == min(history.val_loss)
        np.testing.assert_array_equal(model.parameters, saved[stopping.best_epoch][1])
        assert not np.array_equal(model.parameters, saved[-1][1])

    def test_checkpoints_and_logs(self, tmp_path):
        X, y = data()
        model = make()
        callbacks = [ModelCheckpoint(tmp_path / "{epoch}.npz"), CSVLogger(tmp_path / "log.csv")]
        history = model.fit(X, y, 2, callbacks=callbacks, progress=False)
        np.testing.assert_array_equal(load(tmp_path / "1.npz").parameters, model.parameters)
        with open(tmp_path / "log.csv") as file:
            rows = list(csv.DictReader(file))
        assert [float(row["loss"]) for row in rows] == history.loss


class TestAgain:
    def test_a_second_fit_goes_on_from_the_present_parameters(self):
        X, y = data()
        model, twin = make(), make()
        first = model.fit(X, y, 3, optimizer=Adam(0.01), progress=False)
        twin.parameters[...] = model.parameters
        second = model.fit(X, y, 1, 100, Adam(0.01), progress=False)
        assert second.loss[0] < first.loss[0]
        twin.fit(X, y, 1, 100, Adam(0.01), progress=False)  # fresh optimiser state is all that a second fit has
        np.testing.assert_array_equal(model.parameters, twin.parameters)

    def test_it_shuffles_anew(self):
        X, y = data()
        model, twin = make(), make()
        for each in (model, twin):
            each.fit(X, y, 1, 8, progress=False)
        twin.random = np.random.default_rng(7)
        for each in (model, twin):
            each.fit(X, y, 1, 8, progress=False)
        assert not np.array_equal(model.parameters, twin.parameters)
