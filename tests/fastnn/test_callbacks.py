import copy
import math

import numpy as np
import pytest

from fastnn import MLP
from fastnn.callbacks import Callback, CSVLogger, EarlyStopping, ModelCheckpoint
from fastnn.history import History


class Model:
    """What callbacks see of a model: a flat array of parameters that can be read and written, and save."""

    def __init__(self):
        self.parameters = np.zeros(3, dtype=np.float32)

    def save(self, path):
        np.savez(path, parameters=self.parameters)


def train(callback, values, monitor="val_loss", model=None):
    """Epoch e sets every parameter to e and reports values[e]; returns the model and the number of epochs run."""
    model = Model() if model is None else model
    callback.on_train_begin(model)
    epochs = 0
    for value in values:
        model.parameters[:] = epochs
        epochs += 1
        if callback.on_epoch_end(model, epochs - 1, {"loss": 1.0, monitor: value}):
            break
    callback.on_train_end(model)
    return model, epochs


def saved(path):
    with np.load(path) as file:
        return file["parameters"][0]


def test_the_base_class_does_nothing():
    callback, model = Callback(), Model()
    callback.on_train_begin(model)
    assert callback.on_slice_end(model, 0, {}) is None
    assert callback.on_epoch_end(model, 0, {}) is None
    callback.on_train_end(model)
    assert not model.parameters.any()


class TestEarlyStopping:
    @pytest.mark.parametrize("patience", [1, 2, 5])
    def test_stops_when_patience_has_run_out(self, patience):
        callback = EarlyStopping(patience=patience)
        model, epochs = train(callback, [3.0, 2.0, 1.0] + [1.5] * 20)
        assert epochs == 3 + patience
        assert (callback.best, callback.best_epoch, callback.stopped_epoch) == (1.0, 2, 2 + patience)
        assert (model.parameters == 2).all()

    def test_an_improvement_renews_patience(self):
        callback = EarlyStopping(patience=2)
        _, epochs = train(callback, [3.0, 4.0, 2.0, 4.0, 1.0, 4.0])
        assert epochs == 6
        assert callback.stopped_epoch is None

    def test_an_equal_value_is_no_improvement(self):
        callback = EarlyStopping(patience=3)
        assert train(callback, [1.0] * 9)[1] == 4
        assert callback.best_epoch == 0

    def test_restores_the_best_epoch_when_training_ends_by_itself(self):
        callback = EarlyStopping(patience=10)
        model, _ = train(callback, [3.0, 1.0, 2.0, 2.0])
        assert (model.parameters == 1).all()
        assert callback.stopped_epoch is None

    def test_without_restore_best_the_last_parameters_stay(self):
        model, epochs = train(EarlyStopping(patience=2, restore_best=False), [1.0, 2.0, 2.0, 2.0])
        assert (model.parameters == epochs - 1).all()

    def test_restores_into_the_models_own_array(self):
        model = Model()
        view = model.parameters[1:]
        train(EarlyStopping(patience=1), [1.0, 2.0], model=model)
        assert view.base is model.parameters
        assert (view == 0).all()

    @pytest.mark.parametrize("monitor", ["accuracy", "val_accuracy", "r2", "val_r2"])
    def test_accuracy_and_r2_are_to_grow(self, monitor):
        callback = EarlyStopping(monitor, patience=2)
        model, epochs = train(callback, [0.5, 0.9, 0.8, 0.7, 0.6], monitor)
        assert (epochs, callback.best, callback.best_epoch) == (4, 0.9, 1)
        assert (model.parameters == 1).all()

    def test_r2_may_be_negative(self):
        callback = EarlyStopping("val_r2", patience=2)
        train(callback, [-5.0, -2.0, -3.0], "val_r2")
        assert callback.best == -2.0

    def test_small_improvements_use_up_patience_but_the_best_is_restored(self):
        callback = EarlyStopping(patience=3, min_delta=0.1)
        model, epochs = train(callback, [1.0, 0.99, 0.98, 0.97, 0.5])
        assert epochs == 4
        assert callback.best == 0.97
        assert (model.parameters == 3).all()

    def test_small_improvements_add_up(self):
        callback = EarlyStopping(patience=3, min_delta=0.1)
        assert train(callback, [1.0, 0.94, 0.88, 0.82, 0.76, 0.7])[1] == 6

    def test_an_improvement_of_exactly_min_delta_is_none(self):
        assert train(EarlyStopping(patience=1, min_delta=0.5), [1.0, 0.5, 0.0])[1] == 2
        assert train(EarlyStopping("r2", patience=1, min_delta=0.5), [0.0, 0.5, 1.0], "r2")[1] == 2

    @pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
    def test_nan_is_never_an_improvement(self, monitor):
        callback = EarlyStopping(monitor, patience=2)
        model, epochs = train(callback, [0.5, math.nan, math.nan, math.nan], monitor)
        assert (epochs, callback.best, callback.best_epoch) == (3, 0.5, 0)
        assert (model.parameters == 0).all()

    def test_nan_at_first_is_overcome(self):
        callback = EarlyStopping(patience=3)
        _, epochs = train(callback, [math.nan, math.inf, 2.0, 1.0, 0.5])
        assert (epochs, callback.best) == (5, 0.5)

    def test_with_nothing_but_nan_there_is_nothing_to_restore(self):
        callback = EarlyStopping(patience=3)
        model, epochs = train(callback, [math.nan] * 9)
        assert (epochs, callback.best, callback.best_epoch) == (3, None, None)
        assert (model.parameters == 2).all()

    def test_a_second_training_starts_anew(self):
        callback = EarlyStopping(patience=2)
        train(callback, [0.1, 0.2, 0.3])
        model, epochs = train(callback, [5.0, 4.0, 6.0])
        assert (epochs, callback.best, callback.best_epoch, callback.stopped_epoch) == (3, 4.0, 1, None)
        assert (model.parameters == 1).all()

    def test_keeps_no_parameters_after_training(self):
        callback = EarlyStopping(patience=1)
        model, _ = train(callback, [1.0, 2.0])
        model.parameters[:] = 7
        callback.on_train_end(model)
        assert (model.parameters == 7).all()

    def test_can_be_copied(self):
        assert copy.deepcopy(EarlyStopping("loss", 3)).patience == 3

    def test_a_missing_monitor_names_what_there_is(self):
        with pytest.raises(ValueError, match=r"^monitor 'val_loss' is not in the logs .* loss, accuracy$"):
            EarlyStopping().on_epoch_end(Model(), 0, {"loss": 1.0, "accuracy": 0.5})

    @pytest.mark.parametrize("kwargs", [{"patience": 0}, {"min_delta": -0.1}, {"min_delta": math.nan}])
    def test_a_value_out_of_range_is_refused_by_name(self, kwargs):
        with pytest.raises(ValueError, match=f"^{next(iter(kwargs))} must be"):
            EarlyStopping(**kwargs)

    @pytest.mark.parametrize("kwargs", [{"patience": 2.5}, {"patience": True}, {"min_delta": "0"}])
    def test_a_value_of_another_type_is_refused_by_name(self, kwargs):
        with pytest.raises(TypeError, match=f"^{next(iter(kwargs))} must be"):
            EarlyStopping(**kwargs)


