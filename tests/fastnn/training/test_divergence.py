"""Training that diverges: it ends, and the model has the parameters of the last epoch that was finite."""

import warnings

import numpy as np
import pytest
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning

from fastnn import MLP, SGD, Adam, Callback, EarlyStopping, MLPClassifier, MLPRegressor, ModelCheckpoint, cli, load
from tests.oracle import random_arrays, random_labels

ROWS, BATCH, EPOCH, EPOCHS = 50, 16, 23, 60  # four steps an epoch; in the 23rd of them all is lost
(X,) = random_arrays(1, (ROWS, 7), dtype="float32")
Y = random_labels(2, ROWS, 3)


def make(dtype="float32", **options):
    return MLP([7, 17, 3], "tanh", dtype=dtype, seed=0, **options)


def until(step, rate=0.05, lost=1e39):
    """A schedule whose rate from a step on is infinity in float32."""
    return lambda steps: np.where(steps < step, rate, lost)


def fit(model, epochs, optimizer, **options):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = model.fit(X, Y, epochs, **{"batch_size": BATCH, "progress": False, **options}, optimizer=optimizer)
    return history, [str(each.message) for each in said]


class Watch(Callback):
    """Notes the logs, and whether the parameters are finite when it is told."""

    def __init__(self):
        self.epochs = []

    def on_epoch_end(self, model, epoch, logs):
        self.epochs.append((bool(np.isfinite(model.parameters).all()), dict(logs)))


