"""Activations of a program's own: what is refused when one is made, and what works by its name from then on."""

import pickle
import re
import textwrap

import numpy as np
import pytest
from numba import njit

import fastnn
import kernels
from fastnn import cli
from kernels import devices
from kernels.activations import ACTIVATIONS, silu
from kernels.activations.silu import silu as plain_silu
from kernels.activations.silu import slope as silu_slope
from kernels.maths import exp, select, tanh
from tests import oracle
from tests.fastnn.files.test_interop import run as run_onnx
from tests.fastnn.test_gradients import check as check_gradients
from tests.fastnn.test_gradients import make_data, make_model
from tests.programs import environment, run

STEEPNESS = np.float64(2.0)


def sloped(z):
    return exp(-abs(STEEPNESS * z))


def steep(z):
    """A branch, a rule of its own, and a number of NumPy's."""
    return z + sloped(z) if z > 0.0 else z + 1.0


def steep_slope(z):
    return 1.0 - STEEPNESS * sloped(z) if z > 0.0 else 1.0


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """Names that a test makes are known to it alone."""
    for name in ("_known", "_aliases", "kept"):
        monkeypatch.setattr(ACTIVATIONS, name, getattr(ACTIVATIONS, name).copy())


class Holder:
    factor = 2.0


REFUSED = [
    (("relu", abs, abs), ValueError, "'relu' is fastnn's own activation"),
    (("softmax", abs, abs), ValueError, "^name must be a new one, but 'softmax' is an output activation$"),
    (("exp", abs, abs), ValueError, "^name must be a new one, but 'exp' is an output activation$"),
    (("None", abs, abs), ValueError, "^name must be a new one, but 'None' is Python's own$"),
    (("no name", abs, abs), ValueError, "name must be an identifier"),
    (("a_backward", abs, abs), ValueError, "must not end in _backward"),
    (("a", abs, abs), TypeError, r"^function must be a Python function of \(z\), got <built-in"),
    (("a", lambda z, k=2: k * z, abs), TypeError, r"^function must be a Python function of \(z\), got"),
    (("a", lambda z: np.exp(z), abs), TypeError, "^function must read numbers.* alone, got np, which is a module$"),
    (("a", lambda z: z, lambda z: Holder.factor), TypeError, "^slope must read .*, got Holder, which is a type$"),
    (("a", lambda z: undefined(z), lambda z: 1), ValueError, "^function must take any .* at z = -20 it fails: name 'u"),  # noqa: F821
    (("a", lambda z: z * z, lambda z: 2.001 * z), ValueError,
     "^slope must be the derivative of function .*: at z = -20 it is -40.02, but by .* function has the slope -40$"),
    (("a", lambda z: z, lambda z: np_nan * z), ValueError, "at z = -20 it is nan"),
    (("a", lambda z: np_nan * z, lambda z: z), ValueError, "^function must have a slope somewhere between z = -20 and"),
]  # fmt: skip
np_nan = float("nan")


def test_a_rule_may_be_one_that_is_offered():
    own = fastnn.Activation("own_tanh", tanh, lambda y: 1.0 - y * y, slope_reads="y")
    assert own.function is tanh


@pytest.mark.parametrize(("arguments", "kind", "message"), REFUSED)
def test_what_is_refused(arguments, kind, message):
    before = list(ACTIVATIONS)
    with pytest.raises(kind, match=message):
        fastnn.Activation(*arguments)
    assert list(ACTIVATIONS) == before


@pytest.mark.parametrize(("option", "value"), [("slope_reads", "x"), ("init", "normal"), ("floor", 0.0)])
def test_options_that_are_refused(option, value):
    with pytest.raises(ValueError, match=rf"{option} must be .* got {value!r}"):
        fastnn.Activation("a", silu.silu, silu.slope, **{option: value})


def test_a_kink_does_not_count():
    fastnn.Activation("hinge", lambda z: select(z < 0.2, 0.0, z - 0.2), lambda z: select(z <= 0.2, 0.0, 1.0))
    with pytest.raises(ValueError, match=re.escape("at z = 0.25")):
        fastnn.Activation("hinge", lambda z: select(z < 0.2, 0.0, z - 0.2), lambda z: select(z <= 0.35, 0.0, 1.0))


def test_by_name_everywhere(tmp_path, capsys):
    fastnn.Activation("steep", steep, steep_slope, aliases=("sharp",), init="he")
    for dtype in ("float32", "float64"):
        z, dy = (6 * array for array in oracle.random_arrays(0, (7, 19), (7, 19), dtype=dtype))
        y = kernels.activate(z, "sharp")
        assert y.dtype == dtype
        oracle.assert_close(y, steep_of(z), dtype, 1, 1 + np.abs(z))
        model = make_model([7, 17, 5, 3], "steep", "identity", dtype)
        check_gradients(model, *make_data(model, 63, "mean_squared_error", dtype), "mean_squared_error")

    @njit
    def function(z, y):
        kernels.activate(z, "steep", out=y)

    function(z, dy)
    np.testing.assert_array_equal(dy, y)
    fastnn.Activation("steep", steep, steep_slope)  # the same once more
    with pytest.raises(ValueError, match=r"'steep' was another activation's, and calls .* compiled by Numba"):
        fastnn.Activation("steep", silu.silu, silu.slope)

    path = tmp_path / "model.npz"
    assert cli.main(["train", "iris", "--activation", "steep", "--epochs", "1", "--output", str(path)]) == 0
    net = fastnn.load(path)
    assert net.activations == ("steep", "steep")
    estimator = fastnn.MLPRegressor(hidden_layer_sizes=(5,), activation="steep", max_iter=3)
    assert pickle.loads(pickle.dumps(estimator)).activation == "steep"
    with pytest.raises(ValueError, match="activation 'steep' has no ONNX form"):
        fastnn.to_onnx(fastnn.MLP([3, 4, 1], "steep", "identity"))
    del ACTIVATIONS._known["steep"]
    with pytest.raises(ValueError, match=r"model.npz cannot be loaded: activation 'steep' is not known here: make it"):
        fastnn.load(path)
    assert cli.main(["predict", str(path), "iris"]) == 2
    assert "make it with fastnn.Activation before loading" in capsys.readouterr().err


