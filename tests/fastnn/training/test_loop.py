"""The loop: who is told what and when, and what ends a training. Its learner is a stand-in that learns nothing."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from fastnn import MLP, SGD, Callback, MLPClassifier
from fastnn.training.loop import Ending, run
from fastnn.training.observers import Epoch, Observer, Observers, Validation
from tests.oracle import random_arrays, random_labels


class Learner:
    """Makes epochs of two slices of two steps, or as many at once as it may from the third epoch on."""

    def __init__(self):
        self.engine = SimpleNamespace(training=contextlib.nullcontext, threads=1, most_threads=1)
        self.memory = SimpleNamespace(learning_rate=0.5)
        self.made = 0

    def steps(self, n_rows):
        return 4

    def together(self, n_rows, most):
        return most if self.made >= 2 else 1

    def epoch(self, order):
        for part in (0.5, 1.0):
            yield 2, {"loss": self.made + part}
        self.made += 1

    def epochs(self, next_order, n):
        ended = [{"loss": float(self.made + k + 1), "learning_rate": 0.5} for k in range(n)]
        self.made += n
        return ended


class Watch(Observer):
    """Notes what it is told; ends, interrupts or fails by what it is given."""

    def __init__(self, **reactions):
        self.told, self.reactions = [], reactions

    def note(self, event, *values):
        self.told.append((event, *values))
        reaction = self.reactions.get(event, lambda *values: None)(*values)
        if isinstance(reaction, BaseException):
            raise reaction
        return reaction

    def train_begin(self):
        self.note("begin")

    def epochs_begin(self, together):
        self.note("epochs", together)

    def accepts(self, ended):
        return self.note("accepts", len(ended)) is not False

    def slice_ended(self, epoch):
        return self.note("slice", epoch.number, epoch.steps)

    def epoch_ended(self, epoch):
        return self.note("epoch", epoch.number, epoch.logs["loss"])

    def failed(self):
        self.note("failed")

    def steps_ended(self):
        self.note("steps ended")

    def train_end(self):
        self.note("end")


def train(*observers, epochs=5):
    return run(Learner(), lambda: None, 8, epochs, Observers(*observers))


def single(number):
    """What is told of an epoch that is made by itself."""
    return [("epochs", 1), ("slice", number, 2), ("slice", number, 2), ("epoch", number, number + 1.0)]


def test_all_is_told_in_order():
    watch = Watch()
    assert train(watch) is Ending.COMPLETE
    several = [("epochs", 3), ("accepts", 3), ("slice", 2, 12), *(("epoch", n, n + 1.0) for n in (2, 3, 4))]
    assert watch.told == [("begin",), *single(0), *single(1), *several, ("steps ended",), ("end",)]


def test_one_who_has_to_look_sees_each_epoch():
    class Look(Watch):
        def together(self, left):
            return 1

    watch, other = Look(), Watch()
    assert train(other, watch, epochs=3) is Ending.COMPLETE
    assert watch.told == other.told == [("begin",), *single(0), *single(1), *single(2), ("steps ended",), ("end",)]


def test_a_slice_that_ends_training_ends_its_epoch():
    watch, other = Watch(slice=lambda number, steps: number == 1), Watch()
    assert train(watch, other) is Ending.STOPPED
    last = [("epochs", 1), ("slice", 1, 2), ("epoch", 1, 1.5)]
    assert watch.told == other.told == [("begin",), *single(0), *last, ("steps ended",), ("end",)]


def test_an_epoch_that_ends_training_is_the_last_one_told_of():
    """Also where more have been made together with it, and of those before it the others are told."""
    watch, other = Watch(epoch=lambda number, loss: number == 3), Watch()
    assert train(watch, other) is Ending.STOPPED
    assert other.told[-3:] == [("epoch", 3, 4.0), ("steps ended",), ("end",)]


def test_epochs_that_are_not_accepted_are_made_again():
    refused = iter([False, True])
    watch = Watch(accepts=lambda n: next(refused))
    assert train(watch) is Ending.COMPLETE
    assert watch.told[9:13] == [("epochs", 3), ("accepts", 3), ("epochs", 3), ("accepts", 3)]
    assert [told[1] for told in watch.told if told[0] == "epoch"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("event", ["begin", "epochs", "slice", "epoch", "steps ended"])
def test_ctrl_c_ends_it_wherever_it_comes(event):
    watch, seen = Watch(), iter([KeyboardInterrupt(), None])
    watch.reactions[event] = lambda *values: next(seen, None)
    assert train(watch) is Ending.INTERRUPTED
    assert watch.told[-4:] == [watch.told[-4], ("failed",), ("steps ended",), ("end",)]
    assert watch.told[-4][0] == event


def test_an_error_ends_it_too():
    watch = Watch(slice=lambda number, steps: ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        train(watch)
    assert watch.told[-3:] == [("slice", 0, 2), ("failed",), ("end",)]


def test_the_learning_rate_stays_the_last_of_the_logs():
    epoch = Epoch(0, {"loss": 1.0, "learning_rate": 0.5})
    Validation(lambda: {"loss": 2.0, "r2": 0.1}).epoch_ended(epoch)
    assert list(epoch.logs.items()) == [("loss", 1.0), ("val_loss", 2.0), ("val_r2", 0.1), ("learning_rate", 0.5)]


(X,), Y = random_arrays(1, (50, 7), dtype="float32"), random_labels(2, 50, 3)


def test_an_estimator_that_is_lost_within_epochs_made_together_ends_there(monkeypatch):
    monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", 1e9)
    estimator = MLPClassifier(8, solver="sgd", learning_rate=lambda step: np.where(step < 4, 0.01, 1e300), max_iter=20)
    with (
        pytest.warns(ConvergenceWarning, match="the parameters are not finite after iteration 6") as said,
        pytest.raises(ValueError, match="non-finite"),
    ):
        estimator.fit(X, Y)
    assert [each.filename for each in said] == [__file__]
    assert estimator.n_iter_ == len(estimator.loss_curve_) == 6


def test_a_loss_that_was_lost_is_remembered_where_training_went_on(monkeypatch):
    monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", 0.0)
    model = MLP([7, 3], seed=0)
    start = model.parameters.copy()

    class Restore(Callback):
        def on_epoch_end(self, model, epoch, logs):
            if epoch < 3:
                model.parameters[...] = start if epoch else np.nan

    with pytest.warns(RuntimeWarning, match="the loss is nan after epoch 2") as said:
        history = model.fit(
            X, Y, 5, optimizer=SGD(0.01), callbacks=[Restore()], progress=False, stop_if_diverged=False
        )  # fmt: skip
    assert [each.filename for each in said] == [__file__]
    assert np.isnan(history.loss).tolist() == [False, True, False, False, False]
    assert history.diverged
