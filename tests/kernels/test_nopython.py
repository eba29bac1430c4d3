"""The kernels inside a user's own compiled code: the same bits as from Python, cached callers, prange."""

import json
import os
import shutil

import numpy as np
import pytest
from numba import njit, prange
from numba.core.errors import TypingError

import kernels
from tests import oracle
from tests.programs import PACKAGES, environment, run

DTYPES = (np.float32, np.float64)


@njit
def forward(x, w, b, y, pre):
    kernels.linear(x, w, b, activation="tanh", out=y)
    kernels.linear(x, w, activation="relu", out=y)
    return kernels.linear(x, w, b, "gelu", out=y, pre=pre)


@njit
def backward(dy, x, w, y, pre, dx, dw, db, dz):
    kernels.linear_backward(dy, x, w, dx=dx, dw=dw, db=db)
    kernels.linear_backward(dy, x, w, y, "sigmoid", dx=dx, dw=dw, db=db, dz=dz)
    return kernels.linear_backward(dy, x, w, activation="gelu", pre=pre, dx=dx, dw=dw, db=db, dz=dz)


@njit
def elementwise(z, dy, y, dz, p):
    kernels.activate(z, "silu", out=y)
    kernels.activate_backward(dy, activation="silu", pre=z, out=dz)
    kernels.activate(z, activation="tanh", out=y)
    kernels.activate_backward(dy, y, "tanh", out=dz)
    return kernels.softmax(z, out=p)


@njit
def losses(z, labels, t, weight, dz):
    return (
        kernels.softmax_cross_entropy(z, labels, dz=dz)[0],
        kernels.softmax_cross_entropy(z, t, weight, dz=dz)[0],
        kernels.huber(z, t, weight, dz=dz)[0],
        kernels.huber(z, t, None, 0.1, dz)[0],
        kernels.quantile(z, t, level=0.9, dz=dz)[0],
        kernels.sum_squared_error(z, t, weight, dz=dz)[0],
    )


@njit
def updates(w, dw, velocity, m, v, step):
    kernels.sgd(w, dw, learning_rate=0.1)
    kernels.sgd(w, dw, velocity, learning_rate=0.1, momentum=0.9, nesterov=True)
    kernels.adam(w, dw, m, v, step=step, beta1=0.8)


@pytest.fixture(params=DTYPES)
def layer(request):
    # small enough that Python's call stays on one thread too
    return oracle.random_arrays(0, (21, 19), (19, 37), (37,), (21, 37), dtype=request.param)


def test_linear(layer):
    x, w, b, _ = layer
    y, pre, same_pre = (np.full((21, 37), np.nan, x.dtype) for _ in range(3))
    assert forward(x, w, b, y, pre) is not None
    np.testing.assert_array_equal(y, kernels.linear(x, w, b, "gelu", pre=same_pre))
    np.testing.assert_array_equal(pre, same_pre)


def test_linear_backward(layer):
    x, w, _, dy = layer
    y = kernels.linear(x, w, None, "sigmoid")
    outputs = [np.full_like(a, np.nan) for a in (x, w, w[0], dy)]
    backward(dy, x, w, y, y, *outputs)
    expected = kernels.linear_backward(dy, x, w, activation="gelu", pre=y)
    for got, wanted in zip(outputs, (*expected, kernels.activate_backward(dy, activation="gelu", pre=y))):
        np.testing.assert_array_equal(got, wanted)


def test_elementwise(layer):
    *_, z = layer
    dy = z[::-1].copy()
    y, dz, p = (np.full_like(z, np.nan) for _ in range(3))
    elementwise(z, dy, y, dz, p)
    np.testing.assert_array_equal(y, kernels.activate(z, "tanh"))
    np.testing.assert_array_equal(dz, kernels.activate_backward(dy, y, "tanh"))
    np.testing.assert_array_equal(p, kernels.softmax(z))


def test_losses(layer):
    z = oracle.random_arrays(1, (900, 7), dtype=layer[0].dtype)[0]
    labels, dz = oracle.random_labels(2, *z.shape), np.full_like(z, np.nan)
    t, weight = kernels.softmax(z[::-1]), oracle.random_row_weights(3, 900, z.dtype)
    expected = (
        kernels.softmax_cross_entropy(z, labels)[0],
        kernels.softmax_cross_entropy(z, t, weight)[0],
        kernels.huber(z, t, weight)[0],
        kernels.huber(z, t, delta=0.1)[0],
        kernels.quantile(z, t, level=0.9)[0],
        kernels.sum_squared_error(z, t, weight)[0],
    )
    assert losses(z, labels, t, weight, dz) == expected
    np.testing.assert_array_equal(dz, kernels.sum_squared_error(z, t, weight)[1])


