"""Every public kernel on arrays that lie in memory in every way there is, from Python and inside compiled code.

A call is written once, as text. Evaluated it is what Python calls, what Numba compiles and what the reference computes.
"""

import ast
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numba import njit, types

import kernels
from kernels import reference
from kernels.losses import LOSSES
from tests import layouts, oracle
from tests.oracle import LOSS_PARAMETERS

CALLS = {
    "linear": "linear(x, w, b, 'gelu', out=out, pre=pre)",
    "linear, relu": "linear(x, w, b, 'relu', out=out)",
    "linear, no bias": "linear(x, w, out=out)",
    "linear_backward": "linear_backward(dy, x, w, activation='silu', pre=saved, dx=dx, dw=dw, db=db, dz=dz)",
    "linear_backward, identity": "linear_backward(dy, x, w, dx=dx, dw=dw, db=db)",
    "activate": "activate(z, 'tanh', out=out)",
    "activate_backward": "activate_backward(dy, y, 'sigmoid', out=out)",
    "softmax": "softmax(z, out=out)",
    "softmax_cross_entropy, labels": "softmax_cross_entropy(z, labels, weight, smoothing=0.3, dz=dz)",
    "sigmoid_cross_entropy, one output": "sigmoid_cross_entropy(z1, target1, weight, dz=dz1)",
    "mean_squared_error, one output": "mean_squared_error(z1, target1, dz=dz1)",
    "sgd": "sgd(p, g, learning_rate=0.5)",
    "sgd, momentum": "sgd(p, g, velocity, learning_rate=0.5, momentum=0.9, nesterov=True)",
    "sgd, vectors": "sgd(p1, g1, velocity1, learning_rate=0.5, momentum=0.9)",
    "adam": "adam(p, g, m, v, step=3, learning_rate=0.1)",
}
for name in LOSSES:
    needed = name in LOSS_PARAMETERS and LOSSES[name].parameter.default is None
    parameter = "{}={}, ".format(*LOSS_PARAMETERS[name]) if needed else ""
    CALLS[name] = f"{name}(z, target, weight, {parameter}dz=dz)"
SHAPES = {
    "x": "BI", "w": "IO", "b": "O", "dy": "BO", "y": "BO", "saved": "BO", "z": "BO", "z1": "B1", "target": "BO",
    "target1": "B", "labels": "B", "weight": "B", "g": "IO", "g1": "O",
    "out": "BO", "pre": "BO", "dx": "BI", "dw": "IO", "db": "O", "dz": "BO", "dz1": "B1",
    "p": "IO", "velocity": "IO", "m": "IO", "v": "IO", "p1": "O", "velocity1": "O",
}  # fmt: skip
OUTPUTS = {"out", "pre", "dx", "dw", "db", "dz", "dz1"}
CHANGED = {"p", "velocity", "m", "v", "p1", "velocity1"}  # read and written
# One row, one column and few of each; blocks of rows and of columns, and what is left over of them
SIZES = [{"B": 1, "I": 1, "O": 1}, {"B": 1, "I": 5, "O": 3}, {"B": 4, "I": 1, "O": 2}, {"B": 67, "I": 19, "O": 33}]
SAID = {"p": "w", "g": "dw", "labels": "target", "saved": "pre"}  # what the kernels call these; others without a 1
EMPTY = [dict(zip("BIO", sizes)) for sizes in itertools.product((0, 1, 37), (0, 3, 19), (0, 2, 33)) if 0 in sizes]


def names_of(call: str) -> list[str]:
    names = [node.id for node in ast.walk(ast.parse(CALLS[call])) if isinstance(node, ast.Name)]
    return [name for name in names if name in SHAPES]


@functools.cache
def function_of(call: str, module: Any) -> Callable[..., Any]:
    """The call on arrays, of the kernels or of the reference."""
    return eval(f"lambda {', '.join(names_of(call))}: module.{CALLS[call]}", {"module": module})


