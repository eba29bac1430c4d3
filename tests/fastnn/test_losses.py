"""Losses that have a name and maybe a parameter: how they are given, and what is learnt by them."""

import numpy as np
import pytest

from fastnn import MLP, SGD, Adam
from fastnn.losses import loss_for
from fastnn.schedules import CosineDecay
from kernels import reference
from kernels.losses import LOSSES, names_for
from tests.oracle import loss_of, loss_with_parameter, random_arrays, random_row_weights, random_target, tolerance

OF_NUMBERS = [loss_with_parameter(name) for name in names_for("identity")]


@pytest.mark.parametrize(
    ("output", "default"),
    [("softmax", "softmax_cross_entropy"), ("sigmoid", "sigmoid_cross_entropy"), ("identity", "mean_squared_error"),
     ("exp", "poisson")],
)  # fmt: skip
def test_which_losses_go_with_an_output(output, default):
    assert [name for name in LOSSES if LOSSES[name].default_of == output] == [default]
    assert names_for(output)[0] == default
    assert loss_for(output, None) == loss_for(output, default)
    for name in LOSSES:
        loss = loss_with_parameter(name)
        if output in LOSSES[name].outputs:
            assert loss_for(output, loss) == loss
        else:
            with pytest.raises(ValueError, match=rf"^loss must be one of .* for {output} outputs, got "):
                loss_for(output, loss)


@pytest.mark.parametrize("given", ["huber", ("huber", 1), ["huber", 1.0], ("huber", np.float32(1.0))])
def test_forms(given):
    assert loss_for("identity", given) == ("huber", 1.0)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("quantile", ValueError, r"^loss must be \('quantile', level\) with level in \(0, 1\), got 'quantile'$"),
        (("quantile", 1), ValueError, r"^loss: level must be a finite number in \(0, 1\), got 1$"),
        (("quantile", 0.0), ValueError, r"^loss: level must be a finite number in \(0, 1\), got 0.0$"),
        (("huber", -1.0), ValueError, r"^loss: delta must be a finite number in \(0, inf\), got -1.0$"),
        (("huber", np.inf), ValueError, r"^loss: delta must be a finite number in \(0, inf\), got inf$"),
        (("huber", np.nan), ValueError, r"^loss: delta must be a finite number in \(0, inf\), got nan$"),
        (("huber", "1"), TypeError, r"^loss: delta must be a finite number in \(0, inf\), got '1'$"),
        (("quantile", None), TypeError, r"^loss: level must be a finite number in \(0, 1\), got None$"),
        (("huber", True), TypeError, r"^loss: delta must be a finite number in \(0, inf\), got True$"),
        (("huber", 1.0, 2.0), ValueError, r"^loss must be one of .*'huber', \('huber', delta\), .*, got \('huber', 1"),
        (("absolute_error", 1.0), ValueError, r"^loss must be one of .*, got \('absolute_error', 1.0\)$"),
        ((["huber"], 1.0), ValueError, r"^loss must be one of .*, got \(\['huber'\], 1.0\)$"),
        (1.0, ValueError, r"^loss must be one of .*, got 1.0$"),
    ],
)
def test_what_is_wrong_is_said_by_every_method_before_anything_changes(given, error, message):
    model, X, y = MLP([3, 4, 2], output="identity", seed=0), np.ones((5, 3)), np.ones((5, 2))
    before = model.parameters.copy()
    for method in (model.fit, model.train_on_batch, model.evaluate, model.loss_and_gradients, model.profile):
        with pytest.raises(error, match=message):
            method(X, y, loss=given)
    np.testing.assert_array_equal(model.parameters, before)