@njit
def losses_of_one_output(z, t, dz):
    return (
        kernels.sigmoid_cross_entropy(z, t, dz=dz)[0],
        kernels.sum_squared_error(z, t, dz=dz)[0],
        kernels.mean_squared_error(z, t, dz=dz)[0],
        kernels.absolute_error(z, t, dz=dz)[0],
    )


def test_losses_of_one_output_take_targets_without_columns(layer):
    z, t = oracle.random_arrays(1, (90, 1), (180,), dtype=layer[0].dtype)
    t, dz = (abs(t) / abs(t).max())[::2], np.full_like(z, np.nan)
    names = ("sigmoid_cross_entropy", "sum_squared_error", "mean_squared_error", "absolute_error")
    assert losses_of_one_output(z, t, dz) == tuple(getattr(kernels, name)(z, t)[0] for name in names)
    np.testing.assert_array_equal(dz, kernels.absolute_error(z, t)[1])


@pytest.mark.parametrize("step", [1, 7, 1000, 123_456])
def test_updates(layer, step):
    w, dw, velocity, m = oracle.random_arrays(4, *[(9, 7)] * 4, dtype=layer[0].dtype)
    arrays = [w, dw, velocity, m, m * m]
    twins = [a.copy() for a in arrays]
    updates(*arrays, step)
    w, dw, velocity, m, v = twins
    kernels.sgd(w, dw, learning_rate=0.1)
    kernels.sgd(w, dw, velocity, learning_rate=0.1, momentum=0.9, nesterov=True)
    kernels.adam(w, dw, m, v, step=step, beta1=0.8)
    for got, wanted in zip(arrays, twins):
        np.testing.assert_array_equal(got, wanted)


def test_updates_of_a_vector(layer):
    arrays = oracle.random_arrays(5, *[(50,)] * 4, dtype=layer[0].dtype)
    arrays = [*arrays, arrays[3] ** 2]
    twins = [a.copy() for a in arrays]
    updates(*arrays, 3)
    w, dw, velocity, m, v = twins
    kernels.sgd(w, dw, learning_rate=0.1)
    kernels.sgd(w, dw, velocity, learning_rate=0.1, momentum=0.9, nesterov=True)
    kernels.adam(w, dw, m, v, step=3, beta1=0.8)
    for got, wanted in zip(arrays, twins):
        np.testing.assert_array_equal(got, wanted)


def test_padded_rows(layer):
    x, w, b, _ = layer
    out = np.full((23, 50), 7, x.dtype)
    function = njit(lambda x, w, b, y: kernels.linear(x, w, b, "relu", out=y))
    function(x[::-1], w, b, out[1:22, 5:42])
    np.testing.assert_array_equal(out[1:22, 5:42], kernels.linear(x[::-1], w, b, "relu"))
    out[1:22, 5:42] = 7
    assert (out == 7).all()


X, W, Y = np.ones((4, 3), np.float32), np.ones((3, 5), np.float32), np.ones((4, 5), np.float32)
FROZEN = Y.copy()
FROZEN.flags.writeable = False
WEIGHT = np.ones(4, np.float32)


@pytest.mark.parametrize(
    ("call", "args", "message"),
    [
        (lambda x, w: kernels.linear(x, w), (X, W), "linear: out must be given inside compiled code"),
        (lambda x, w, y: kernels.linear(x, w, None, "softness", out=y), (X, W, Y), "activation must be a literal"),
        (lambda x, w, y: kernels.linear(x, w, out=y), (X, W.astype(float), Y), "all arrays must have one dtype"),
        (lambda x, w, y: kernels.linear(x, w, out=y), (X, W, Y[0]), "linear: out must be a float32 or float64 array"),
        (lambda x, w, y: kernels.linear(x, w, out=y), (X, W, FROZEN), "linear: out must be writable"),
        (lambda x, w, y: kernels.linear(x, w, W, out=y), (X, W, Y), "linear: b must be a float32 or float64 array"),
        (lambda x: kernels.activate(x, "relu"), (X,), "activate: out must be given"),
        (lambda x, y: kernels.activate_backward(x, None, "tanh", out=y), (X, X), "activate_backward: y must be given"),
        (lambda x, y: kernels.activate_backward(x, y, "gelu", out=y), (X, X), "activate_backward: pre must be given"),
        (lambda x: kernels.softmax(x), (X,), "softmax: out must be given"),
        (lambda x: kernels.mean_squared_error(x, x), (X,), "mean_squared_error: dz must be given"),
        (lambda z, t: kernels.sum_squared_error(z, t, dz=z), (X, np.arange(4)), "sum_squared_error: target must be"),
        (lambda z, t: kernels.sum_squared_error(z, 3, dz=z), (X, Y), "target must be a float32 or float64 array"),
        (lambda z, w: kernels.sum_squared_error(z, z, 3, dz=z), (X, Y), "weight must be a float32 or float64 array"),
        (
            lambda z, t: kernels.softmax_cross_entropy(z, t, dz=z),
            (X, np.zeros(4, np.int32)),
            r"target must be int64 labels \(B,\) or like z, got array\(int32, 1d, C\): pass target.astype\(np.int64\)",
        ),
        (
            lambda z, t: kernels.softmax_cross_entropy(z, t, dz=z),
            (X, WEIGHT),
            r"target must be int64 labels \(B,\) or like z, got array\(float32, 1d, C\)\n",
        ),
        (lambda z: kernels.linear_backward(z, X, W, dx=z, dw=z), (Y,), "linear_backward: db must be given"),
        (lambda z: kernels.quantile(z, z, dz=z), (X,), "quantile: level must be given"),
        (lambda w: kernels.sgd(w, w), (X,), "sgd: learning_rate must be given"),
        (lambda w: kernels.sgd(w, w, learning_rate=0.1), (FROZEN,), "sgd: w must be writable"),
        (lambda w: kernels.adam(w, w, w, w), (X,), "adam: step must be given"),
    ],
)
def test_typing_errors(call, args, message):
    with pytest.raises(TypingError, match=message):
        njit(call)(*args)