def steep_of(z):
    z = z.astype(np.float64)
    return np.where(z > 0, z + np.exp(-2 * np.abs(z)), z + 1)


def test_what_was_pickled_says_how_its_activation_is_made_known():
    fastnn.Activation("steep", steep, steep_slope)
    X, y = oracle.random_arrays(1, (12, 3), (12, 1))
    net = fastnn.MLP([3, 4, 1], "steep", "identity", seed=0, device="cpu")
    estimator = fastnn.MLPRegressor(hidden_layer_sizes=(4,), activation="steep", random_state=0, batch_size=12)
    models = [pickle.dumps(model) for model in (net, estimator.partial_fit(X, y[:, 0]))]
    del ACTIVATIONS._known["steep"]
    for model in models:
        with pytest.raises(ValueError, match=r"got 'steep'; .* known once fastnn\.Activation"):
            pickle.loads(model).predict(X)


def test_a_form_for_onnx():
    fastnn.Activation("twice", lambda z: 2 * z, lambda y: 2.0, slope_reads="y", onnx=lambda g, z: g.node("Add", [z, z]))
    net, (X,) = make_model([3, 4, 2], "twice", "identity", "float32"), oracle.random_arrays(1, (5, 3), dtype="float32")
    np.testing.assert_allclose(run_onnx(fastnn.to_onnx(net), X)["y"], net.predict(X), rtol=1e-5)


def test_what_cannot_be_compiled_is_said_at_its_first_use():
    fastnn.Activation("text", lambda z: float("%.17g" % z), lambda z: 1.0)  # noqa: UP031
    model, X, y = fastnn.MLP([3, 4, 1], "text", "identity", seed=0), np.ones((5, 3)), np.ones((5, 1))
    before = model.parameters.copy()
    message = "function of activation 'text' cannot be compiled: "
    for use in (lambda: kernels.activate(X, "text"), lambda: model.predict(X), lambda: model.fit(X, y, progress=False)):
        with pytest.raises(ValueError, match=message):
            use()
    np.testing.assert_array_equal(model.parameters, before)
    with pytest.raises(Exception, match=message):
        njit(lambda x, y: kernels.activate(x, "text", out=y))(X, X.copy())


PROGRAM = textwrap.dedent("""
    import json, sys
    import numpy as np
    import fastnn
    from kernels.maths import tanh

    scale = float(sys.argv[1]) if len(sys.argv) > 1 else SCALE
    fastnn.Activation("mine", lambda z: scale * tanh(z), lambda z: scale * (1.0 - tanh(z) * tanh(z)))
    assert "numba" not in sys.modules
    scale = 7.0  # what it reads is taken when it is made

    import kernels
    from kernels.cpu.compiler import compiling
    compiled = []
    compile = compiling._CFunc._compile_uncached
    compiling._CFunc._compile_uncached = lambda self: (compiled.append(1), compile(self))[1]
    print(kernels.activate(np.ones((1, 1)), "mine")[0, 0] / np.tanh(1), len(compiled))
""")


def test_a_changed_function_is_not_taken_from_the_cache(tmp_path):
    env = environment(NUMBA_CACHE_DIR=str(tmp_path))
    said = [run(PROGRAM.replace("SCALE", scale), env=env).stdout.split() for scale in ("2.0", "2.0", "3.0", "2.0")]
    assert [(float(factor), count) for factor, count in said] == [(2, "1"), (2, "0"), (3, "1"), (2, "0")]


def test_a_model_made_afterwards_runs_the_new_one():
    for factor in (2.0, 3.0):
        fastnn.Activation("mine", lambda z: factor * z, lambda z: factor)  # noqa: B023
        model = fastnn.MLP([1, 1, 1], "mine", "identity", init="zeros")
        for w in model.weights:
            w[...] = 1
        assert model.predict([[1.0]]) == [[factor]]


@pytest.mark.skipif(not devices.has_extra() or devices.simulated(), reason=f"compiling for GPUs needs {devices.EXTRA}")
def test_kernels_for_gpus():
    from kernels.cuda.rowwise.elementwise import backward, forward

    stamps = []
    for factor in (2.0, 3.0):
        fastnn.Activation("mine", lambda z: factor * plain_silu(z), lambda z: factor * silu_slope(z))  # noqa: B023
        for family in (forward, backward):
            kernel = family("float32", ACTIVATIONS["mine"])
            (code,) = kernel.ptx((8, 0))
            assert "ret;" in code
            assert ".f64" not in code
        stamps.append(str(kernel.constants))  # a part of the cache's key
    assert stamps[0] != stamps[1]
