import copy
import csv
import pickle

import numpy as np
import pytest

from fastnn.history import USUAL_METRICS, History


def three_epochs():
    history = History()
    for loss, accuracy in [(0.9, 0.5), (0.1 + 0.2, 0.75), (1e-17, 1.0)]:
        history.append({"loss": loss, "accuracy": accuracy})
    return history


def test_is_empty_at_first():
    history = History()
    assert history.epochs == 0
    assert all(getattr(history, name) == [] for name in USUAL_METRICS)
    assert (history.interrupted, history.seconds, history.compile_seconds) == (False, 0.0, 0.0)


def test_collects_one_value_per_epoch():
    history = three_epochs()
    assert history.loss == [0.9, 0.1 + 0.2, 1e-17]
    assert history.accuracy == [0.5, 0.75, 1.0]
    assert history.metrics == {"loss": history.loss, "accuracy": history.accuracy}
    assert history.val_loss == []
    assert history.epochs == 3


def test_holds_plain_floats():
    history = History()
    history.append({"loss": np.float32(0.5), "accuracy": 1})
    assert [type(v) for v in history.loss + history.accuracy] == [float, float]


def test_a_metric_of_any_name_is_an_attribute():
    history = History()
    history.append({"gradient_norm": 2.0})
    assert history.gradient_norm == [2.0]
    assert {"gradient_norm", "loss", "epochs"} <= set(dir(history))


def test_an_unknown_name_is_an_error_that_names_the_known():
    with pytest.raises(AttributeError, match="no 'los'; measured were: loss, accuracy"):
        three_epochs().los  # noqa: B018
    assert not hasattr(three_epochs(), "_private")


@pytest.mark.parametrize("logs", [{"loss": 1.0}, {"loss": 1.0, "accuracy": 1.0, "r2": 0.0}, {}])
def test_every_epoch_names_the_same_metrics(logs):
    history = three_epochs()
    with pytest.raises(ValueError, match="logs must name loss, accuracy as before, got"):
        history.append(logs)
    assert history == three_epochs()


def test_a_value_that_is_no_number_changes_nothing():
    history = three_epochs()
    with pytest.raises(ValueError, match="could not convert"):
        history.append({"loss": 0.5, "accuracy": "high"})
    assert history == three_epochs()


def test_the_order_of_the_names_does_not_matter():
    history = three_epochs()
    history.append({"accuracy": 0.25, "loss": 4.0})
    assert (history.loss[-1], history.accuracy[-1]) == (4.0, 0.25)


@pytest.mark.parametrize("clone", [copy.copy, copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_copies_and_pickles(clone):
    history = three_epochs()
    history.seconds = 1.5
    assert clone(history) == history
    assert clone(history).loss == history.loss


def test_to_csv_keeps_every_digit(tmp_path):
    history = three_epochs()
    history.append({"loss": float("nan"), "accuracy": float("inf")})
    history.to_csv(tmp_path / "history.csv")
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    np.testing.assert_array_equal([float(row["loss"]) for row in rows], history.loss)
    np.testing.assert_array_equal([float(row["accuracy"]) for row in rows], history.accuracy)


def test_to_csv_of_nothing_is_a_header(tmp_path):
    History().to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text().split() == ["epoch"]


class Interrupted(list):
    """A list at which Ctrl-C arrives."""

    def append(self, value):
        raise KeyboardInterrupt


def test_an_epoch_is_recorded_whole_or_not_at_all():
    history = three_epochs()
    history.metrics["accuracy"] = Interrupted(history.metrics["accuracy"])
    with pytest.raises(KeyboardInterrupt):
        history.append({"loss": 0.0, "accuracy": 1.0})
    assert [len(values) for values in history.metrics.values()] == [3, 3]