@pytest.mark.parametrize(
    ("call", "args", "message"),
    [
        (lambda x, w, y: kernels.linear(x, w, out=y), (X, W[:2], Y), "x must be .B, I., w .I, O. and out .B, O."),
        (lambda x, w, y: kernels.linear(x, w, out=y), (X, W, Y[:3]), "x must be .B, I., w .I, O. and out .B, O."),
        (lambda x, w, y: kernels.linear(x, w, y[0, :4], out=y), (X, W, Y), "b must be .O,."),
        (
            lambda x, w, y: kernels.linear(x, w, out=y),
            (X.repeat(2, 1)[:, ::2], W, Y),
            "^linear: x must have a unit stride",
        ),
        (lambda x, w, y: kernels.linear(x, w, out=y), (X, W.T.copy().T, Y), "^linear: w must have a unit stride"),
        (lambda w, g: kernels.sgd(w, g, learning_rate=0.1), (X, X.repeat(2, 1)[:, ::2]), "^sgd: dw must have a unit"),
        (lambda x, y: kernels.activate(x, "relu", out=y), (X, Y), "out must be like z"),
        (lambda x, y: kernels.softmax(x, out=y), (X, Y), "out must be like z"),
        (
            lambda z, t: kernels.softmax_cross_entropy(z, t, dz=z),
            (Y.copy(), np.arange(2, 6)),
            "^softmax_cross_entropy: target must hold labels from 0 to O - 1$",
        ),
        (
            lambda z, t: kernels.mean_squared_error(z, t, dz=z),
            (Y.copy(), X),
            "^mean_squared_error: target must be like z",
        ),
        (
            lambda z, t: kernels.mean_squared_error(z, t, dz=z),
            (Y.copy(), WEIGHT),
            r"^mean_squared_error: target must be like z, or \(B,\) where z is \(B, 1\)$",
        ),
        (
            lambda z, t: kernels.mean_squared_error(z, t, dz=z),
            (Y.copy(), Y[:3]),
            "^mean_squared_error: dz must be like z, and target must have as many rows$",
        ),
        (lambda z, w: kernels.mean_squared_error(z, z, w, dz=z), (Y.copy(), WEIGHT[:3]), "weight must be .B,."),
        (
            lambda z, d: kernels.huber(z, z, delta=d, dz=z),
            (X.copy(), 0.0),
            r"^huber: delta must be a finite number in \(0, inf\)$",
        ),
        (lambda z, d: kernels.huber(z, z, delta=d, dz=z), (X.copy(), np.inf), "^huber: delta must be a finite number"),
        (
            lambda z, p: kernels.quantile(z, z, level=p, dz=z),
            (X.copy(), 1),
            r"^quantile: level must be a finite number in \(0, 1\)$",
        ),
        (
            lambda z, p: kernels.quantile(z, z, level=p, dz=z),
            (X.copy(), np.nan),
            r"^quantile: level must be a finite number in \(0, 1\)$",
        ),
        (lambda w, g: kernels.sgd(w, g, learning_rate=0.1), (X, Y), "dw must be like w"),
        (lambda w, g: kernels.sgd(w, g, g[1:], learning_rate=0.1), (X.copy(), X), "must have one shape"),
        (lambda w: kernels.sgd(w, w, learning_rate=0.1, momentum=0.9), (X,), "velocity must be given with momentum"),
        (lambda w: kernels.adam(w, w, w[:2], w, step=1), (X,), "must have one shape"),
        (lambda w: kernels.adam(w, w, w, w, step=0), (X,), "step must be at least 1"),
    ],
)
def test_wrong_shapes_raise(call, args, message):
    with pytest.raises(ValueError, match=message):
        njit(call)(*args)


