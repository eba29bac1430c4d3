"""How CUDA kernels are declared: what their annotations say they take, and what is refused."""

from typing import Protocol

import pytest
from numba import types

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Data, Flag, Index, Real, Size, parameters_of, types_of


class Gathered(Protocol):
    """What the kernels below share."""

    def __call__(
        self, x: Array[Data], order: Array[Index], y: Array[Real], norms: Array[float], rows: Size, last: Flag
    ) -> None: ...


def array(element):
    return types.Array(element, 1, "C")


TAKEN = (array(types.uint8), array(types.int64), array(types.float32), array(types.float64), types.int64, types.int64)


def test_what_a_kernel_takes_is_read_from_annotations():
    def function(
        x: Array[Data], order: Array[Index], y: Array[Real], norms: Array[float], rows: Size, last: Flag
    ) -> None: ...

    for declared in (function, Gathered):
        assert parameters_of(declared) == ("x", "order", "y", "norms", "rows", "last")
        assert types_of(declared, types.float32, types.uint8) == TAKEN


def test_a_kernel_has_the_types_of_its_protocol():
    @jit.kernel(like=Gathered)
    def gathered(real, data, threads):
        def function(x, order, y, norms, rows, last):
            pass

        return function, threads, data

    kernel = gathered("float32", "uint8", 64)
    assert kernel.argtypes == TAKEN
    assert kernel.threads == 64
    assert kernel is gathered("float32", "uint8", 64)


def _plain(x): ...


def _half_annotated(n: Size, x) -> None: ...


def _of_text(x: str) -> None: ...


def _of_texts(x: Array[str]) -> None: ...


def _of_data(x: Array[Data]) -> None: ...


@pytest.mark.parametrize("function", [_plain, _half_annotated, _of_text, _of_texts, _of_data])
def test_a_parameter_without_a_known_type_is_refused(function):
    wanted = "must be int, or an Array of int, float or Real, got"
    with pytest.raises(TypeError, match=rf"undeclared_float32: the annotation of 'x' {wanted}"):
        jit.kernel(name="undeclared")(lambda real: (function, 1))("float32")


def test_parameters_other_than_the_protocol_declares_are_refused():
    @jit.kernel(like=Gathered)
    def misnamed(real):
        def function(x, order, z):
            pass

        return function, 1, "uint8"

    with pytest.raises(TypeError, match=r"misnamed_float32 must take \('x', 'order', .*, as Gathered declares"):
        misnamed("float32")
