"""The kernels in plain NumPy float64: readable, never optimised, the oracle of every test.

Letters: B rows of a batch, I inputs, O outputs; x (B, I), w (I, O), b (O,), y (B, O); d<name> is the gradient of the
loss with respect to <name>. Inputs of any dtype are converted to float64 and results are float64, except that an array
given as out=, pre=, dx=, dw=, db= or dz= is overwritten, cast to its own dtype, and returned. Functions that `kernels`
has too take its parameters, which it describes.

It shares no code with the kernels it judges; what is declared has its formulas in NumPy beside its rules. Two functions
at the end, `network_forward` and `network_loss_and_gradients`, are the oracles of whole networks and exist in no other
backend.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kernels.activations import ACTIVATIONS
from kernels.engine.codes import OUTPUTS
from kernels.losses import LOSSES, LossChoice, loss_and_parameter, names_for
from kernels.optimizers import known as optimizers

Array = np.ndarray


def _float64(a: ArrayLike) -> Array:
    return np.asarray(a, dtype=np.float64)


def _deliver(value: Array, out: Array | None) -> Array:
    """`value` itself, or `out` overwritten with it."""
    if out is None:
        return value
    if out.shape != value.shape:
        raise ValueError(f"output array: expected shape {value.shape}, got {out.shape}")
    out[...] = value
    return out


# Activations --------------------------------------------------------------------------------------------------------


def activate(z: ArrayLike, activation: str = "identity", *, out: Array | None = None) -> Array:
    """y = f(z), element by element; any shape."""
    return _deliver(ACTIVATIONS[activation].reference(_float64(z)), out)


def activate_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    activation: str = "identity",
    *,
    pre: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """dz = dy * f'(z), from the output y or from the pre-activation z = `pre`, whichever the slope reads.

    Raises ValueError if that is missing; identity needs neither.
    """
    dy, declared = _float64(dy), ACTIVATIONS[activation]
    if declared.is_identity:
        return _deliver(dy.copy(), out)
    saved = pre if declared.slope_reads == "z" else y
    if saved is None:
        read = "pre" if declared.slope_reads == "z" else "y"
        raise ValueError(f"{read}: the derivative of {declared.name} is computed from {read}, got None")
    return _deliver(dy * declared.reference_slope(_float64(saved)), out)


def softmax(z: ArrayLike, *, out: Array | None = None) -> Array:
    """Probabilities exp(z) / sum(exp(z)) of each row; the row's maximum is subtracted first, so nothing overflows."""
    return _deliver(np.exp(_log_softmax(_float64(z))), out)


def _log_softmax(z: Array) -> Array:
    if z.size == 0:
        return z
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


# Dense layer --------------------------------------------------------------------------------------------------------


def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    activation: str = "identity",
    *,
    out: Array | None = None,
    pre: Array | None = None,
) -> Array:
    """y = f(x @ w + b), (B, O). `pre` (B, O) receives the pre-activation x @ w + b."""
    z = _float64(x) @ _float64(w)
    if b is not None:
        z = z + _float64(b)
    if pre is not None:
        _deliver(z, pre)
    return activate(z, activation, out=out)


def linear_backward(
    dy: ArrayLike,
    x: ArrayLike,
    w: ArrayLike,
    y: ArrayLike | None = None,
    activation: str = "identity",
    *,
    pre: ArrayLike | None = None,
    dx: Array | None = None,
    dw: Array | None = None,
    db: Array | None = None,
    dz: Array | None = None,
) -> tuple[Array, Array, Array]:
    """(dx (B, I), dw (I, O), db (O,)) of `linear`.

    dz = dy * f'(z); dx = dz @ w.T; dw = x.T @ dz; db = the sum of dz over its rows.
    `dz` (B, O) receives the gradient of the pre-activation. Raises ValueError as `activate_backward` does.
    """
    gradient = activate_backward(dy, y, activation, pre=pre)
    if dz is not None:
        _deliver(gradient, dz)
    return (
        _deliver(gradient @ _float64(w).T, dx),
        _deliver(_float64(x).T @ gradient, dw),
        _deliver(gradient.sum(axis=0), db),
    )


# Losses -------------------------------------------------------------------------------------------------------------


def _target_matrix(target: ArrayLike, shape: tuple[int, ...]) -> Array:
    """The target as (B, O); (B,) is taken where O is 1. Shapes must agree: nothing is broadcast."""
    t = _float64(target)
    if t.ndim == 1 and shape[1] == 1:
        t = t[:, np.newaxis]
    if t.shape != shape:
        raise ValueError(f"target: expected shape {shape}, got {t.shape}")
    return t