@pytest.mark.parametrize("loss", OF_NUMBERS, ids=str)
def test_every_method_means_the_same_loss(loss):
    X, y = random_arrays(0, (37, 3))[0], random_target(1, loss, 37, 2)
    model, weight = MLP([3, 4, 2], "tanh", "identity", dtype="float64", seed=0), random_row_weights(1, 37)
    value, _ = loss_of(reference, loss if isinstance(loss, str) else loss[0])(model.predict(X), y)
    assert model.evaluate(X, y, loss=loss)["loss"] == pytest.approx(value, rel=1e-13)
    assert model.loss_and_gradients(X, y, loss=loss)[0] == pytest.approx(value, rel=1e-13)
    weighted, _, _, _ = model.loss_and_gradients(X, y, loss=loss, sample_weight=weight)
    assert model.train_on_batch(X, y, SGD(0.1), loss=loss)["loss"] == pytest.approx(value, rel=1e-13)
    model = MLP([3, 4, 2], "tanh", "identity", dtype="float64", seed=0)
    history = model.fit(X, y, 1, 37, SGD(0.1), loss, sample_weight=weight, validation_data=(X, y), progress=False)
    assert history.loss[0] == pytest.approx(weighted, rel=1e-13)
    assert history.val_loss[0] == pytest.approx(model.evaluate(X, y, loss=loss)["loss"], rel=1e-13)
    assert history.val_r2[0] == pytest.approx(model.evaluate(X, y)["r2"], rel=1e-13)


@pytest.mark.parametrize("loss", OF_NUMBERS, ids=str)
def test_any_number_of_threads_gives_the_same_bits(loss):
    X, y = random_arrays(0, (600, 64), dtype="float32")[0], random_target(1, loss, 600, 10, "float32")
    results = []
    for threads in (1, 2, 3):
        model = MLP([64, 300, 129, 10], output="identity", threads=threads, seed=0)
        history = model.fit(X, y, 2, 128, Adam(1e-3), loss, validation_split=0.2, progress=False)
        assert history.threads == threads
        results.append([model.parameters, history.loss, history.val_loss, history.val_r2])
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def waves(seed, n):
    """x in [-1, 1], and a wave of it; the noise on top grows with x. All (n, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.0, 1.0, (n, 1))
    wave = np.sin(3.0 * x)
    return x, wave, wave + (0.2 + 0.3 * (x + 1.0)) * rng.standard_normal((n, 1))


@pytest.mark.parametrize("level", [0.1, 0.75, 0.9])
def test_so_many_targets_lie_below_a_quantile(level):
    """In both halves, where their spread differs: not an interval around a mean."""
    (x, _, y), (new_x, _, new_y) = waves(0, 4000), waves(1, 4000)
    model = MLP([1, 32, 1], "tanh", "identity", seed=0)
    model.fit(x, y, 60, 200, Adam(CosineDecay(0.02, 60 * 20)), ("quantile", level), progress=False)
    below = new_y < model.predict(new_x)
    deviation = np.sqrt(level * (1.0 - level) / 2000)  # of a share of 2000
    for half in (new_x < 0.0, new_x > 0.0):
        assert abs(below[half].mean() - level) < 0.02 + 2.0 * deviation


def test_outliers_pull_at_squares_alone():
    (x, _, y), (new_x, wave, _) = waves(2, 2000), waves(3, 2000)
    y[::20] += 30.0
    errors = {}
    for loss in ("mean_squared_error", "absolute_error", ("huber", 0.1)):
        model = MLP([1, 32, 1], "tanh", "identity", seed=0)
        model.fit(x, y, 60, 100, Adam(CosineDecay(0.02, 60 * 20)), loss, progress=False)
        errors[loss] = np.sqrt(np.mean((model.predict(new_x) - wave) ** 2))
    assert errors.pop("mean_squared_error") > 1.0  # their mean is 1.5
    assert max(errors.values()) < 0.2, errors


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_huber_loss_that_no_error_reaches_is_half_a_squared_error(dtype):
    X, y = random_arrays(4, (50, 3), (50, 2), dtype=dtype)
    models = []
    for loss, rate in ((("huber", 100.0), 0.2), ("mean_squared_error", 0.1)):
        model = MLP([3, 5, 2], "tanh", "identity", dtype=dtype, seed=0)
        model.fit(X, y, 3, 16, SGD(rate), loss, progress=False)
        models.append(model)
    assert np.abs(models[0].parameters - MLP([3, 5, 2], "tanh", dtype=dtype, seed=0).parameters).max() > 0.01
    np.testing.assert_allclose(models[0].parameters, models[1].parameters, 0, 10 * tolerance(dtype, 100))
