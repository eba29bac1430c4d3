"""Losses that a program declares: everywhere by name, their derivative checked, their kernels in the cache by rule."""

import json
import os
from argparse import Namespace

import numpy as np
import pytest
from numba import njit

import fastnn
import kernels
from fastnn import losses
from fastnn.cli import models
from fastnn.tables.table import DataError
from kernels import reference
from kernels.cpu.rowwise.loss import losses as compiled
from kernels.maths import exp, log, log1p, select
from tests import oracle
from tests.programs import PACKAGES, environment, run

SCALE = 0.5


def smooth(z, target):
    """(z - t) arctan-like, of everything a rule may have: a global number, another rule, a choice."""
    error = z - target
    return SCALE * error * error / (1.0 + select(error < 0.0, -error, error))


def smooth_slope(z, target):
    error = z - target
    size = abs(error)
    return SCALE * error * (2.0 + size) / ((1.0 + size) * (1.0 + size))


@pytest.fixture(autouse=True)
def _forgotten():
    """What a test declares is known no more after it."""
    known = dict(losses.LOSSES._known)
    yield
    losses.LOSSES._known.clear()
    losses.LOSSES._known.update(known)


@pytest.fixture
def mine():
    return fastnn.Loss("mine", smooth, smooth_slope)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_loss_of_ones_own_is_one_like_the_others(mine, dtype):
    z, target = oracle.random_arrays(0, (21, 37), (21, 37), dtype=dtype)
    weight, dz = oracle.random_row_weights(1, 21, dtype), np.full_like(z, np.nan)
    value, gradient = kernels.mine(z, target, weight)
    expected, exact = reference.loss_and_gradient("mine", z, target, weight)
    oracle.assert_close(value, expected, dtype, 37)
    oracle.assert_close(gradient, exact, dtype, 37, np.abs(exact).max())

    @njit
    def call(z, target, weight, dz):
        return kernels.mine(z, target, weight, dz=dz)[0]

    assert call(z, target, weight, dz) == value
    np.testing.assert_array_equal(dz, gradient)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_networks_and_estimators_learn_by_it(mine):
    X, y = oracle.random_arrays(2, (40, 3), (40, 2))
    net = fastnn.MLP([3, 4, 2], "tanh", "identity", dtype="float64", seed=0)
    value, dw, _, _ = net.loss_and_gradients(X, y, loss="mine")
    assert net.evaluate(X, y, loss="mine")["loss"] == pytest.approx(value)

    def at(weights):
        net.weights[0][...] = weights
        return net.loss_and_gradients(X, y, loss="mine")[0]

    oracle.assert_gradient(dw[0], at, net.weights[0].copy())
    history = net.fit(X, y, 20, 40, fastnn.Adam(0.01), "mine", progress=False)
    assert history.loss[-1] < 0.9 * history.loss[0]
    model = fastnn.MLPRegressor("mine", 8, random_state=0, max_iter=20, tol=0.0, n_iter_no_change=100).fit(X, y)
    assert model.loss_curve_[-1] < model.loss_curve_[0]


def test_sums_parameters_and_outputs():
    def counted(z, target, power):
        return power * log1p(exp(z)) - target * z, power / (1.0 + exp(-z)) - target

    fastnn.Loss(
        "counted", counted, mean=False, targets=losses.Targets(0, 1), parameter=losses.Parameter("power", 0, 9, 1.0),
        outputs=("sigmoid",),
    )  # fmt: skip
    z, target = oracle.random_arrays(3, (9, 5))[0], oracle.random_target(4, "counted", 9, 5)
    value, dz = kernels.counted(z, target)
    expected, exact = kernels.sigmoid_cross_entropy(z, target)
    oracle.assert_close(value, expected, np.float64, 5)
    oracle.assert_close(dz, exact, np.float64, 5, np.abs(exact).max())
    assert kernels.counted(z, target, power=2.0)[0] > value
    net = fastnn.MLP([5, 5], output="sigmoid", dtype="float64", seed=0)
    assert net.evaluate(z, target, loss="counted")["loss"] == pytest.approx(net.evaluate(z, target)["loss"])
    with pytest.raises(ValueError, match=r"^target must lie in \[0, 1\], got values from"):
        kernels.counted(z, 2.0 + target)
    with pytest.raises(ValueError, match=r"^power must be a finite number in \(0, 9\), got 9$"):
        kernels.counted(z, target, power=9)


