"""The public functions of optimisers, made from what these declare: one step on arrays, in place."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kernels import backends, checks
from kernels.optimizers.declaration import Optimizer, ranges, update_for


def public(name: str, declaration: type[Optimizer]) -> Callable[..., None]:
    """The function of an optimiser: `name(w, dw, *slots, *, options)`, with its reference's parameters and text."""
    reference: Any = declaration.reference
    parameters = inspect.signature(reference).parameters
    options = [parameter.name for parameter in parameters.values() if parameter.kind is parameter.KEYWORD_ONLY]
    slots = [each for each in parameters if each not in ("w", "dw", *options)]
    scope: dict[str, Any] = {"step_on": _step_on, "declaration": declaration}
    exec(
        f"""
def {name}({", ".join(["w", "dw", *slots, "*", *options])}):
    step_on(declaration, w, dw, {_by_name(slots)}, {_by_name(options)})
""",
        scope,
    )
    function: Any = scope[name]
    for attribute in ("__defaults__", "__kwdefaults__", "__annotations__", "__doc__"):
        setattr(function, attribute, getattr(reference, attribute))
    function.__module__ = "kernels.api"
    return function


def _by_name(names: list[str]) -> str:
    return "{" + ", ".join(f"{name!r}: {name}" for name in names) + "}"


def _step_on(
    declaration: type[Optimizer], w: Any, dw: Any, slots: Mapping[str, Any], options: Mapping[str, Any]
) -> None:
    backend = backends.of(w=w, dw=dw, **slots)
    check = backend.check
    checks.numbers_in({n: _bounds(options[n], within) for n, within in ranges(declaration).items() if n in options})
    if "step" in options:
        checks.count("step", options["step"])
    for name, array in slots.items():
        option = declaration.optional.get(name)
        if array is None and (option is None or options[option]):
            why = "" if option is None else f" with {option} {options[option]}"
            raise ValueError(f"{name} must be given{why}: an array like w, of zeros at first")
    (w, dw, *arrays), outputs = check.update_arrays({"w": w, "dw": dw, **slots})
    update = update_for(declaration, {name for name, array in slots.items() if array is not None})
    found = dict(zip(slots, arrays, strict=True))
    scalars = update.table({name: float(value) for name, value in options.items()}, 1)[0]
    backend.optimizer_step(update, w, dw, [found[slot] for slot in update.slots], scalars)
    outputs.finish()


def _bounds(value: Any, within: Any) -> tuple[Any, float, float]:
    """What checks.numbers_in takes: an optimiser's options are in a range, here with its lower end, too."""
    closed = within.closed in ("both", "right") or within.high == math.inf
    return value, within.low, within.high if closed else np.nextafter(within.high, within.low)
