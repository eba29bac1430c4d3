"""Functions that only become part of others."""

from numba import njit

from kernels.cpu.compiler import jit


def _chain():
    @jit.plain
    def scaled(x, factor):
        return x * factor

    @jit.plain
    def polynomial(x, n):
        total = 0.0
        for i in range(n):
            total += scaled(x, i)
        return total

    return scaled, polynomial


def test_inlined_functions_call_each_other_and_are_called_with_constants_and_variables():
    scaled, polynomial = _chain()

    @njit
    def caller(x, n):
        return polynomial(x, n) + polynomial(x, 3) + scaled(x, n) + scaled(x, 2)

    assert caller(1.5, 4) == 1.5 * 6 + 1.5 * 3 + 1.5 * 4 + 1.5 * 2
    assert len(polynomial.dispatcher.signatures) == len(scaled.dispatcher.signatures) == 1, (
        "compiled again for a constant"
    )


def test_nothing_of_them_is_left_to_call():
    _, polynomial = _chain()

    @njit
    def caller(x, n):
        return polynomial(x, n)

    caller(1.0, 2)
    (code,) = caller.inspect_llvm().values()
    bodies = [part for part in code.split("\ndefine ")[1:] if "caller" in part.split("{")[0]]
    assert bodies
    assert not [line for line in code.splitlines() if " call " in line and ("scaled" in line or "polynomial" in line)]
