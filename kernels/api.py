"""The public functions: each checks its arguments, chooses a backend and calls it. See the package's own text."""

from typing import Any

import numpy as np

from kernels import backends, checks
from kernels.optimizers import known as optimizers
from kernels.stepping import public


def linear(
    x: Any, w: Any, b: Any = None, activation: str = "identity", *, out: Any = None, pre: Any = None
) -> np.ndarray:
    """y = f(x @ w + b).

    x (B, I), w (I, O), b (O,) or None. out (B, O): written to and returned; else a new array. pre (B, O): receives the
    pre-activation x @ w + b, which linear_backward needs for silu and gelu. Raises TypeError or ValueError naming the
    argument, before anything is written.
    """
    backend = backends.of(x=x, w=w, b=b, out=out, pre=pre)
    check = backend.check
    name = checks.activation_name(activation)
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

    dz = dy * f'(.), dx = dz @ w.T, dw = x.T @ dz, db = the sum of dz's rows. The derivative is taken from y, for
    silu and gelu from `pre` (an error says so where it is missing). dx (B, I), dw (I, O), db (O,), dz (B, O):
    overwritten where given, else new.
    """
    backend = backends.of(dy=dy, x=x, w=w, y=y, pre=pre, dx=dx, dw=dw, db=db, dz=dz)
    check = backend.check
    name = checks.activation_name(activation)
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
    name = checks.activation_name(activation)
    z = check.array(z, "z", 2)
    outputs = check.outputs(z)
    y = backend.activate(z, name, out=outputs.add(out, "out", z.shape, z.dtype))
    outputs.finish()
    return outputs.own(y)


def activate_backward(
    dy: Any, y: Any = None, activation: str = "identity", *, pre: Any = None, out: Any = None
) -> np.ndarray:
    """dz = dy * f'(.), from y (B, O), or for silu and gelu from `pre` (B, O)."""
    backend = backends.of(dy=dy, y=y, pre=pre, out=out)
    check = backend.check
    name = checks.activation_name(activation)
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


def softmax_cross_entropy(z: Any, target: Any, weight: Any = None, *, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the mean of -sum_o target log softmax(z), weighted by `weight` (B,), and its gradient.

    z (B, O) logits; target: integer labels (B,) or probabilities (B, O). Stable: through log-sum-exp.
    """
    return _loss("softmax_cross_entropy", z, target, weight, dz)


def sigmoid_cross_entropy(z: Any, target: Any, weight: Any = None, *, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the weighted mean over rows of the sum over outputs of max(z, 0) - z t + log1p(exp(-|z|)).

    z (B, O) logits; target (B, O) in [0, 1], or (B,) when O is 1.
    """
    return _loss("sigmoid_cross_entropy", z, target, weight, dz)


def mean_squared_error(z: Any, target: Any, weight: Any = None, *, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the weighted mean over rows of the mean over outputs of (z - target)^2; z, target (B, O)."""
    return _loss("mean_squared_error", z, target, weight, dz)


def sum_squared_error(z: Any, target: Any, weight: Any = None, *, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the sum over rows and outputs of weight * (z - target)^2; z, target (B, O)."""
    return _loss("sum_squared_error", z, target, weight, dz)


def poisson(z: Any, target: Any, weight: Any = None, *, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the weighted mean over rows of the sum over outputs of t (log(t) - z) - t + exp(z).

    Half the Poisson deviance of rates exp(z): z (B, O) their logarithms; target t (B, O) >= 0, or (B,) when O is 1.
    """
    return _loss("poisson", z, target, weight, dz)


def absolute_error(z: Any, target: Any, weight: Any = None, *, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the weighted mean over rows of the mean over outputs of |z - target|; z, target (B, O).

    Where z is the target dz is 0.
    """
    return _loss("absolute_error", z, target, weight, dz)


def huber(z: Any, target: Any, weight: Any = None, *, delta: float = 1.0, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the weighted mean over rows of the mean over outputs of a parabola that goes on as its tangents.

    e^2 / 2 where |e| <= delta, else delta (|e| - delta / 2), with e = z - target (Huber 1964; factors as in Keras and
    PyTorch): an outlier pulls no harder than an error of delta > 0. z, target (B, O).
    """
    checks.number_between("delta", delta, 0, np.inf)
    return _loss("huber", z, target, weight, dz, delta=delta)


def quantile(z: Any, target: Any, weight: Any = None, *, level: float, dz: Any = None) -> tuple[float, np.ndarray]:
    """(loss, dz): the weighted mean over rows of the mean over outputs of the pinball loss (Koenker & Bassett 1978).

    level (t - z) where z is below the target t, (1 - level) (z - t) above it: least where t is below z with
    probability `level`, which lies between 0 and 1. Where z is the target dz is 0. z, target (B, O).
    """
    checks.number_between("level", level, 0, 1)
    return _loss("quantile", z, target, weight, dz, level=level)


def _loss(name: str, z: Any, target: Any, weight: Any, dz: Any, **parameter: float) -> tuple[float, np.ndarray]:
    backend = backends.of(z=z, target=target, weight=weight, dz=dz)
    check = backend.check
    z = check.array(z, "z", 2)
    target = check.loss_target(target, z, name)
    weight = check.row_weight(weight, z)
    outputs = check.outputs(z, target, weight)
    dz = outputs.add(dz, "dz", z.shape, z.dtype)
    if z.size == 0:
        return 0.0, check.empty_like(z) if dz is None else outputs.own(dz)
    loss, gradient = getattr(backend, name)(z, target, weight, dz=dz, **parameter)
    outputs.finish()
    return loss, outputs.own(gradient)


steps = {name: public(name, optimizers[name]) for name in optimizers}  # of each optimiser
globals().update(steps)
