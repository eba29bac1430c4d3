"""Rules: plain Python functions of scalars, compiled for a dtype, in which every number is of that dtype."""

import numpy as np
import pytest

from kernels import maths
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import real_of
from kernels.cpu.ir import memory
from kernels.cpu.ir.maths import maths_of
from kernels.maths import exp, exp_is_zero, log1p, select, tanh

DTYPES = (np.float32, np.float64)
THIRD = 1 / 3


def softplus(z):
    return log1p(exp(-abs(z))) + select(z > 0, z, 0)


def weighed(z):
    """Constants of its own, a global one, another rule, and offered functions."""
    return 0.1 * softplus(z) + THIRD * tanh(z) + 2 * select(exp_is_zero(z), 1, 0)


def shifted(by):
    return lambda z: exp(z) + by


@jit.kernel
def evaluate(real):
    rules = [maths_of(real).rule(rule) for rule in (weighed, shifted(0.1))]
    first, second, elements = *rules, memory.pointer(real)

    def function(n: int, x: int, y: int, z: int) -> None:
        for j in range(n):
            elements(y)[j] = first(elements(x)[j])
            elements(z)[j] = second(elements(x)[j])

    return function


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_rules_compute_what_they_say(dtype):
    x = np.linspace(-900, 5, 1001).astype(dtype)
    y, z = np.empty_like(x), np.empty_like(x)
    evaluate[x.dtype](len(x), *(a.ctypes.data for a in (x, y, z)))
    wide = x.astype(np.float64)
    limit = np.where(wide < -104, 2.0, 0.0) if dtype == np.float32 else None  # where exp of float32 is zero
    expected = weighed(wide) if limit is None else 0.1 * softplus(wide) + THIRD * np.tanh(wide) + limit
    np.testing.assert_allclose(y, expected, rtol=8 * np.finfo(dtype).eps)
    np.testing.assert_allclose(z, np.exp(wide) + 0.1, rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_of_a_rule_are_of_the_dtype(dtype):
    real = real_of(dtype)
    for rule in (weighed, shifted(0.1)):
        compiled = maths_of(real).rule(rule).dispatcher
        compiled.compile((real,))
        assert [each.signature.return_type for each in compiled.overloads.values()] == [real]


def test_what_is_offered_is_compiled():
    names = [name for name, value in vars(maths).items() if callable(value) and value.__module__ == maths.__name__]
    assert {"exp", "select", "erf"} < set(names)
    for dtype in ("float32", "float64"):
        assert all(hasattr(maths_of(real_of(dtype)), name) for name in names if not name.startswith("_"))