@pytest.mark.parametrize("seconds", [0.0, 1e9], ids=["a step a slice", "epochs together"])
@pytest.mark.parametrize("watched", ["nobody", "validation", "callbacks"])
@pytest.mark.parametrize("optimizer", [lambda rate: SGD(rate, momentum=0.9), Adam], ids=["sgd", "adam"])
@pytest.mark.parametrize(
    ("options", "steps"),
    [({}, 4), ({"batch_size": ROWS}, 1), ({"shuffle": False}, 4), ({"batch_size": 1, "l2": 0.01}, 50)],
    ids=["shuffled", "one batch", "in order", "one row"],
)
def test_the_model_is_that_of_the_last_finite_epoch(monkeypatch, seconds, watched, optimizer, options, steps):
    """The very bits of a training that ends there, dropout and the orders of the rows included."""
    monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", seconds)
    more = {"validation": {"validation_data": (X[:9], Y[:9])}, "callbacks": {"callbacks": [Watch()]}}.get(watched, {})
    model, twin = make(dropout=0.2), make(dropout=0.2)
    lost = optimizer(until((EPOCH - 1) * steps + steps // 2))
    history, said = fit(model, EPOCHS, lost, **options, **more)
    expected, nothing = fit(twin, EPOCH - 1, optimizer(0.05), **options)
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    assert np.isfinite(model.parameters).all()
    assert history.epochs == EPOCH
    assert history.loss[:-1] == expected.loss
    assert not np.isfinite(history.loss[-1])
    assert (history.diverged, expected.diverged, nothing) == (True, False, [])
    (message,) = said
    what = r"the loss is (nan|inf) at step \d+" if steps > 1 else f"parameters are not finite after step {EPOCH}"
    back = r"The parameters were set back to those from the end of epoch 22; lower"
    pattern = rf"^training diverged in epoch {EPOCH}: {what}\. {back}"
    with pytest.raises(RuntimeWarning, match=pattern):
        raise RuntimeWarning(message)
    if steps > 1:  # the rate is infinity at that step, after which the loss of the next is none
        assert f"at step {(EPOCH - 1) * steps + steps // 2 + 2}." in message


def test_in_the_first_epoch_the_model_stays_as_it_was():
    model = make()
    before = model.parameters.copy()
    history, said = fit(model, 5, SGD(1e39))
    np.testing.assert_array_equal(model.parameters, before)
    assert (history.epochs, history.diverged) == (1, True)
    assert said[0].startswith(
        "training diverged in epoch 1: the loss is nan at step 2. The parameters were set back to those from before "
        "the training; lower the learning_rate"
    )
    assert repr(history).endswith(", diverged=True)")


@pytest.mark.parametrize("go_on", [False, True])
def test_a_loss_that_overflows_ends_it_too(go_on):
    """The parameters are finite all the while, and would stay so."""
    model = MLP([7, 1], output="identity", seed=0)
    before = model.parameters.copy()
    with pytest.warns(RuntimeWarning, match="the loss is inf ") as said:
        history = model.fit(
            X, np.full(ROWS, 3e19), 4, optimizer=SGD(1e-30), progress=False, stop_if_diverged=not go_on
        )  # fmt: skip
    assert len(said) == 1
    assert np.isinf(history.loss).all()
    assert history.diverged
    assert history.epochs == (4 if go_on else 1)
    assert np.array_equal(model.parameters, before) != go_on


def test_it_goes_on_where_told_to():
    model = make()
    history, said = fit(model, EPOCHS, SGD(until((EPOCH - 1) * 4)), stop_if_diverged=False)
    assert history.epochs == EPOCHS
    assert history.diverged
    assert not np.isfinite(model.parameters).any(where=model.parameters != 0)
    (message,) = said
    assert message.startswith(f"the loss is nan after epoch {EPOCH}: lower the learning_rate, clip the gradient")


@pytest.mark.parametrize("callbacks", [[], [Callback()]], ids=["together", "watched"])
@pytest.mark.parametrize("epochs", [1, 3])
def test_parameters_lost_at_the_end_are_seen_where_it_goes_on(callbacks, epochs):
    """The loss of an epoch of one step is that from before the step."""
    model = make()
    options = {"batch_size": ROWS, "stop_if_diverged": False, "callbacks": callbacks}
    history, said = fit(model, epochs, SGD(until(epochs - 1)), **options)
    assert np.isfinite(history.loss).all()
    assert not np.isfinite(model.parameters).all()
    assert (history.epochs, history.diverged) == (epochs, True)
    (message,) = said
    assert message.startswith("parameters are not finite at the end of the training: lower the learning_rate")


def test_parameters_lost_are_seen_where_a_callback_mends_them_or_ctrl_c_ends_it():
    class Mends(Callback):
        def on_epoch_end(self, model, epoch, logs):
            raise KeyboardInterrupt

        def on_train_end(self, model):
            model.parameters[...] = 0

    options = {"batch_size": ROWS, "stop_if_diverged": False, "callbacks": [Mends()]}
    history, said = fit(make(), 3, SGD(until(0)), **options)
    assert (history.epochs, history.interrupted, history.diverged) == (1, True, True)
    assert [message.partition(":")[0] for message in said] == [
        "parameters are not finite at the end of the training", "Training interrupted by user."
    ]  # fmt: skip


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_parameters_that_were_not_finite_before_are_said_to_be(value):
    """A unit that is always off hides an infinity from the loss, which NaN does not."""
    model = MLP([2, 3, 2], seed=0)
    model.weights[0][:, 1] = value
    message = (
        "training diverged in epoch 1: the parameters were not finite before the training; make a new model or load"
    )
    with pytest.warns(RuntimeWarning, match=f"^{message} one$"):
        history = model.fit(np.ones((4, 2)), [0, 1, 0, 1], progress=False)
    assert np.isnan(history.loss).all()
    assert history.diverged


def test_parameters_that_a_callback_spoils_are_not_laid_to_the_step():
    class Spoils(Callback):
        def on_epoch_end(self, model, epoch, logs):
            model.parameters[0] = np.nan

    history, (message,) = fit(make(), 5, SGD(0.1), callbacks=[Spoils()])
    assert (history.epochs, history.diverged) == (2, True)
    assert message.startswith("training diverged in epoch 2: the parameters were not finite before that epoch; ")


def test_the_message_is_true_where_the_best_is_restored():
    """For the callback the best epoch is the second, as it sees no other; the last finite one is the sixth."""
    model, twin, stopping = make(), make(), EarlyStopping("loss", 99)
    stopping.on_epoch_end = lambda *args, seen=stopping.on_epoch_end: args[1] < 2 and seen(*args)
    _, (message,) = fit(model, 9, SGD(until(6)), batch_size=ROWS, callbacks=[stopping])
    fit(twin, 2, SGD(0.05), batch_size=ROWS)
    assert stopping.best_epoch == 1
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    assert ". The parameters were set back to those from the end of epoch 6; lower" in message
    assert "The model has" not in message


def test_callbacks_see_finite_parameters_and_what_was_not():
    watch = Watch()
    history, _ = fit(make(), EPOCHS, SGD(until(8)), callbacks=[watch], validation_data=(X, Y))
    assert all(finite for finite, _ in watch.epochs)
    logs = [logs for _, logs in watch.epochs]
    rows = [dict(zip(history.metrics, row, strict=True)) for row in zip(*history.metrics.values(), strict=True)]
    assert repr(logs) == repr(rows)  # NaN equals NaN there
    assert [np.isfinite([each["loss"], each["val_loss"], each["val_accuracy"]]).all() for each in logs] == [1, 1, 0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError("row 7: the label is 12"), MemoryError])
def test_what_ends_a_slice_leaves_no_model_that_is_lost(monkeypatch, error):
    model, calls = make(), []
    engine = model.engine()
    train = type(engine).train

    def ends(*args, **options):
        results = train(engine, *args, **options)
        calls.append(model.parameters.copy())
        if len(calls) == 5:
            model.parameters[...] = np.nan
            raise error
        return results

    monkeypatch.setattr(engine, "train", ends)
    monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", 0.0)
    if error is KeyboardInterrupt:
        history, said = fit(model, 9, SGD(0.1), batch_size=ROWS)
        assert (history.interrupted, history.epochs, said) == (True, 4, ["Training interrupted by user."])
    else:
        with pytest.raises(error if isinstance(error, type) else type(error)):
            fit(model, 9, SGD(0.1), batch_size=ROWS)
    np.testing.assert_array_equal(model.parameters, calls[3])


@pytest.mark.parametrize("lost", [0, 5])
def test_an_epoch_that_loses_parameters_alone_is_nobodys_best_nor_saved(tmp_path, lost):
    """Its loss is finite, as it is that from before its one step, and lower than all before."""
    model, watch, stopping = make(), Watch(), EarlyStopping("loss", 99)
    callbacks = [ModelCheckpoint(tmp_path / "all-{epoch}.npz"), watch, stopping]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = model.fit(X, Y, 9, ROWS, SGD(until(lost)), callbacks=callbacks, progress=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"all-{epoch}.npz" for epoch in range(lost)]
    assert stopping.best_epoch == (lost - 1 if lost else None)
    for losses in (history.loss, [logs["loss"] for _, logs in watch.epochs]):
        assert np.isfinite(losses).tolist() == [True] * lost + [False]
        assert np.isnan(losses[-1])
    assert [str(each.message).partition(":")[0] for each in said] == [
        f"ModelCheckpoint saves nothing after epoch {lost + 1}", f"training diverged in epoch {lost + 1}"
    ]  # fmt: skip
    assert [each.filename for each in said] == [__file__] * 2


def test_the_command_line_names_its_own_options(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", X=X, y=Y)
    argv = ["train", "data.npz", "--optimizer", "sgd", "--activation", "tanh", "--layers", "17", "--dropout", "0"]
    assert cli.main([*argv, "--learning-rate", "1e39", "--epochs", "3"]) == 2
    err = capsys.readouterr().err
    (line,) = [line for line in err.splitlines() if "fastnn: " in line]
    assert "clip_norm" not in err
    assert line == "fastnn: error: training diverged in its first epoch: lower --learning-rate (nothing was saved)"


class TestFiles:
    def test_a_checkpoint_stays_that_of_the_last_finite_epoch(self, tmp_path):
        for name, options in (("stops", {}), ("goes on", {"stop_if_diverged": False})):
            path, twin = tmp_path / f"{name}.npz", make()
            _, said = fit(make(), 9, SGD(until(20)), callbacks=[ModelCheckpoint(path)], **options)
            fit(twin, 5, SGD(0.05))
            np.testing.assert_array_equal(load(path).parameters, twin.parameters)
            message = "ModelCheckpoint saves nothing after epoch 6: the loss or parameters are not finite"
            assert said.count(message) == 1
            assert len(said) == 2

    def test_the_best_is_never_one_that_is_lost(self, tmp_path):
        """Outputs that are NaN have an accuracy all the same."""
        y, model = np.zeros(ROWS, int), make()  # of NaN, the first output passes for the largest
        y[:5] = 1
        checkpoint = ModelCheckpoint(tmp_path / "best.npz", "val_accuracy", save_best_only=True)
        callbacks = [checkpoint, EarlyStopping("val_accuracy", 9)]
        with pytest.warns(RuntimeWarning):
            model.fit(
                X, 1 + y, 6, optimizer=SGD(until(8, 1e-9)), validation_data=(X, y), callbacks=callbacks, progress=False,
                stop_if_diverged=False,
            )  # fmt: skip
        for parameters in (model.parameters, load(tmp_path / "best.npz").parameters):
            assert np.isfinite(parameters).all()

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("suffix", ["npz", "safetensors"])
    def test_a_model_that_is_not_finite_is_saved_where_told_to(self, tmp_path, value, suffix):
        path, model = tmp_path / f"model.{suffix}", make()
        model.save(path)
        before = path.read_bytes()
        model.biases[1][2] = value
        with pytest.raises(
            ValueError, match=rf"^parameters must be finite to be saved, .* allow_nan=True .* {value} in b1$"
        ):
            model.save(path)
        assert path.read_bytes() == before
        model.save(path, allow_nan=True)
        np.testing.assert_array_equal(load(path).parameters, model.parameters)


class TestEstimators:
    """They end as scikit-learn's do, which goes on to max_iter: by then no parameter is finite again."""

    @pytest.mark.parametrize("callbacks", [None, [Callback()]], ids=["together", "watched"])
    def test_parameters_that_are_lost_are_an_error(self, callbacks):
        options = {"hidden_layer_sizes": (8,), "solver": "sgd", "learning_rate_init": 100.0, "random_state": 0}
        y = 1e6 * X[:, 0].astype(np.float64)
        ours, theirs = MLPRegressor(**options, callbacks=callbacks), sklearn.neural_network.MLPRegressor(**options)
        messages = []
        for estimator in (ours, theirs):
            with (
                np.errstate(all="ignore"), pytest.warns(ConvergenceWarning),
                pytest.raises(ValueError, match=r"^Solver produced non-finite") as error,
            ):  # fmt: skip
                estimator.fit(X, y)
            messages.append(str(error.value))
        assert messages[0] == messages[1]
        assert ours.n_iter_ < 9

    def test_with_early_stopping_the_best_is_kept_and_a_warning_says_so(self):
        estimator = MLPClassifier(  # one step an epoch
            (8,), learning_rate=until(20), early_stopping=True, n_iter_no_change=100, random_state=0,
            validation_fraction=0.2,
        )  # fmt: skip
        with pytest.warns(ConvergenceWarning, match="^Stochastic Optimizer: the parameters are not finite after iter"):
            estimator.fit(X, Y)
        assert np.isfinite(estimator.network_.parameters).all()
        assert estimator.n_iter_ in (21, 22)

    @pytest.mark.parametrize("rate", [1e2, 1e8])
    def test_outputs_whose_squares_overflow_bring_no_other_warning(self, rate):
        options = {"hidden_layer_sizes": (8,), "solver": "sgd", "max_iter": 30, "random_state": 0}
        estimator = MLPRegressor(learning_rate_init=rate, early_stopping=True, **options)
        with pytest.warns(ConvergenceWarning, match="are not finite") as said:
            estimator.fit(X, 1e3 * X[:, 0])
        assert len(said) == 1

    def test_a_loss_alone_ends_nothing(self):
        """Parameters are finite all the while."""
        estimator = MLPRegressor(hidden_layer_sizes=(), solver="sgd", learning_rate_init=1e-30, max_iter=5, alpha=0.0)
        with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
            estimator.fit(X, np.full(ROWS, 3e19, np.float32))
        assert not np.isfinite(estimator.loss_curve_).any()
        assert estimator.n_iter_ == 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_r2_of_outputs_whose_squares_overflow_brings_no_warning(dtype):
    model = MLP([7, 3, 1], output="identity", dtype=dtype, seed=0)
    model.weights[-1][...] = 1e30 if dtype == "float32" else 1e200
    measured = model.evaluate(X, X[:, 0])
    assert measured["loss"] == np.inf
    assert measured["r2"] < -1e50