class Reference:
    """The reference's functions under the names of the public ones."""

    def __getattr__(self, name: str) -> Any:
        if name not in LOSSES:
            return getattr(reference, name)
        return lambda *args, dz, **parameter: reference.loss_and_gradient(
            (name, *parameter.values()) if parameter else name, *args, dz=dz
        )


@functools.cache
def compiled(call: str) -> Callable[..., Any]:
    """The call inside compiled code: one specialisation, for inputs of any strides, alignment, and writable or not."""
    arrays, dtype = [], COMPILED_FOR[call]
    for name in names_of(call):
        number = types.int64 if name == "labels" else getattr(types, dtype)
        arrays.append(types.Array(number, len(SHAPES[name]), "A", name not in OUTPUTS | CHANGED, aligned=False))
    return njit(tuple(arrays))(function_of(call, kernels))


REFERENCE = Reference()


def is_loss(call: str) -> bool:
    return CALLS[call].partition("(")[0] in LOSSES


def values_of(call: str, sizes: dict[str, int], dtype: str) -> dict[str, np.ndarray]:
    """An array in C order for each argument, of numbers in [0, 1), which are any loss's targets; no sum cancels."""
    arrays, sizes = {}, {**sizes, "1": 1}
    for seed, name in enumerate(names_of(call)):
        shape = tuple(sizes[letter] for letter in SHAPES[name])
        if name == "labels":
            arrays[name] = oracle.random_labels(seed, shape[0], max(1, sizes["O"]))
        else:
            arrays[name] = np.random.default_rng(seed).random(shape, dtype)
            arrays[name] = of_targets(call, arrays[name]) if name == "target" else arrays[name]
    return arrays


