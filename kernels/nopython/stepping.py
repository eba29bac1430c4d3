"""The steps of optimisers inside a user's own @njit code, made from what these declare."""

import functools
import inspect
from collections.abc import Mapping
from typing import Any

from numba import types

from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.jit import StaleKernelError
from kernels.cpu.engine.operations.update import kernels_of
from kernels.cpu.ir.maths import maths_of
from kernels.cpu.ir.memory import address_of
from kernels.declarations.sources import rule_hash
from kernels.nopython.arguments import at, check_array, check_given, check_written, is_none, one_dtype, rows_of
from kernels.optimizers import known
from kernels.optimizers.declaration import Optimizer, by_name, update_for
from kernels.stepping import arguments_of


@functools.cache
def _distance_in(function: str, slots: tuple[str, ...]) -> Any:
    """f(array, w): the bytes from w to a slot's array, which must lie like w."""
    message = f"{function}: w and {' and '.join(slots)} must have one shape and the same strides"

    @jit.plain
    def distance(array, w):
        # a stride says nothing where there is one row, one column, or no element
        down = w.shape[0] > 1 and array.strides[0] != w.strides[0]
        across = w.shape[-1] > 1 and array.strides[-1] != w.strides[-1]
        if array.shape != w.shape or ((down or across) and w.size > 0):
            raise ValueError(message)
        return types.int64(array.ctypes.data) - types.int64(w.ctypes.data)

    return distance


def typing(name: str) -> Any:
    """What Numba is told of a step: a function of its arguments' types, with the public function's parameters."""
    declaration = known[name]
    parameters = inspect.signature(declaration.reference).parameters.values()
    slots, options = arguments_of(declaration)
    required = [each.name for each in parameters if each.name in options and each.default is each.empty]
    # nothing is for keywords alone here, so that what has no default but None there has it here
    header = f"({', '.join(_parameter(each, each.name in options) for each in parameters)})"

    def implementation(w: Any, dw: Any, kinds: dict[str, Any], given: dict[str, Any]) -> Any:
        for option in required:
            check_given(given[option], option, name)
        there = {slot: kind for slot, kind in kinds.items() if slot not in declaration.optional or not is_none(kind)}
        ndim = 1 if getattr(w, "ndim", 2) == 1 else 2
        for each, kind in {"w": w, **there}.items():
            check_written(kind, each, ndim, name)
        check_array(dw, "dw", ndim, name)
        update = update_for(declaration, set(there))
        wrong = _refused(name, declaration.optional, set(kinds) - set(there), "step" in options)
        dtype = one_dtype(name, w=w, dw=dw, **there)
        return _compiled(_Step(name, declaration), header, wrong, update, dtype, ndim)

    scope: dict[str, Any] = {"implementation": implementation}
    exec(
        f"""
def typing{header}:
    return implementation(w, dw, {by_name(slots)}, {by_name(options)})
""",
        scope,
    )
    return scope["typing"]


def _refused(name: str, optional: Mapping[str, str], missing: set[str], counted: bool) -> str:
    """The text that refuses options whose slots are missing, and the number of a step that is none."""
    wrong = "".join(
        f"""
    if {optional[slot]} != 0.0:
        raise ValueError("{name}: {slot} must be given with {optional[slot]}")"""
        for slot in missing
    )
    if counted:
        wrong += f"""
    if step < 1:
        raise ValueError("{name}: step must be at least 1")"""
    return wrong


class _Step:
    """An optimiser as it was when a caller was compiled: what the caller holds of it besides its kernel's code."""

    def __init__(self, name: str, declaration: type[Optimizer]) -> None:
        updates = [(update.slots, update.options) for update in declaration.updates]
        said = (str(inspect.signature(declaration.reference)), dict(declaration.optional), updates)
        self.name, self.stamp = name, rule_hash(said, *(update.scalars for update in declaration.updates))

    def __reduce__(self) -> Any:
        return _find, (self.name, self.stamp)


def _find(name: str, stamp: str) -> _Step:
    """Unpickle an optimiser out of a cached caller, or refuse the caller if it is stale."""
    if name not in known or (step := _Step(name, known[name])).stamp != stamp:
        raise StaleKernelError(f"compiled for another declaration of {name}")
    return step


def _compiled(step: _Step, header: str, wrong: str, update: Any, dtype: Any, ndim: int) -> Any:
    """The step as Numba compiles it. wrong: the text of what it refuses."""
    name = step.name
    distances = "".join(f"distance({slot}, w), " for slot in update.slots)
    scope: dict[str, Any] = {
        "__name__": __name__,  # without a module Numba forgets what travels with the caller's cache entry
        "at": at, "address_of": address_of, "distance": _distance_in(name, update.slots),
        "travel": calls.travelling(step), "call": kernels_of(update)(dtype),
        "scalars": maths_of(types.float64).rule(update.scalars),
        "rows_of_w": rows_of(name, "w", ndim, written=True), "rows_of_dw": rows_of(name, "dw", ndim),
    }  # fmt: skip
    exec(
        f"""
def implementation{header}:
    if dw.shape != w.shape:
        raise ValueError("{name}: dw must be like w"){wrong}
    travel()
    numbers = scalars({", ".join(f"1.0 * {option}" for option in update.options)})
    rows, columns, stride = rows_of_w(w)
    slots = {f"address_of(({distances}))" if distances else "0"}
    call(rows, columns, at(w), stride, at(dw), rows_of_dw(dw)[2], slots, address_of(numbers), 0.0)
""",
        scope,
    )
    return scope["implementation"]


def _parameter(parameter: Any, option: bool) -> str:
    if parameter.default is not parameter.empty:
        return f"{parameter.name}={parameter.default!r}"
    return f"{parameter.name}=None" if option else str(parameter.name)
