"""The scalar functions, compiled for this machine, against more precise ones: the largest error in ulp."""

import math

import numpy as np
import pytest

from kernels.activations.sigmoid import sigmoid as logistic
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.ir.maths import maths_of
from kernels.maths.functions import MAX_ULP

FUNCTIONS = ["exp", "log1p", "tanh", "erf", "sigmoid", "log", "expm1"]
FLOATS = {"float32": (np.float32, np.uint32), "float64": (np.float64, np.uint64)}
PRECISE = {"float32": np.float64, "float64": np.longdouble}  # the oracle's numbers for each dtype
LN2 = math.log(2.0)


@jit.kernel
def evaluate(real):
    """y (n,) = the function number `code` of x (n,), in one loop each, as in kernels.cpu.rowwise.elementwise."""
    f = maths_of(real)
    elements = memory.pointer(real)
    exp, log1p, tanh, erf, sigmoid, log, expm1 = (
        f.exp, f.log1p, f.tanh, f.erf, f.rule(logistic), f.log, f.expm1
    )  # fmt: skip

    def function(code: int, n: int, x: int, y: int) -> None:
        source, target = elements(x), elements(y)
        if code == 0:
            for j in range(n):
                target[j] = exp(source[j])
        elif code == 1:
            for j in range(n):
                target[j] = log1p(source[j])
        elif code == 2:
            for j in range(n):
                target[j] = tanh(source[j])
        elif code == 3:
            for j in range(n):
                target[j] = erf(source[j])
        elif code == 4:
            for j in range(n):
                target[j] = sigmoid(source[j])
        elif code == 5:
            for j in range(n):
                target[j] = log(source[j])
        elif code == 6:
            for j in range(n):
                target[j] = expm1(source[j])

    return function


def compiled(name, x):
    y = np.full_like(x, np.nan)
    evaluate[x.dtype](FUNCTIONS.index(name), x.size, x.ctypes.data, y.ctypes.data)
    return y


def precise_erf(x):
    """erf in the precision of x, by a series of positive terms (Abramowitz & Stegun 1964, 7.1.6).

    erf(x) = 2 / sqrt(pi) exp(-x^2) sum_n 2^n x^(2n + 1) / (2n + 1)!!; beyond 6.5 it is 1 to 60 bits and more.
    """
    inside = np.minimum(np.abs(x), x.dtype.type(6.5))
    square = inside * inside
    term, total = inside.copy(), inside.copy()
    for n in range(1, 160):
        term *= 2 * square / (2 * n + 1)
        total += term
    root_pi = np.sqrt(4 * np.arctan(x.dtype.type(1)))
    return np.copysign(2 / root_pi * np.exp(-square) * total, x)


