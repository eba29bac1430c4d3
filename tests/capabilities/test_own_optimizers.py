"""An optimiser of a program's own, declared as those of this library are: the example of the documentation."""

import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from sklearn.exceptions import ConvergenceWarning

import fastnn
import kernels
from fastnn import optimizers
from fastnn.optimizers import Optimizer, Rate, Update, declare
from kernels import api
from kernels.cpu.engine.operations.update import kernels_of
from kernels.declarations.sources import rule_hash
from kernels.optimizers import known
from tests.oracle import assert_close, random_arrays, random_labels

PAGE = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text()


@pytest.fixture
def heavy_ball(monkeypatch):
    """The page's class, which is known for the time of a test."""
    monkeypatch.setattr(known, "_known", dict(known._known))
    X, y = random_arrays(1, (60, 4), dtype="float32")[0], random_labels(2, 60, 3)
    scope = {"X": X, "y": y, "__name__": __name__}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, __file__, "exec"), scope)
    yield scope["HeavyBall"]
    del api.steps["heavy_ball"]


def test_the_page_lists_what_is_known():
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted((name, known[name].__name__) for name in known)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_it_makes_the_steps_of_the_same_text(heavy_ball, dtype):
    X, y = random_arrays(3, (100, 7), dtype=dtype)[0], random_labels(4, 100, 3)
    nets = [fastnn.MLP([7, 33, 3], dtype=dtype, seed=0, device="cpu") for _ in range(2)]
    before = nets[0].parameters.copy()
    for net, optimizer in zip(nets, (heavy_ball(0.1), fastnn.SGD(0.1, momentum=0.9)), strict=True):
        net.fit(X, y, 3, 32, optimizer, l2=0.1, progress=False)
    np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-4, atol=1e-6)
    assert np.abs(nets[0].parameters - before).max() > 0.01
    assert nets[0].predict(X).shape == (100, 3)


def test_it_is_known_by_its_name(heavy_ball):
    assert optimizers.get("heavy_ball") == heavy_ball()
    assert optimizers.HeavyBall is heavy_ball


def test_its_kernels_are_cached_by_its_text(heavy_ball):
    def rule(w, g, velocity, learning_rate, momentum):
        new = momentum * velocity - learning_rate * g
        return w - new, new

    (update,) = heavy_ball.updates
    other = Update(("velocity",), rule, update.scalars)
    assert rule_hash(update.rule) in kernels_of(update).stamp
    assert kernels_of(update).stamp != kernels_of(other).stamp
    assert kernels_of(update) is kernels_of(Update(("velocity",), update.rule, scalars))


def scalars(learning_rate):
    return (learning_rate,)


def test_what_a_rule_reads_is_taken_when_it_is_made():
    factor = 2.0
    update = Update((), lambda w, g, rate: (w - factor * rate * g,), scalars)
    factor = 3.0
    assert update.rule(1.0, 1.0, 0.25) == (0.5,)


def test_what_is_declared_wrongly_is_said_at_once(heavy_ball):
    with pytest.raises(TypeError, match=r"^rule must take \(w, g, m\) and then scalars, got \(w, g, v, rate\)$"):
        Update(("m",), lambda w, g, v, rate: (w, v), scalars)
    with pytest.raises(TypeError, match=r"^rule must return the tuple \(new w, new m\), got "):
        Update(("m",), lambda w, g, m, rate: w - rate * g, scalars)
    with pytest.raises(TypeError, match=r"^rule must be a Python function of \(w, g, rate\), got <function"):
        Update((), lambda w, g, rate=0.1: (w - rate * g,), scalars)
    with pytest.raises(TypeError, match=r"^rule must read numbers .* alone, got np, which is a module$"):
        Update((), lambda w, g, rate: (w - rate * np.sign(g),), scalars)
    with pytest.raises(TypeError, match=r"^an optimiser must be a class derived from Optimizer, got 'HeavyBall'$"):
        declare("mine")("HeavyBall")

    @dataclass(frozen=True)
    class Lacking(Optimizer):
        learning_rate: Rate = 0.1
        updates = (Update((), lambda w, g, rate: (w - rate * g,), lambda learning_rate, speed: (learning_rate,)),)

    with pytest.raises(ValueError, match=r"^scalars must take some of step, learning_rate of Lacking, got 'speed'$"):
        declare("lacking")(Lacking)

    @dataclass(frozen=True)
    class Short(Optimizer):
        learning_rate: Rate = 0.1
        updates = (Update((), lambda w, g, rate, other: (w - rate * g,), scalars),)

    with pytest.raises(TypeError, match=r"^scalars must return the tuple \(rate, other\), got 1 numbers$"):
        fastnn.MLP([2, 1], output="sigmoid", device="cpu").train_on_batch(np.ones((3, 2)), np.ones(3), Short())