def test_another_rule_is_another_loss(mine):
    """By the same name: what was compiled for the first is not taken for the second, in memory or on disk."""
    z, target = oracle.random_arrays(5, (9, 5), (9, 5))
    first, stamp = kernels.mine(z, target)[0], compiled["mine"].stamp
    fastnn.Loss("mine", lambda z, t: 2.0 * smooth(z, t), lambda z, t: 2.0 * smooth_slope(z, t))
    assert kernels.mine(z, target)[0] == pytest.approx(2.0 * first)
    fastnn.Loss("mine", smooth, smooth_slope, mean=False)
    assert kernels.mine(z, target)[0] == pytest.approx(5.0 * first)
    assert stamp != compiled["mine"].stamp
    fastnn.Loss("mine", smooth, smooth_slope)
    assert stamp == compiled["mine"].stamp
    assert kernels.mine(z, target)[0] == first


def test_what_a_rule_reads_is_taken_when_it_is_made():
    scale = 2.0
    fastnn.Loss("mine", lambda z, t: scale * smooth(z, t), lambda z, t: scale * smooth_slope(z, t))
    scale = 3.0
    z, target = oracle.random_arrays(7, (9, 5), (9, 5))
    value, dz = kernels.mine(z, target)
    expected, exact = reference.loss_and_gradient("mine", z, target)
    assert value == pytest.approx(expected) == pytest.approx(2.0 * np.mean(smooth(z, target)))
    np.testing.assert_allclose(dz, exact)


@pytest.mark.parametrize(
    ("f", "df", "message"),
    [
        (smooth, lambda z, t: -smooth_slope(z, t), r"^df must be the derivative of f .* at z = -?\d.*, target = -?\d"),
        (smooth, lambda z, t: 1.00001 * smooth_slope(z, t), "^df must be the derivative of f .* but by central"),
        (lambda z, t: (smooth(z, t), z), None, "^the second value of f must be the derivative of f"),
        (smooth, None, r"^df must be given, or f return \(loss, its derivative"),
        (lambda z, t: z * float("nan"), smooth_slope, "^f must have a slope somewhere"),
    ],
)
def test_a_wrong_derivative_is_refused(f, df, message):
    with pytest.raises(ValueError, match=message):
        fastnn.Loss("wrong", f, df)
    assert "wrong" not in losses.LOSSES
    assert not hasattr(kernels, "wrong")


def test_a_derivative_is_compared_far_from_0_and_with_several_parameters():
    def far(z, target):
        return select(abs(z - target) > 10.0, 0.0, 2.0 * (z - target))

    with pytest.raises(ValueError, match=r"^df must be the derivative of f .* at z = -19\.\d+, target"):
        fastnn.Loss("wrong", lambda z, t: (z - t) * (z - t), far)
    power = losses.Parameter("power", 0, np.inf, default=1.0)
    with pytest.raises(ValueError, match=r"^df must be the derivative of f .*, power = \d"):
        fastnn.Loss(
            "wrong", lambda z, t, p: p * p * (z - t) * (z - t), lambda z, t, p: 2.0 * p * (z - t), parameter=power
        )
    fastnn.Loss(  # rounded where 1 - y is 0 nearly
        "naive",
        lambda z, t: -t * log(1.0 / (1.0 + exp(-z))) - (1.0 - t) * log(1.0 - 1.0 / (1.0 + exp(-z))),
        lambda z, t: 1.0 / (1.0 + exp(-z)) - t,
        targets=losses.Targets(0, 1),
    )


@pytest.mark.parametrize("least", [-np.inf, -3.0])
@pytest.mark.parametrize("most", [np.inf, 1.0])
def test_ranges_may_be_infinite(least, most):
    fastnn.Loss(
        "mine", lambda z, t, p: (z - t) * (z - t) + p * z, lambda z, t, p: 2.0 * (z - t) + p,
        targets=losses.Targets(least, most), parameter=losses.Parameter("p", least, most, default=0.0),
    )  # fmt: skip
    z, target = oracle.random_arrays(8, (9, 5))[0], np.zeros((9, 5))
    assert kernels.mine(z, target)[0] == pytest.approx(np.mean(z * z))
    assert kernels.mine(z, target, p=0.5)[0] == pytest.approx(np.mean(z * z + 0.5 * z))