def precise(name, x):
    """The function in the oracle's precision."""
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))
        if name == "erf":
            return precise_erf(x) if x.dtype == np.longdouble else np.vectorize(math.erf, [np.float64])(x)
        return {"exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh}[name](x)


def ulp_errors(name, x):
    """Errors at x in units in the last place of the exact result; beyond the largest number infinity is exact."""
    dtype = x.dtype
    info = np.finfo(dtype)
    wider = PRECISE[dtype.name]
    exact, got = precise(name, x.astype(wider)), compiled(name, x).astype(wider)
    overflow = wider(2.0) ** info.maxexp
    exact, got = (np.clip(a, -overflow, overflow) for a in (exact, got))
    exponent = np.frexp(np.where(exact == 0, wider(info.tiny), exact))[1] - 1
    ulp = np.ldexp(wider(1.0), np.clip(exponent, info.minexp, info.maxexp - 1) - info.nmant)
    return np.abs(got - exact) / ulp


def around(values, dtype, reach=16):
    """Each value and its negative, rounded to the dtype, and `reach` neighbours of each on either side."""
    floating, whole = FLOATS[dtype]
    info = np.finfo(dtype)
    values = np.asarray(values)[np.abs(values) <= info.max].astype(floating)
    bits = np.concatenate([values, -values]).view(whole)[:, np.newaxis] + np.arange(-reach, reach + 1).astype(whole)
    return bits.ravel().view(floating)


def boundaries(name, dtype):
    """Where a function changes its formula, its reduction the whole number, its result the kind."""
    info = np.finfo(dtype)
    powers = 2.0 ** np.arange(info.minexp - info.nmant, info.maxexp, 1 if dtype == "float32" else 8)
    if name in ("exp", "expm1", "sigmoid"):
        turns = np.arange(1080) * LN2
        return np.concatenate([powers, turns, turns + LN2 / 2, [89, 104, 710, 746]])
    if name == "log":
        return np.concatenate([powers * math.sqrt(0.5), powers])
    if name == "log1p":
        return np.concatenate([powers * math.sqrt(2.0) - 1.0, powers - 1.0, powers])
    return np.concatenate([powers, [0.625, 2.5, 6, 9, 9.1, 18, 19, 20, 44, 45, 355, 372]])


def sample(name, dtype):
    """Numbers over the whole range, subnormal ones too, most of them where functions bend; and all boundaries."""
    if dtype == "float32":
        first, last = (np.array([2.0**-5, 2.0**5], np.float32).view(np.uint32)).tolist()
        dense = np.arange(first, last, 127, np.uint64)
        patterns = np.concatenate([np.arange(0, 1 << 32, 4093, np.uint64), dense, dense + (1 << 31)])
        spread = patterns.astype(np.uint32).view(np.float32)
    else:
        rng = np.random.default_rng(0)
        spread = np.exp2(np.concatenate([rng.uniform(-1074.0, 1024.0, 10_000), rng.uniform(-30.0, 10.0, 60_000)]))
        spread = np.concatenate([spread, -spread])
    x = np.concatenate([spread, around(boundaries(name, dtype), dtype)])
    return x[np.isfinite(x) & (x > {"log": 0.0, "log1p": -1.0}.get(name, -np.inf))]


def worst(name, x):
    """(largest error in ulp, where), less what the oracle may err by: a few units of its own last place."""
    errors = ulp_errors(name, x)
    slack = 8 * float(np.finfo(PRECISE[x.dtype.name]).eps / np.finfo(x.dtype).eps)
    at = np.argmax(np.where(np.isnan(errors), np.inf, errors))
    return errors[at] - slack, x[at]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", MAX_ULP)
def test_largest_error(name, dtype):
    x = sample(name, dtype)
    assert len(x) > 80_000
    error, at = worst(name, x)
    assert error <= MAX_ULP[name], f"{error} ulp at {at!r}"
    assert error > 0.3, "so small that nothing was measured"


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_far_tail_of_sigmoid(dtype):
    # 1 / (1 + e^-z) would be right absolutely alone; a quotient adds two roundings to exp's error
    x = sample("sigmoid", dtype)
    error, at = worst("sigmoid", x[x <= 0])
    assert error <= MAX_ULP["exp"] + 1.5, f"{error} ulp at {at!r}"


def test_an_error_is_seen(monkeypatch):
    x = sample("exp", "float32")
    for ulps in (2, 3):

        def wrong(name, x, ulps=ulps):
            y = np.exp(x.astype(np.float64)).astype(np.float32)
            y[777] = (y[777:778].view(np.uint32) + np.uint32(ulps)).view(np.float32)[0]
            return y

        monkeypatch.setitem(globals(), "compiled", wrong)
        error, at = worst("exp", x[np.abs(x) < 80])
        assert ulps - 0.5 <= error <= ulps + 0.5
        assert at == x[np.abs(x) < 80][777]


@pytest.mark.parametrize("dtype", FLOATS)
def test_special_values(dtype):
    info = np.finfo(dtype)
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, info.max, info.min] * 9, dtype)  # in vectors and beside them
    expected = {
        "exp": [np.nan, np.inf, 0, 1, 1, np.inf, 0],
        "expm1": [np.nan, np.inf, -1, 0, 0, np.inf, -1],
        "log1p": [np.nan, np.inf, np.nan, 0, 0, np.log(np.float64(info.max)), np.nan],
        "tanh": [np.nan, 1, -1, 0, 0, 1, -1],
        "erf": [np.nan, 1, -1, 0, 0, 1, -1],
        "sigmoid": [np.nan, 1, 0, 0.5, 0.5, 1, 0],
    }
    for name, values in expected.items():
        np.testing.assert_array_equal(compiled(name, x), np.array(values * 9, dtype), err_msg=name)
    np.testing.assert_array_equal(compiled("log1p", np.array([-1.0, -1.5], dtype)), [-np.inf, np.nan])


@pytest.mark.parametrize("dtype", FLOATS)
def test_subnormal_numbers_are_kept(dtype):
    info = np.finfo(dtype)
    x = info.smallest_subnormal * np.array([-1000, -3, -1, 1, 2, 77], dtype)
    for name in ("expm1", "log1p", "tanh"):
        np.testing.assert_array_equal(compiled(name, x), x, err_msg=name)
    np.testing.assert_allclose(compiled("erf", x), 2 / math.sqrt(math.pi) * x, atol=info.smallest_subnormal)
    last = math.log(float(info.smallest_subnormal))
    results = compiled("exp", np.linspace(last, math.log(float(info.tiny)) - 0.1, 50).astype(dtype))
    assert ((results > 0) & (results < info.tiny)).all()


def test_the_oracle_of_erf():
    x = np.exp2(np.random.default_rng(2).uniform(-30.0, 3.0, 5_000))
    library = np.array([math.erf(each) for each in x])
    # the C library's erf is right within 1 to 1.5 ulp
    assert (np.abs(precise_erf(x.astype(np.longdouble)) - library) <= 1.5 * np.spacing(library)).all()