def of_targets(call: str, numbers: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), or in their place those few that a loss takes."""
    only = LOSSES[call].targets.only
    return np.asarray(only, numbers.dtype)[(numbers * len(only)).astype(int)] if only else numbers


def expected_of(call: str, given: dict[str, np.ndarray]) -> dict[str, Any]:
    """What the reference writes into each array, and its loss."""
    arrays = {name: np.array(a, a.dtype if name == "labels" else np.float64) for name, a in given.items()}
    result = function_of(call, REFERENCE)(*arrays.values())
    return {**arrays, "loss": result[0] if is_loss(call) else None}


def refusal(given: dict[str, np.ndarray], in_compiled_code: bool) -> str:
    """What the error says where the arrays cannot be taken as they lie, or "": of several faults any."""
    strides = {name: [stride for n, stride in zip(a.shape, a.strides) if n > 1] for name, a in given.items()}
    first, faults = next(iter(given)), []
    for name, a in given.items():
        word = SAID.get(name.rstrip("1"), name.rstrip("1"))
        needs_neighbours = in_compiled_code and name not in ("labels", "target1")  # one a row, at any stride
        apart = needs_neighbours and a.shape[-1] > 1 and a.strides[-1] != a.itemsize
        unlike = in_compiled_code and name in CHANGED and strides[name] != strides[first]
        if name in OUTPUTS | CHANGED and not a.flags.writeable:
            faults.append("No matching definition" if in_compiled_code else f"^{word} must be writable")
        elif (name in OUTPUTS | CHANGED and 0 in strides[name]) or apart or unlike:
            faults.append(rf"\b{word}\b.* stride")
    return "|".join(faults)


def check(call: str, given: dict[str, np.ndarray], function: Callable[..., Any], message: str) -> None:
    """The call writes what the reference does and nothing else, or raises a ValueError and writes nothing."""
    expected, memories = expected_of(call, given), {name: layouts.memory_of(a) for name, a in given.items()}
    before, kept = {name: a.copy() for name, a in given.items()}, {name: a.tobytes() for name, a in memories.items()}
    if message:
        with pytest.raises((ValueError, TypeError), match=message):
            function(*given.values())
    else:
        result = function(*given.values())
        depth = sum(max(a.shape) for a in given.values())
        for name in given.keys() & (OUTPUTS | CHANGED):
            scale = abs(expected[name]).max(initial=1)  # of the terms
            oracle.assert_close(given[name].copy(), expected[name], given[name].dtype, depth, scale)
            given[name][...] = before[name]
        if expected["loss"] is not None:
            oracle.assert_close(np.asarray(result[0]), expected["loss"], next(iter(given.values())).dtype, depth)
    for name, memory in memories.items():
        assert memory.tobytes() == kept[name], f"{name}: something was written beside it"


DTYPES = ("float32", "float64")
# A call takes seconds to compile, and no text there asks for the dtype: one each, in turn
COMPILED_FOR = dict(zip(CALLS, itertools.cycle(DTYPES)))
each_call = pytest.mark.parametrize("call", CALLS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_size = pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: "-".join(map(str, sizes.values())))


def arrangements(call: str, sizes: dict[str, int], dtype: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """(what is unusual, the arguments): each in every layout beside others in C order, and matrices all in the same."""
    values = values_of(call, sizes, dtype)
    views = {name: layouts.every(a) for name, a in values.items()}
    for name, one in views.items():
        for layout, view in one.items():
            yield f"{name}: {layout}", {**values, name: view}
    for layout in {layout for one in views.values() for layout in one}:
        yield layout, {name: one.get(layout, values[name]) for name, one in views.items()}


def check_all(call: str, sizes: dict[str, int], dtype: str, function: Any, in_compiled_code: bool) -> None:
    for what, given in arrangements(call, sizes, dtype):
        try:
            check(call, given, function, refusal(given, in_compiled_code))
        except BaseException as error:
            error.add_note(what)
            raise


@each_size
@each_dtype
@each_call
def test_from_python(call, dtype, sizes):
    check_all(call, sizes, dtype, function_of(call, kernels), False)


@each_call
def test_inside_compiled_code(call):
    for sizes in SIZES:
        check_all(call, sizes, COMPILED_FOR[call], compiled(call), True)


@each_dtype
@each_call
def test_empty(call, dtype):
    functions = [function_of(call, kernels), *([compiled(call)] if dtype == COMPILED_FOR[call] else [])]
    for sizes, layout, (in_compiled_code, function) in itertools.product(
        EMPTY, (layouts.contiguous, layouts.padded), enumerate(functions)
    ):
        given = {name: layout(a) for name, a in values_of(call, sizes, dtype).items()}
        no_classes = "labels" in given and sizes["B"] > 0 and sizes["O"] == 0
        try:
            if no_classes:
                with pytest.raises(ValueError, match="target must hold labels from 0 to"):
                    function(*given.values())
            else:
                check(call, given, function, "")
        except BaseException as error:
            error.add_note(f"{sizes}, {layout.__name__}, in compiled code: {in_compiled_code}")
            raise


@each_dtype
@each_call
def test_arrays_that_share_memory(call, dtype):
    """A result is what it would be without; two arrays that are written may not."""
    values = values_of(call, SIZES[-1], dtype)
    written = values.keys() & (OUTPUTS | CHANGED)
    pairs = itertools.product(sorted(written), values.keys() - {"labels"}, (0, 1))
    for one, other, offset in ((one, other, offset) for one, other, offset in pairs if one != other):
        buffer = np.random.default_rng(0).random(1 + max(values[one].size, values[other].size), dtype)
        if other == "target":
            buffer = of_targets(call, buffer)
        views = {name: buffer[at:][: values[name].size].reshape(values[name].shape)
                 for name, at in ((one, offset), (other, 0))}  # fmt: skip
        try:
            check(call, values | views, function_of(call, kernels), "share memory" if other in written else "")
        except BaseException as error:
            error.add_note(f"{one} begins {offset} elements after {other}")
            raise


@pytest.mark.parametrize("call", [call for call in CALLS if not call.startswith(("linear", "sgd", "adam"))])
def test_what_compiled_code_may_write_over(call):
    values = values_of(call, SIZES[-1], COMPILED_FOR[call])
    read, output = next(iter(values)), next(name for name in values if name in OUTPUTS)
    shared = values[read].copy()
    check(call, values | {read: shared, output: shared}, compiled(call), "")