def test_kinks_do_not_count():
    fastnn.Loss("kinked", lambda z, t: abs(z - t), lambda z, t: select(z < t, -1.0, 1.0))
    fastnn.Loss("stepped", lambda z, t: abs(z - 0.3183), lambda z, t: select(z < 0.3183, -1.0, 1.0))
    z, target = oracle.random_arrays(6, (9, 5), (9, 5))
    np.testing.assert_array_equal(kernels.kinked(z, target)[1], kernels.absolute_error(z, target)[1])


@pytest.mark.parametrize(
    ("name", "f", "error", "message"),
    [
        ("huber", smooth, ValueError, "^name must be a new one, but 'huber' is fastnn's own loss$"),
        ("adam", smooth, ValueError, "^name must be a new one, but 'adam' is fastnn's own optimizer$"),
        ("linear", smooth, ValueError, "^name must be a new one, but 'linear' is kernels' own$"),
        ("reference", smooth, ValueError, "^name must be a new one, but 'reference' is kernels' own$"),
        ("lambda", smooth, ValueError, "^name must be a new one, but 'lambda' is Python's own$"),
        ("no name", smooth, ValueError, "^name must be an identifier, got 'no name'$"),
        ("mine", abs, TypeError, r"^f must be a Python function of \(z, target\), got <built-in"),
        ("mine", lambda z: z, TypeError, r"^f must be a Python function of \(z, target\), got <function"),
        ("mine", None, TypeError, r"^f must be a Python function of \(z, target\), got None$"),
        ("mine", lambda z, t: np.exp(z - t), TypeError, "^f must read numbers .* alone, got np, which is a module$"),
        (
            "mine",
            lambda z, t: undefined(z),  # noqa: F821
            ValueError,
            "^f must take any number, but at z = -19.09.* fails: name 'undef",
        ),
    ],
)
def test_what_is_no_loss_is_refused(name, f, error, message):
    with pytest.raises(error, match=message):
        fastnn.Loss(name, f, smooth_slope)
    with pytest.raises(ValueError, match=r"^outputs must be a tuple of identity, .*, got 'softmax'$"):
        fastnn.Loss("mine", smooth, smooth_slope, outputs="softmax")
    with pytest.raises(ValueError, match=r"^reads must be 'z', for others are fastnn's own, got 'y'$"):
        fastnn.Loss("mine", smooth, smooth_slope, reads="y")


@pytest.mark.parametrize("name", ["z", "target", "weight", "dz", "no name", "lambda", "_p", 3])
def test_what_is_no_name_of_a_parameter_is_refused(name):
    """It would be an argument of compiled functions, and spoil those of all others."""
    with pytest.raises(ValueError, match=f"^parameter must have an.*, got {name!r}$"):
        fastnn.Loss("mine", lambda z, t, p: (p * z, p), parameter=losses.Parameter(name, 0, 1))
    assert "mine" not in losses.LOSSES