class TestModelCheckpoint:
    def test_saves_every_epoch_over_the_last(self, tmp_path):
        train(ModelCheckpoint(tmp_path / "net.npz"), [1.0, 3.0, 2.0])
        assert saved(tmp_path / "net.npz") == 2

    def test_needs_no_monitor_to_save_every_epoch(self, tmp_path):
        train(ModelCheckpoint(tmp_path / "net.npz"), [1.0], monitor="accuracy")
        assert (tmp_path / "net.npz").exists()

    def test_fills_in_the_epoch_and_the_logs(self, tmp_path):
        train(ModelCheckpoint(tmp_path / "runs" / "net-{epoch:02d}-{val_loss:.2f}.npz"), [1.0, 0.25])
        assert {p.name for p in (tmp_path / "runs").iterdir()} == {"net-00-1.00.npz", "net-01-0.25.npz"}
        assert saved(tmp_path / "runs" / "net-01-0.25.npz") == 1

    @pytest.mark.parametrize(
        "monitor, values", [("val_loss", [2.0, 1.0, 1.5, math.nan]), ("val_accuracy", [0.5, 0.9, 0.9, math.nan])]
    )
    def test_save_best_only(self, tmp_path, monitor, values):
        train(ModelCheckpoint(tmp_path / "net.npz", monitor, save_best_only=True), values, monitor)
        assert saved(tmp_path / "net.npz") == 1

    def test_a_second_training_starts_anew(self, tmp_path):
        callback = ModelCheckpoint(tmp_path / "net.npz", save_best_only=True)
        train(callback, [0.5])
        train(callback, [9.0, 8.0])
        assert saved(tmp_path / "net.npz") == 1

    def test_never_ends_training(self, tmp_path):
        assert train(ModelCheckpoint(tmp_path / "net.npz"), [1.0] * 5)[1] == 5

    def test_a_missing_monitor_names_what_there_is(self, tmp_path):
        callback = ModelCheckpoint(tmp_path / "net.npz", save_best_only=True)
        with pytest.raises(ValueError, match=r"^monitor 'val_loss' is not in the logs .* loss$"):
            callback.on_epoch_end(Model(), 0, {"loss": 1.0})
        assert not (tmp_path / "net.npz").exists()

    @pytest.mark.parametrize("name", ["net-{val_los}.npz", "net-{}.npz", "net-{epoch:q}.npz"])
    def test_a_path_that_cannot_be_filled_in_says_with_what_it_could(self, tmp_path, name):
        with pytest.raises(ValueError, match=r"can be filled in with \{epoch\}, \{loss\} only$"):
            ModelCheckpoint(tmp_path / name).on_epoch_end(Model(), 0, {"loss": 1.0})

    def test_a_folder_that_cannot_be_made_fails_before_training(self, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(FileExistsError):
            ModelCheckpoint(tmp_path / "file" / "net.npz").on_train_begin(Model())
        ModelCheckpoint(tmp_path / "new" / "net.npz").on_train_begin(Model())
        ModelCheckpoint(tmp_path / "{epoch}" / "net.npz").on_train_begin(Model())
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "new"]

    @pytest.mark.parametrize("name", ["net", "net.h5", "net.pt", "net.npz.gz"])
    def test_an_unknown_suffix_is_refused_before_training(self, name):
        with pytest.raises(ValueError, match=r"^path must end in \.npz or \.safetensors, got"):
            ModelCheckpoint(name)


