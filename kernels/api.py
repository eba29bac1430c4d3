"""The public functions: each checks its arguments, chooses a backend and calls it. See the package's own text."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import backends
from kernels.activations import ACTIVATIONS
from kernels.losses import Loss
from kernels.optimizers import known as optimizers
from kernels.stepping import public


def linear(
    x: Any, w: Any, b: Any = None, activation: str = "identity", *, out: Any = None, pre: Any = None
) -> np.ndarray:
    """y = f(x @ w + b).

    x (B, I), w (I, O), b (O,) or None. out (B, O): written to and returned; else a new array. pre (B, O): receives the
    pre-activation x @ w + b, which linear_backward needs of activations whose slope reads it (docs/activations.md).
    Raises TypeError or ValueError naming the argument, before anything is written.
    """
    backend = backends.of(x=x, w=w, b=b, out=out, pre=pre)
    check = backend.check
    name = ACTIVATIONS.canonical(activation)
    x, w = check.product_operands(x, w)
    shape = (x.shape[0], w.shape[1])
    b = None if b is None else check.shaped(b, "b", shape[1:], x.dtype)
    if out is None and pre is None:
        return backend.linear(x, w, b, name)
    outputs = check.outputs(x, w, b)
    out = outputs.add(out, "out", shape, x.dtype)
    pre = outputs.add(pre, "pre", shape, x.dtype)
    y = backend.linear(x, w, b, name, out=out, pre=pre)
    outputs.finish()
    return outputs.own(y)


def linear_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any = None,
    activation: str = "identity",
    *,
    pre: Any = None,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
    dz: Any = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(dx, dw, db) of y = f(x @ w + b), given dy.

    dz = dy * f'(.), dx = dz @ w.T, dw = x.T @ dz, db = the sum of dz's rows. The slope f' reads y
    or `pre` (docs/activations.md; an error says so where it is missing). dx (B, I), dw (I, O), db (O,), dz (B, O):
    overwritten where given, else new.
    """
    backend = backends.of(dy=dy, x=x, w=w, y=y, pre=pre, dx=dx, dw=dw, db=db, dz=dz)
    check = backend.check
    name = ACTIVATIONS.canonical(activation)
    x, w = check.product_operands(x, w)
    dy = check.shaped(dy, "dy", (x.shape[0], w.shape[1]), x.dtype)
    y, pre = check.saved(y, pre, name, dy)
    outputs = check.outputs(dy, x, w, y, pre)
    dx = outputs.add(dx, "dx", x.shape, x.dtype)
    dw = outputs.add(dw, "dw", w.shape, x.dtype)
    db = outputs.add(db, "db", w.shape[1:], x.dtype)
    dz = outputs.add(dz, "dz", dy.shape, x.dtype)
    results = backend.linear_backward(dy, x, w, y, name, pre=pre, dx=dx, dw=dw, db=db, dz=dz)
    outputs.finish()
    dx, dw, db = (outputs.own(array) for array in results)
    return dx, dw, db


def activate(z: Any, activation: str = "identity", *, out: Any = None) -> np.ndarray:
    """y = f(z), z (B, O)."""
    backend = backends.of(z=z, out=out)
    check = backend.check
    name = ACTIVATIONS.canonical(activation)
    z = check.array(z, "z", 2)
    outputs = check.outputs(z)
    y = backend.activate(z, name, out=outputs.add(out, "out", z.shape, z.dtype))
    outputs.finish()
    return outputs.own(y)


def activate_backward(
    dy: Any, y: Any = None, activation: str = "identity", *, pre: Any = None, out: Any = None
) -> np.ndarray:
    """dz = dy * f'(.), from y (B, O) or `pre` (B, O), whichever the slope reads (docs/activations.md)."""
    backend = backends.of(dy=dy, y=y, pre=pre, out=out)
    check = backend.check
    name = ACTIVATIONS.canonical(activation)
    dy = check.array(dy, "dy", 2)
    y, pre = check.saved(y, pre, name, dy)
    outputs = check.outputs(dy, y, pre)
    dz = backend.activate_backward(dy, y, name, pre=pre, out=outputs.add(out, "out", dy.shape, dy.dtype))
    outputs.finish()
    return outputs.own(dz)


def softmax(z: Any, *, out: Any = None) -> np.ndarray:
    """Probabilities exp(z) / sum exp(z) of each row of z (B, O), without overflow."""
    backend = backends.of(z=z, out=out)
    check = backend.check
    z = check.array(z, "z", 2)
    outputs = check.outputs(z)
    y = backend.softmax(z, out=outputs.add(out, "out", z.shape, z.dtype))
    outputs.finish()
    return outputs.own(y)


@functools.cache
def loss_function(loss: Loss) -> Callable[..., tuple[float, np.ndarray]]:
    """The public function of a loss."""
    parameter = loss.parameter
    scope: dict[str, Any] = {"loss": loss, "call": _loss}
    text = f"call(loss, z, target, weight, dz, {parameter.name if parameter else 0.0})"
    exec(f"def {loss.name}({loss.signature()}):\n    return {text}", scope)
    function = scope[loss.name]
    function.__module__, function.__doc__ = "kernels", documentation(loss)
    function.__annotations__ = dict.fromkeys(("z", "target", "weight", "dz"), Any)
    function.__annotations__ |= {parameter.name: float} if parameter else {}
    function.__annotations__["return"] = tuple[float, np.ndarray]
    return function


def documentation(loss: Loss) -> str:
    """What help says of a loss's function."""
    rows = "the weighted mean over rows of" if loss.averaged else "the sum over rows of weight times"
    lines = [
        f"(loss, dz): {rows} the {'mean' if loss.mean else 'sum'} over outputs of",
        f"{loss.formula or (loss.f.__doc__ or loss.name).partition(chr(10))[0]}".rstrip("."),
        "",
        "z: (B, O), what the last layer's product makes, and what t is compared with.",
    ]
    must = f", which must {loss.targets.must}" if loss.targets.must else ""
    labels = "integer labels (B,) from 0 to O - 1, or " if loss.targets.labels else ""
    lines.append(f"target: t, {labels}(B, O){must}{'' if labels else ', or (B,) where O is 1'}.")
    lines.append("weight: (B,), of the rows, >= 0; None where all count alike.")
    if loss.parameter is not None:
        lines.append(f"{loss.parameter.name}: a number in {loss.parameter.interval}.")
    lines.append("dz: (B, O), is overwritten with the gradient and returned; a new array where it is None.")
    lines.append("Raises TypeError or ValueError naming the argument, before anything is written.")
    return "\n".join(lines)


def _loss(loss: Loss, z: Any, target: Any, weight: Any, dz: Any, parameter: float) -> tuple[float, np.ndarray]:
    if loss.parameter is not None:
        loss.parameter.range(loss.parameter.name, parameter)
    backend = backends.of(z=z, target=target, weight=weight, dz=dz)
    check = backend.check
    z = check.array(z, "z", 2)
    target = check.loss_target(target, z, loss)
    weight = check.row_weight(weight, z)
    outputs = check.outputs(z, target, weight)
    dz = outputs.add(dz, "dz", z.shape, z.dtype)
    if z.size == 0:
        return 0.0, check.empty_like(z) if dz is None else outputs.own(dz)
    value, gradient = backend.loss_and_gradient((loss.name, parameter), z, target, weight, dz=dz)
    outputs.finish()
    return value, outputs.own(gradient)


steps = {name: public(name, optimizers[name]) for name in optimizers}  # of each optimiser