@pytest.mark.parametrize(
    ("name", "whose"),
    [
        ("adam", "fastnn's own optimizer"), ("huber", "fastnn's own loss"), ("def", "Python's own"),
        ("lbfgs", "a solver of scikit-learn's"), ("linear", "kernels' own"), ("softmax", "kernels' own"),
        ("api", "kernels' own"), ("cpu", "kernels' own"),
    ],
)  # fmt: skip
def test_names_that_mean_something_else_are_refused(heavy_ball, name, whose):
    before = getattr(kernels, name, None)
    with pytest.raises(ValueError, match=f"^name must be a new one, but '{name}' is {whose}$"):
        declare(name)(heavy_ball)
    assert getattr(kernels, name, None) is before


def test_a_loss_and_an_optimiser_have_two_names(heavy_ball):
    with pytest.raises(ValueError, match=r"^name must be a new one, but 'heavy_ball' is this program's own optimizer$"):
        fastnn.Loss("heavy_ball", lambda z, t: (z * z, 2.0 * z))


@pytest.mark.parametrize("kind", [fastnn.MLPClassifier, fastnn.MLPRegressor])
def test_estimators_take_it_by_its_name(heavy_ball, kind):
    X, y = random_arrays(3, (80, 4))[0], random_labels(4, 80, 3)
    options = {"hidden_layer_sizes": (8,), "max_iter": 3, "random_state": 0, "n_iter_no_change": 100}
    found = []
    for solver, more in (("heavy_ball", {}), ("sgd", {"momentum": 0.9, "nesterovs_momentum": False})):
        model = kind(solver=solver, learning_rate_init=0.05, clip_norm=10.0, **options, **more)
        with pytest.warns(ConvergenceWarning):
            model.fit(X, y)
        found.append(model)
    assert isinstance(found[0]._optimizer.memory.optimizer, heavy_ball)
    np.testing.assert_allclose(found[0].coefs_[0], found[1].coefs_[0], rtol=1e-9)
    assert found[0]._optimizer.memory.optimizer.momentum == 0.9


@pytest.mark.parametrize("solver", [name for name in known if name not in ("sgd", "adam")])
def test_estimators_take_the_others_by_their_names(solver):
    X, y = random_arrays(3, (80, 4))[0], random_labels(4, 80, 3)
    model = fastnn.MLPClassifier(8, solver=solver, max_iter=4, random_state=0)
    for _ in range(4):
        model.partial_fit(X, y, classes=[0, 1, 2])
    assert type(model._optimizer.memory.optimizer) is known[solver]
    assert model._optimizer.memory.optimizer.learning_rate(np.zeros(1)) == 0.001
    assert model.loss_curve_[-1] < model.loss_curve_[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_step_is_a_function_of_kernels_also_in_compiled_code(heavy_ball, dtype):
    @njit
    def compiled(w, dw, velocity):
        kernels.heavy_ball(w, dw, velocity, learning_rate=0.1, momentum=0.5)

    w, dw, velocity = random_arrays(3, (5, 7), (5, 7), (5, 7), dtype=dtype)
    new = 0.5 * velocity.astype(float) - 0.1 * dw
    expected = w + new
    steps = (compiled, lambda *arrays: kernels.heavy_ball(*arrays, learning_rate=0.1, momentum=0.5))
    for step in (*steps, lambda *arrays: heavy_ball.reference(*arrays, learning_rate=0.1, momentum=0.5)):
        mine = w.copy(), dw, velocity.copy()
        step(*mine)
        assert_close(mine[0], expected, dtype, 2)
        assert_close(mine[2], new, dtype, 2)
    assert str(inspect.signature(kernels.heavy_ball)) == "(w, dw, velocity, *, learning_rate=0.01, momentum=0.9)"
    with pytest.raises(ValueError, match=r"^momentum must be a finite number in \[0, 1\], got 2$"):
        kernels.heavy_ball(w, dw, velocity, momentum=2)