def test_a_parameter_may_have_any_other_name():
    for name in ("loss", "typed", "mine"):
        fastnn.Loss("mine", lambda z, t, p: (p * z, p), parameter=losses.Parameter(name, 0, 9, default=2.0))
        z = np.ones((3, 2))
        assert kernels.mine(z, z, **{name: 3.0})[0] == 3.0
        assert njit(lambda z, dz: kernels.mine(z, z, dz=dz)[0])(z, z.copy()) == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": (0, 1)}, r"^targets must be fastnn\.losses\.Targets\(.*, got \(0, 1\)$"),
        ({"targets": losses.Targets(1, 0)}, "^targets must lie between two numbers, least < most, got 1 and 0$"),
        ({"targets": losses.Targets(only=[0, 1])}, r"^targets must have a tuple of numbers as only, got \[0, 1\]$"),
        ({"targets": losses.Targets(labels=True)}, "^targets must have labels=False, .*, got labels=True$"),
        ({"parameter": "x"}, r"^parameter must be fastnn\.losses\.Parameter\(.*, got 'x'$"),
        ({"parameter": losses.Parameter("p", 1, 0)}, "^parameter must lie between two numbers, .*, got 1 and 0$"),
        ({"parameter": losses.Parameter("p", 0, 1, 2.0)}, r"^parameter: default must be .* in \(0, 1\), got 2\.0$"),
        ({"parameter": losses.Parameter("p", 0, 1, "x")}, r"^parameter: default must be .* in \(0, 1\), got 'x'$"),
        ({"mean": 5}, "^mean must be True or False, got 5$"),
        ({"averaged": "x"}, "^averaged must be True or False, got 'x'$"),
        ({"baseline": "mode"}, "^baseline must be one of 'mean', 'median', 'quantile', got 'mode'$"),
        ({"baseline": "quantile"}, "^baseline must be 'mean' or 'median' where there is no parameter"),
        ({"default_of": "identity"}, "^default_of must be '', for others are fastnn's own, got 'identity'$"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fastnn.Loss("mine", smooth, smooth_slope, **options)
    assert "mine" not in losses.LOSSES


def test_a_loss_that_is_not_known_says_how_to_make_it_known():
    net, X = fastnn.MLP([3, 2], output="identity", seed=0), np.ones((4, 3))
    with pytest.raises(ValueError, match=r"; a loss of one's own is known once fastnn\.Loss\(.*\) was made$"):
        net.evaluate(X, X[:, :2], loss="theirs")
    with pytest.raises(ValueError, match="got 'theirs'; a loss of one's own is known once"):
        fastnn.MLPRegressor("theirs").fit(X, X[:, 0])


def test_a_saved_model_says_which_loss_is_not_known(tmp_path):
    net, path = fastnn.MLP([3, 2], output="identity", seed=0), str(tmp_path / "net.npz")
    net.metadata |= {"inputs": {}, "target": {}, "loss": ["theirs", 0.5]}
    net.save(path)
    with pytest.raises(DataError, match=r"net\.npz: has learnt by the loss 'theirs', which is not known"):
        models.load(Namespace(model=path, precision=None))
    assert fastnn.load(path).metadata["loss"] == ["theirs", 0.5]


CALLER = """
import json, os
from math import inf
import numpy as np
from numba import njit
import kernels
from kernels.cpu.compiler import jit
from kernels.losses import Loss, Parameter

scale = float(os.environ["SCALE"])
given = eval(os.environ.get("GIVEN", "{}"))
if "parameter" in given:
    Loss("mine", lambda z, t, p: p * scale * (z - t) * (z - t), lambda z, t, p: 2.0 * scale * p * (z - t), **given)
else:
    Loss("mine", lambda z, t: scale * (z - t) * (z - t), lambda z, t: 2.0 * scale * (z - t), **given)

@njit(cache=True)
def call(z, t, dz):
    return kernels.mine(z, t, dz=dz)[0]

z = np.ones((3, 2))
value = call(z, 0.0 * z, z.copy())
loaded = [kernel.code.cache_hits for kernel in jit.Kernel.loaded if kernel.family.name == "loss_mine"]
print(json.dumps([value, sum(call.stats.cache_hits.values()), loaded]))
"""


def test_a_cached_caller_finds_it_in_the_next_process_and_no_other(tmp_path):
    (tmp_path / "callers.py").write_text(CALLER)
    path = os.pathsep.join(map(str, [tmp_path, PACKAGES]))
    variables = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    results = [json.loads(run("import callers", env=environment(SCALE=n, **variables)).stdout) for n in "113"]
    assert results == [[1.0, 0, [0]], [1.0, 1, [1]], [3.0, 0, [0]]]


def test_a_cached_caller_of_a_changed_declaration_is_compiled_anew(tmp_path):
    """Of what is not in the rule: the mean over rows, and the default of a parameter."""
    (tmp_path / "callers.py").write_text(CALLER)
    path = os.pathsep.join(map(str, [tmp_path, PACKAGES]))
    variables = {"PYTHONPATH": path, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "SCALE": "1"}
    changes = ["{}", "{'averaged': False}", *(f"{{'parameter': Parameter('p', 0, inf, {p})}}" for p in (2.0, 4.0))]
    results = [json.loads(run("import callers", env=environment(GIVEN=given, **variables)).stdout) for given in changes]
    assert [value for value, *_ in results] == [1.0, 3.0, 2.0, 4.0]
