"""The public functions: each checks its arguments, chooses a backend and calls it. See the package's own text."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import backends
from kernels.activations import ACTIVATIONS
from kernels.losses import Loss
from kernels.optimizers import known as optimizers
from kernels.optimizers.declaration import Optimizer
from kernels.stepping import public


def linear(
    x: Any, w: Any, b: Any = None, activation: str = "identity", *, out: Any = None, pre: Any = None
) -> np.ndarray:
    """Make the outputs of a dense layer, y = f(x @ w + b).

    Parameters
    ----------
    x : array (B, I)
        float32 or float64, as all arrays then are; all may have any strides.
    w : array (I, O)
    b : array (O,), optional
    activation : str
        f, by a name of docs/activations.md, which has the formulas and their sources.
    out : array (B, O), optional
        Is overwritten and returned.
    pre : array (B, O), optional
        Receives the pre-activation x @ w + b, which linear_backward needs of activations whose slope reads z.

    Returns
    -------
    y : array (B, O)
        `out`, or a new array of the inputs' dtype.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came, before anything is written.
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
    """Make the gradients of a dense layer, of y = f(x @ w + b).

    dz = dy * f'(.), dx = dz @ w.T, dw = x.T @ dz, and db is the sum of dz's rows.

    Parameters
    ----------
    dy : array (B, O)
        float32 or float64, as all arrays then are; all may have any strides.
    x : array (B, I)
    w : array (I, O)
    y : array (B, O), optional
        What linear returned, where the slope of the activation reads y.
    activation : str
        f, by a name of docs/activations.md, which says what each slope reads.
    pre : array (B, O), optional
        The pre-activation, where the slope reads z.
    dx, dw, db, dz : arrays (B, I), (I, O), (O,) and (B, O), optional
        Are overwritten; the first three are returned.

    Returns
    -------
    dx, dw, db : arrays (B, I), (I, O) and (O,)
        Those given, or new arrays of the inputs' dtype.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came, before anything is written.
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
    """Make y = f(z), element by element.

    Parameters
    ----------
    z : array (B, O)
        float32 or float64, of any strides.
    activation : str
        f, by a name of docs/activations.md, which has the formulas and their sources.
    out : array (B, O), optional
        Is overwritten and returned; it may be z.

    Returns
    -------
    y : array (B, O)
        `out`, or a new array of z's dtype.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came, before anything is written.
    """
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
    """Make dz = dy * f'(.), element by element.

    Parameters
    ----------
    dy : array (B, O)
        float32 or float64, as all arrays then are; all may have any strides.
    y : array (B, O), optional
        The activation's output, where its slope reads y.
    activation : str
        f, by a name of docs/activations.md, which says what each slope reads.
    pre : array (B, O), optional
        The pre-activation, where the slope reads z.
    out : array (B, O), optional
        Is overwritten and returned; it may be dy.

    Returns
    -------
    dz : array (B, O)
        `out`, or a new array of dy's dtype.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came, before anything is written.
    """
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
    """Make the probabilities exp(z) / sum exp(z) of each row, whose maximum is subtracted first: nothing overflows.

    Parameters
    ----------
    z : array (B, O)
        float32 or float64, of any strides.
    out : array (B, O), optional
        Is overwritten and returned; it may be z.

    Returns
    -------
    y : array (B, O)
        `out`, or a new array of z's dtype.

    Raises
    ------
    TypeError, ValueError
        Naming the argument, what was expected and what came, before anything is written.
    """
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
    scope: dict[str, Any] = {"_declared": loss, "_call": _loss}
    text = f"_call(_declared, z, target, weight, dz, {parameter.name if parameter else 0.0})"
    exec(f"def {loss.name}({loss.signature()}):\n    return {text}", scope)
    function = scope[loss.name]
    function.__module__, function.__doc__ = "kernels", documentation(loss)
    function.__annotations__ = dict.fromkeys(("z", "target", "weight", "dz"), Any)
    function.__annotations__ |= {parameter.name: float} if parameter else {}
    function.__annotations__["return"] = tuple[float, np.ndarray]
    return function


def documentation(loss: Loss) -> str:
    """What help says of a loss's function."""
    rows = "weighted mean over rows of" if loss.averaged else "sum over rows of weight times"
    formula = (loss.formula or (loss.f.__doc__ or loss.name).partition("\n")[0]).rstrip(".")
    must = f", which must {loss.targets.must}" if loss.targets.must else ""
    labels = "array (B,) of integer labels from 0 to O - 1, or array (B, O)"
    given = loss.parameter
    default = "" if given is None or given.default is None else f", default {given.default}"
    parameter = f"{given.name} : float{default}\n    In {given.interval}.\n" if given else ""
    return _LOSS.format(
        what=f"{rows} the {'mean' if loss.mean else 'sum'} over outputs of\n{formula}",
        reads="The output" if loss.reads == "y" else "What the last layer's product makes, before its activation",
        target=labels if loss.targets.labels else "array (B, O), or (B,) where O is 1",
        dtype="labels of any integers or numbers of z's dtype" if loss.targets.labels else "of z's dtype",
        must=must,
        parameter=parameter,
    )


_LOSS = """Make a loss and its gradient, the {what}.

Parameters
----------
z : array (B, O)
    {reads}; float32 or float64, of any strides.
target : {target}
    t, {dtype}{must}.
weight : array (B,), optional
    Of the rows, >= 0; without it all count alike.
{parameter}dz : array (B, O), optional
    Is overwritten and returned; it may be z.

Returns
-------
loss : float
dz : array (B, O)
    The gradient of the loss with respect to z, `dz` or a new array of z's dtype.

Raises
------
TypeError, ValueError
    Naming the argument, what was expected and what came, before anything is written."""


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


steps: dict[str, Callable[..., None]] = {}  # the function of each optimiser


def _add_step(name: str, declaration: type[Optimizer]) -> None:
    steps[name] = public(name, declaration)


optimizers.follow(_add_step)
