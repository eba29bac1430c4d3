"""How kernels are declared: their signatures, and what is refused."""

import tomllib
from typing import Protocol

import numpy as np
import pytest
from numba import types

from kernels.cpu.compiler import compiling, jit
from kernels.cpu.compiler.declaration import Address, B, I, Matrix, O, Real, Size, parameters_of, types_of
from kernels.cpu.compiler.matrix import flat
from kernels.cpu.ir import memory
from kernels.layout import address
from tests.programs import ROOT


class Scaled(Protocol):
    """What the kernels below share."""

    def __call__(self, n: Size, x: Address, factor: Real, limit: float) -> None: ...


def test_a_signature_is_read_from_annotations():
    def function(n: Size, x: Address, factor: Real, limit: float) -> None: ...

    for declared in (function, Scaled):
        assert parameters_of(declared) == ("n", "x", "factor", "limit")
        taken = (types.int64, types.int64, types.float32, types.float64)
        assert types_of(declared, types.float32) == (types.void, taken)


def test_matrices_are_flat_words_to_c():
    """Each letter one size, in the order of their first use, then an address and a stride of each matrix."""

    @jit.kernel
    def corners(real):
        def function(x: Matrix[B, I], scale: float, w: Matrix[I, O]) -> float:
            last = x[x.rows - 1][x.columns - 1]
            w[0][0] = real(scale * last)
            return 1e4 * w.rows + 100.0 * x.rows + w.columns

        return function

    _, taken = corners["float64"].types
    assert flat(taken) == (*[types.int64] * 5, types.float64, *[types.int64] * 2)
    x, w = np.arange(12.0).reshape(3, 4)[:2, :3], np.zeros((3, 5))
    assert corners["float64"](2, 3, 5, address(x), x.strides[0], 2.0, address(w), w.strides[0]) == 30205
    assert w[0, 0] == 12
    assert not w.flat[1:].any()


@pytest.mark.parametrize(
    "factory",
    [lambda real: lambda n: None, lambda real: _half_annotated, lambda real: _of_text],
    ids=["none", "half", "text"],
)
def test_a_parameter_without_a_known_type_is_refused(factory):
    with pytest.raises(TypeError, match=r"the annotation of '.*' must be int, float, Real, a Matrix or None, got"):
        jit.kernel(name="undeclared")(factory)["float32"].load()


def _half_annotated(n: Size, x) -> None: ...


def _of_text(n: Size, x: str) -> None: ...


def test_parameters_other_than_the_protocol_declares_are_refused():
    @jit.kernel(like=Scaled)
    def misnamed(real):
        def function(n, x, scale, limit):
            pass

        return function

    with pytest.raises(TypeError, match=r"misnamed must take \('n', 'x', 'factor', 'limit'\), as Scaled declares"):
        misnamed["float32"].load()


def test_a_plain_function_must_not_make_pointers():
    elements = memory.pointer(types.float32)

    @jit.plain
    def first(x):
        return elements(x)[0]

    @jit.kernel
    def reads(real):
        def function(x: Address) -> float:
            return first(x)

        return function

    with pytest.raises(Exception, match=r"first.* makes pointers: declare it by jit\.inline, not by jit\.plain"):
        reads["float32"].load()


def test_a_kernel_that_an_inlined_function_asks_for_is_compiled_as_any_other():
    @jit.kernel
    def first(real):
        def function(x: Matrix[B, I]) -> float:
            return x[0][0]

        return function

    @jit.kernel
    def twice(real):
        call = first(real)

        @jit.inline
        def part(at):
            return 2.0 * call(1, 1, at, 8)

        def function(at: Address) -> float:
            return part(at)

        return function

    assert twice["float64"](address(np.array([[3.0]]))) == 6.0


@pytest.mark.parametrize("version", ["0.62.1", "0.69.0", "0.69.0dev0+4.g1", "1.0"])
def test_versions_of_numba_that_are_not_tested_are_refused(version):
    with pytest.raises(ImportError, match=f"need numba >= 0.63 and < 0.69, got numba {version.replace('+', '.')}"):
        compiling.check_version(version)


def test_the_package_asks_for_the_versions_that_are_tested():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"numba>={compiling.LOWEST}.0,<{compiling.BELOW}" in project["dependencies"]
    compiling.check_version("0.63.0")
    compiling.check_version("0.68.1")