def _one_hot(labels: Array, n_classes: int) -> Array:
    if labels.dtype.kind not in "biu":
        raise ValueError(f"target: expected integer labels or probabilities (B, {n_classes}), got {labels.dtype} (B,)")
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        raise ValueError(f"target: expected labels 0..{n_classes - 1}, got {labels.min()}..{labels.max()}")
    return _float64(labels[:, np.newaxis] == np.arange(n_classes))


def _over_rows(row_loss: Array, row_gradient: Array, weight: ArrayLike | None, averaged: bool) -> tuple[float, Array]:
    """The mean or sum over the rows by weight, and its gradient; a mean is zero if every weight is zero."""
    share = np.ones(len(row_loss)) if weight is None else _float64(weight)
    if averaged:
        share = share / (share.sum() or 1.0)
    return float(share @ row_loss), share[:, np.newaxis] * row_gradient


def loss_and_gradient(
    loss: LossChoice, z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """The weighted mean or sum over rows of the mean or sum over outputs of a loss, and its gradient.

    What a loss is of one output its declaration says in `reference`, or in its rule where it has none.

    Parameters
    ----------
    loss : str, or (str, float)
        A name, or a name and the parameter.
    z : array (B, O)
    target : array (B, O), or (B,) where O is 1, or integer labels (B,) where the loss takes them
    weight : array (B,), optional
    dz : array (B, O), optional
        Receives the gradient.

    Returns
    -------
    loss : float
    dz : array (B, O)
    """
    declared, parameter = loss_and_parameter(loss)
    z, labels = _float64(z), np.asarray(target)
    by_label = labels.ndim == 1 and declared.targets.labels
    t = _one_hot(labels, z.shape[1]) if by_label else _target_matrix(target, z.shape)
    if z.size == 0:
        return 0.0, _deliver(np.zeros(z.shape), dz)
    if declared.reference is None:
        losses, slopes = declared.rule(z, t, parameter)
    else:
        losses, slopes = declared.reference(z, t, *([parameter] if declared.parameter else []))
    divisor = z.shape[1] if declared.mean else 1
    value, gradient = _over_rows(losses.sum(axis=1) / divisor, slopes / divisor, weight, declared.averaged)
    return value, _deliver(gradient, dz)


def __getattr__(name: str) -> Any:
    """The function of a loss, with the parameters of that of `kernels`."""
    if name not in LOSSES:
        raise AttributeError(f"module 'kernels.reference' has no attribute {name!r}")
    loss, scope = LOSSES[name], {"loss_and_gradient": loss_and_gradient}
    choice = f"({name!r}, {loss.parameter.name})" if loss.parameter else repr(name)
    exec(f"def {name}({loss.signature()}):\n    return loss_and_gradient({choice}, z, target, weight, dz=dz)", scope)
    return scope[name]


# Steps of optimisers, in place, on arrays of one shape ----------------------------------------------------------------


globals().update({name: optimizers[name].reference for name in optimizers})


# Dropout: which elements of a layer's output stay, out of a counter-based generator -----------------------------------


def philox(counter: ArrayLike, key: ArrayLike) -> Array:
    """Philox4x32-10 (Salmon et al. 2011, section 4.3): words (..., 4), uint64, of counters (..., 4) and a key (2,)."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    words, (key0, key1) = np.array(counter, dtype=np.uint64), np.array(key, dtype=np.uint64)
    for _ in range(10):
        p0, p1 = words[..., 0] * np.uint64(0xD2511F53), words[..., 2] * np.uint64(0xCD9E8D57)
        w0, w2 = (p1 >> half) ^ words[..., 1] ^ key0, (p0 >> half) ^ words[..., 3] ^ key1
        words = np.stack([w0, p1 & low, w2, p0 & low], axis=-1)
        key0, key1 = (key0 + np.uint64(0x9E3779B9)) & low, (key1 + np.uint64(0xBB67AE85)) & low
    return words


def dropout_factors(rate: float, seed: int, layer: int, step: int, rows: int, columns: int) -> Array:
    """What inverted dropout multiplies a layer's output (rows, columns) by: 0, or 1 / (1 - rate).

    Element (r, c) stays where word r % 4 of counter (c, r // 4, step, layer) under the seed is at least rate * 2^32.
    """
    limit = min(round(rate * 2**32), 2**32 - 1)
    r, c = np.indices((rows, columns))
    counter = np.stack([c, r // 4, np.full_like(r, step), np.full_like(r, layer)], axis=-1)
    words = np.take_along_axis(philox(counter, [seed % 2**32, seed >> 32]), (r % 4)[..., np.newaxis], axis=-1)[..., 0]
    return np.where(words >= limit, 2**32 / (2**32 - limit), 0.0)


# Whole networks -------------------------------------------------------------------------------------------------------


def _layers(
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None,
    activations: Sequence[str],
    output: str,
    factors: Sequence[ArrayLike] | None = None,
) -> tuple[list[Array], list[Array], list[Array]]:
    """Pre-activations and outputs (B, width) of every layer, and what the next layer sees of them."""
    if len(activations) != len(weights) - 1:
        raise ValueError(f"activations: expected {len(weights) - 1}, one per hidden layer, got {len(activations)}")
    if output not in OUTPUTS:
        raise ValueError(f"output: expected one of {sorted(OUTPUTS)}, got {output!r}")
    pre_activations: list[Array] = []
    outputs: list[Array] = []
    seen: list[Array] = []
    below = _float64(x)
    for layer, w in enumerate(weights):
        z = linear(below, w, None if biases is None else biases[layer])
        if layer < len(activations):
            y = activate(z, activations[layer])
        else:
            y = softmax(z) if output == "softmax" else np.exp(z) if output == "exp" else activate(z, output)
        pre_activations.append(z)
        outputs.append(y)
        below = y if factors is None or layer == len(activations) else y * _float64(factors[layer])
        seen.append(below)
    return pre_activations, outputs, seen


def network_forward(
    x: ArrayLike,
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None,
    activations: Sequence[str],
    output: str,
) -> list[Array]:
    """What every layer of a network makes.

    Parameters
    ----------
    x : array (B, I)
    weights, biases : sequences of arrays (I, O) and (O,), one for each layer
        biases may be None.
    activations : sequence of str, one for each hidden layer
    output : str
        softmax, sigmoid, identity or exp.

    Returns
    -------
    outputs : list of arrays (B, width), the network's own output last
    """
    return _layers(x, weights, biases, activations, output)[1]


def network_loss_and_gradients(
    x: ArrayLike,
    target: ArrayLike,
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None,
    activations: Sequence[str],
    output: str,
    loss: LossChoice | None = None,
    weight: ArrayLike | None = None,
    l2: float = 0.0,
    factors: Sequence[ArrayLike] | None = None,
) -> tuple[float, list[Array], list[Array], Array]:
    """The loss of a whole network and its gradients.

    Parameters
    ----------
    x, weights, biases, activations, output
        As `network_forward` takes them.
    target, weight
        As `loss_and_gradient` takes them.
    loss : str, or (str, float), optional
        By default that of the output.
    l2 : float
        Adds l2 / 2 * sum(w^2) over all weights, biases excepted.
    factors : sequence of arrays (B, width), one for each hidden layer, optional
        What its output is multiplied by, see `dropout_factors`.

    Returns
    -------
    loss : float
    dw, db : lists of arrays (I, O) and (O,)
        db as if biases were zero where there are none.
    dx : array (B, I)
    """
    pre_activations, outputs, seen = _layers(x, weights, biases, activations, output, factors)
    choice = names_for(output)[0] if loss is None else loss
    declared, _ = loss_and_parameter(choice)
    if output not in declared.outputs:
        raise ValueError(f"loss: expected one that goes with a {output} output, got {loss!r}")
    if declared.reads == "z":
        value, dz = loss_and_gradient(choice, pre_activations[-1], target, weight)
    else:
        y = outputs[-1]
        value, dy = loss_and_gradient(choice, y, target, weight)
        if output == "softmax":
            dz = y * (dy - (dy * y).sum(axis=1, keepdims=True))  # the Jacobian of softmax is diag(y) - y y^T
        else:
            dz = activate_backward(dy, y, output)

    dws: list[Array] = []
    dbs: list[Array] = []
    for layer in reversed(range(len(weights))):
        inputs = seen[layer - 1] if layer > 0 else x
        dx, dw, db = linear_backward(dz, inputs, weights[layer])
        dws.insert(0, dw + l2 * _float64(weights[layer]))
        dbs.insert(0, db)
        if layer > 0:
            if factors is not None:
                dx = dx * _float64(factors[layer - 1])
            dz = activate_backward(dx, outputs[layer - 1], activations[layer - 1], pre=pre_activations[layer - 1])
        value += 0.5 * l2 * float((_float64(weights[layer]) ** 2).sum())
    return value, dws, dbs, dx
