"""The public functions of optimisers, made from what these declare: one step on arrays, in place."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from kernels import backends
from kernels.declarations.ranges import Range, check_count
from kernels.optimizers.declaration import Optimizer, by_name, ranges


def public(name: str, declaration: type[Optimizer]) -> Callable[..., None]:
    """The function of an optimiser: `name(w, dw, *slots, *, options)`, with its reference's parameters."""
    reference: Any = declaration.reference
    slots, options = arguments_of(declaration)
    scope: dict[str, Any] = {"step_on": _step(declaration, slots, options)}
    exec(
        f"""
def {name}({", ".join(["w", "dw", *slots, *["*"] * bool(options), *options])}):
    step_on({by_name(["w", "dw", *slots])}, {by_name(options)})
""",
        scope,
    )
    function: Any = scope[name]
    for attribute in ("__defaults__", "__kwdefaults__", "__annotations__"):
        setattr(function, attribute, getattr(reference, attribute))
    function.__module__, function.__doc__ = "kernels", documentation(declaration)
    return function


def documentation(declaration: type[Optimizer]) -> str:
    """What help says of an optimiser's function: its reference's text, and what its declaration says of arguments."""
    slots, options = arguments_of(declaration)
    parameters, within = inspect.signature(declaration.reference).parameters, ranges(declaration)
    lines = [inspect.cleandoc(declaration.reference.__doc__ or ""), "", "Parameters", "----------"]
    lines += [
        "w : array",
        "    float32 or float64, of any shape; is overwritten.",
        "dw : array",
        "    Its gradient, like w.",
    ]
    for slot in slots:
        option = declaration.optional.get(slot)
        lines.append(f"{slot} : array" + (", optional" if option else ""))
        needed = f" Needed with {option}." if option else ""
        lines.append(f"    Like w, of zeros at first; is overwritten.{needed}")
    for option in options:
        default = parameters[option].default
        kind = "int" if option == "step" else "float" if option in within else "bool"
        lines.append(f"{option} : {kind}" + ("" if default is inspect.Parameter.empty else f", default {default}"))
        said = {"int": "The number of the step, from 1 on.", "bool": "True or False."}
        lines.append(f"    {said.get(kind) or f'In {_with_low_end(within[option]).interval}.'}")
    lines += ["", "Raises", "------", "TypeError, ValueError"]
    lines.append("    Naming the argument, what was expected and what came, before anything is written.")
    return "\n".join(lines)


def arguments_of(declaration: type[Optimizer]) -> tuple[list[str], list[str]]:
    """(slots, options): the names of what the function of an optimiser takes besides w and dw."""
    parameters = inspect.signature(declaration.reference).parameters.values()
    options = [each.name for each in parameters if each.kind is each.KEYWORD_ONLY]
    return [each.name for each in parameters if each.name not in ("w", "dw", *options)], options


def _step(declaration: type[Optimizer], slots: list[str], options: list[str]) -> Callable[..., None]:
    """What the function of an optimiser does with its arrays and options, each by name."""
    taken = [(option, _with_low_end(within)) for option, within in ranges(declaration).items() if option in options]
    updates = {update.slots: update for update in declaration.updates}
    optional = [(slot, declaration.optional.get(slot)) for slot in slots]

    def step_on(arrays: dict[str, Any], given: dict[str, Any]) -> None:
        backend = backends.of(**arrays)
        check = backend.check
        for name, within in taken:
            within(name, given[name])
        if "step" in given:
            check_count("step", given["step"])
        for slot, option in optional:
            if arrays[slot] is None and (option is None or given[option]):
                why = "" if option is None else f" with {option} {given[option]}"
                raise ValueError(f"{slot} must be given{why}: an array like w, of zeros at first")
        (w, dw, *state), outputs = check.update_arrays(arrays)
        update = updates[tuple(slot for slot in slots if arrays[slot] is not None)]
        state = [array for array in state if array is not None]
        backend.optimizer_step(update, w, dw, state, update.of_step(given))
        outputs.finish()

    return step_on


def _with_low_end(within: Range) -> Range:
    """What the function takes of an option: a step may be of a rate of 0, and without an epsilon."""
    return replace(within, closed="both" if within.closed in ("both", "right") else "left")