@pytest.mark.parametrize("monitor", [None, 3, ["val_loss"]])
def test_a_monitor_that_is_no_name_is_refused(monitor):
    for make in (EarlyStopping, lambda monitor: ModelCheckpoint("net.npz", monitor)):
        with pytest.raises(TypeError, match=r"^monitor must be a name in the logs such as 'val_loss', got "):
            make(monitor=monitor)


class TestCSVLogger:
    EPOCHS = ({"loss": 0.1 + 0.2, "accuracy": 0.5}, {"loss": math.nan, "accuracy": np.float32(0.75)})

    def run(self, path):
        callback, model = CSVLogger(path), Model()
        callback.on_train_begin(model)
        for epoch, logs in enumerate(self.EPOCHS):
            callback.on_epoch_end(model, epoch, logs)
        callback.on_train_end(model)
        return callback

    def test_writes_what_history_writes(self, tmp_path):
        history = History()
        for logs in self.EPOCHS:
            history.append(logs)
        history.to_csv(tmp_path / "history.csv")
        self.run(tmp_path / "log.csv")
        text = (tmp_path / "log.csv").read_text()
        assert text == (tmp_path / "history.csv").read_text()
        assert text.splitlines() == ["epoch,loss,accuracy", "0,0.30000000000000004,0.5", "1,nan,0.75"]

    def test_a_line_is_written_when_its_epoch_ends(self, tmp_path):
        callback = CSVLogger(tmp_path / "log.csv")
        callback.on_train_begin(Model())
        callback.on_epoch_end(Model(), 0, {"loss": 1.0})
        assert (tmp_path / "log.csv").read_text().splitlines() == ["epoch,loss", "0,1.0"]

    def test_each_training_starts_the_file_anew(self, tmp_path):
        callback = self.run(tmp_path / "log.csv")
        callback.on_train_begin(Model())
        callback.on_epoch_end(Model(), 0, {"r2": 0.5})
        assert (tmp_path / "log.csv").read_text().splitlines() == ["epoch,r2", "0,0.5"]

    def test_a_path_that_cannot_be_written_fails_before_training(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            CSVLogger(tmp_path / "nowhere" / "log.csv").on_train_begin(Model())


def test_one_that_fails_before_training_leaves_the_model_as_it_was():
    X, y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
    model = MLP([3, 2], seed=0)
    model.train_on_batch(X, y)
    parameters, state, stream = model.parameters.copy(), model.optimizer_state, model.random.bit_generator.state

    class Fails(Callback):
        def on_train_begin(self, model):
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        model.fit(X, y, 1, validation_split=0.25, callbacks=[Fails()], progress=False)
    np.testing.assert_array_equal(model.parameters, parameters)
    assert model.optimizer_state is state
    assert model.random.bit_generator.state == stream