SCRIPT = """
import json
import numpy as np
import numba
from numba import njit, prange
import kernels

@njit(cache=True)
def one(x, w, b, y):
    kernels.linear(x, w, b, activation="sigmoid", out=y)
    kernels.activate(y, "leaky_relu", out=y)

@njit(cache=True, parallel=True)
def many(x, w, b, y):
    for i in prange(x.shape[0]):
        kernels.linear(x[i], w, b, activation="sigmoid", out=y[i])
        kernels.activate(y[i], "leaky_relu", out=y[i])

@njit(cache=True)
def leak(z, y):
    kernels.activate(z, "leaky_relu", out=y)

found = {}
for dtype in (np.float32, np.float64):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((40, 6, 19), (19, 37), (37,)))
    y, z = np.full((40, 6, 37), np.nan, dtype), np.full((6, 37), np.nan, dtype)
    if LAYER:
        many(x, w, b, y)
        one(x[3], w, b, z)
        expected = kernels.activate(kernels.linear(x.reshape(240, 19), w, b, "sigmoid"), "leaky_relu")
        assert (y.reshape(240, 37) == expected).all() and (z == y[3]).all()
        found["layer"] = numba.threading_layer()
    z = np.array([[-100.0, 3.0]], dtype)
    leak(z, z)
    found.setdefault("leak", []).append(float(z[0, 0]))
    assert z[0, 1] == 3.0
functions = [one, many, leak]
found["hits"] = sum(sum(f.stats.cache_hits.values()) for f in functions)
found["misses"] = sum(sum(f.stats.cache_misses.values()) for f in functions)
print(json.dumps(found))
"""


def call_in_a_new_process(folder, packages=PACKAGES, **variables):
    """What the callers in a folder say when they are imported, with the `kernels` of another folder."""
    path = os.pathsep.join(map(str, [folder, packages]))
    return json.loads(run("import callers", env=environment(PYTHONPATH=path, **variables)).stdout)


def test_cached_callers_in_the_next_process(tmp_path):
    (tmp_path / "callers.py").write_text(SCRIPT.replace("LAYER", "True"))
    variables = {"NUMBA_THREADING_LAYER_PRIORITY": None, "NUMBA_NUM_THREADS": "2"}
    for n, layer in enumerate(("workqueue", "workqueue", "omp", "tbb")):  # which have the same code
        found = call_in_a_new_process(tmp_path, NUMBA_THREADING_LAYER=layer, **variables)
        assert found["layer"] == layer
        assert (found["hits"], found["misses"]) == ((0, 6) if n == 0 else (6, 0)), layer


def test_cached_callers_of_changed_kernels(tmp_path):
    # one activation alone, which compiles fast
    (tmp_path / "callers.py").write_text(SCRIPT.replace("LAYER", "False"))
    first = call_in_a_new_process(tmp_path)
    assert first["leak"] == pytest.approx([-1.0, -1.0])
    packages = tmp_path / "changed"
    shutil.copytree(PACKAGES / "kernels", packages / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    source = packages / "kernels" / "activations" / "leaky_relu.py"
    text = source.read_text()
    assert text.count("SLOPE = 0.01\n") == 1
    source.write_text(text.replace("SLOPE = 0.01\n", "SLOPE = 0.05\n"))
    changed, again = (call_in_a_new_process(tmp_path, packages) for _ in range(2))
    assert changed["leak"] == again["leak"] == pytest.approx([-5.0, -5.0])
    assert (changed["hits"], changed["misses"]) == (0, 2)
    assert (again["hits"], again["misses"]) == (2, 0)
    # and back: the callers compiled last were of the changed kernels
    assert call_in_a_new_process(tmp_path)["leak"] == first["leak"]


@njit(parallel=True)
def in_a_prange(x, w, b, y):
    for i in prange(x.shape[0]):
        kernels.linear(x[i], w, b, activation="silu", out=y[i])


def test_in_a_prange():
    for dtype in DTYPES:
        x, w, b = oracle.random_arrays(5, (50, 21, 19), (19, 37), (37,), dtype=dtype)
        y = np.full((50, 21, 37), np.nan, dtype)
        in_a_prange(x, w, b, y)
        for i in range(50):
            np.testing.assert_array_equal(y[i], kernels.linear(x[i], w, b, "silu"))
