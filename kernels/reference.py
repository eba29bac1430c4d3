"""The kernels in plain NumPy float64: readable, never optimised, the oracle of every test.

Letters: B rows of a batch, I inputs, O outputs; x (B, I), w (I, O), b (O,), y (B, O); d<name> is the gradient of the
loss with respect to <name>. Inputs of any dtype are converted to float64 and results are float64, except that an array
given as out=, pre=, dx=, dw=, db= or dz= is overwritten, cast to its own dtype, and returned.

It shares no code with the kernels that it judges. The optimisers' steps come from where these are declared. Two
functions at its end, `network_forward` and `network_loss_and_gradients`, are the oracles of whole networks and exist in
no other backend.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from kernels.optimizers import known as optimizers

LEAKY_RELU_SLOPE = 0.01

Array = np.ndarray


# Scalar functions ---------------------------------------------------------------------------------------------------


def _sigmoid(z: Array) -> Array:
    """1 / (1 + exp(-z)), below zero as exp(z) / (1 + exp(z)), so that nothing overflows."""
    e = np.exp(-np.abs(z))
    return np.where(z < 0.0, e, 1.0) / (1.0 + e)


def _normal_cdf(z: Array) -> Array:
    """Phi(z) = (1 + erf(z / sqrt(2))) / 2, through erfc, which does not cancel below zero."""
    return 0.5 * np.vectorize(math.erfc, otypes=[np.float64])(-z / math.sqrt(2.0))


def _normal_density(z: Array) -> Array:
    return np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)


def _times(z: Array, factor: Array) -> Array:
    """z * factor, 0 where the factor is, at an infinite z too: the limit of what is multiplied so here."""
    return np.where(factor == 0.0, 0.0, z) * factor


def _silu_derivative(z: Array) -> Array:
    s = _sigmoid(z)
    return _times(1.0 + _times(z, 1.0 - s), s)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "identity": lambda z: z.copy(),
    "relu": lambda z: np.maximum(z, 0.0),
    "leaky_relu": lambda z: np.where(z > 0.0, z, LEAKY_RELU_SLOPE * z),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda z: _times(z, _sigmoid(z)),  # Elfwing et al. 2018, equation 5
    "gelu": lambda z: _times(z, _normal_cdf(z)),  # Hendrycks & Gimpel 2016, section 2
}
ALIASES = {"logistic": "sigmoid", "swish": "silu"}

# The derivative f'(z), written in terms of y = f(z) where that determines it, otherwise in terms of z. At their kink
# relu and leaky_relu have the derivative of the left side.
DERIVATIVES_FROM_OUTPUT: dict[str, Callable[[Array], Array]] = {
    "relu": lambda y: np.where(y <= 0.0, 0.0, 1.0),
    "leaky_relu": lambda y: np.where(y <= 0.0, LEAKY_RELU_SLOPE, 1.0),
    "sigmoid": lambda y: y * (1.0 - y),
    "tanh": lambda y: 1.0 - y * y,
}
DERIVATIVES_FROM_PRE_ACTIVATION: dict[str, Callable[[Array], Array]] = {
    "silu": _silu_derivative,
    "gelu": lambda z: _normal_cdf(z) + _times(z, _normal_density(z)),
}


def _canonical(activation: str) -> str:
    name = ALIASES.get(activation, activation)
    if name not in ACTIVATIONS:
        raise ValueError(f"activation: expected one of {sorted([*ACTIVATIONS, *ALIASES])}, got {activation!r}")
    return name


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
    return _deliver(ACTIVATIONS[_canonical(activation)](_float64(z)), out)


def activate_backward(
    dy: ArrayLike,
    y: ArrayLike | None = None,
    activation: str = "identity",
    *,
    pre: ArrayLike | None = None,
    out: Array | None = None,
) -> Array:
    """dz = dy * f'(z), from the output y, or for silu and gelu from the pre-activation z = `pre`.

    Raises ValueError if the one that the activation needs is missing; identity needs neither.
    """
    dy, name = _float64(dy), _canonical(activation)
    if name == "identity":
        derivative = np.ones_like(dy)
    elif name in DERIVATIVES_FROM_OUTPUT:
        if y is None:
            raise ValueError(f"y: the derivative of {name} is computed from the output y, got None")
        derivative = DERIVATIVES_FROM_OUTPUT[name](_float64(y))
    else:
        if pre is None:
            raise ValueError(f"pre: the derivative of {name} is computed from the pre-activation pre, got None")
        derivative = DERIVATIVES_FROM_PRE_ACTIVATION[name](_float64(pre))
    return _deliver(dy * derivative, out)


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


# Losses: (z, target, weight) -> (loss, gradient of the loss with respect to z) ---------------------------------------


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


def _mean_of_outputs(losses: Array) -> Array:
    """Each row's mean; 0 of no outputs."""
    return losses.sum(axis=1) / max(1, losses.shape[1])


def _weighted_mean(row_loss: Array, row_gradient: Array, weight: ArrayLike | None) -> tuple[float, Array]:
    """Mean over the rows by weight, and its gradient; both are zero if every weight is zero, and of no rows."""
    weight = np.ones(len(row_loss)) if weight is None else _float64(weight)
    total = weight.sum()
    share = weight / total if total != 0.0 else np.zeros_like(weight)
    return float(share @ row_loss), share[:, np.newaxis] * row_gradient


def softmax_cross_entropy(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """Cross-entropy of softmax(z) for logits z (B, O): row loss -sum_o t log(p), weighted mean over rows.

    `target` holds integer labels (B,) or probabilities (B, O); row weights (B,) are >= 0. Row gradient: p sum(t) - t.
    """
    z = _float64(z)
    labels = np.asarray(target)
    t = _one_hot(labels, z.shape[1]) if labels.ndim == 1 else _target_matrix(target, z.shape)
    log_p = _log_softmax(z)
    terms = np.multiply(t, log_p, out=np.zeros_like(t), where=t != 0.0)  # 0 log(0) = 0
    row_gradient = np.exp(log_p) * t.sum(axis=1, keepdims=True) - t
    loss, gradient = _weighted_mean(-terms.sum(axis=1), row_gradient, weight)
    return loss, _deliver(gradient, dz)


def sigmoid_cross_entropy(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """Binary cross-entropy of sigmoid(z) for logits z (B, O) and targets in [0, 1], (B, O) or, if O is 1, (B,).

    Row loss: the sum over outputs of max(z, 0) - z t + log(1 + exp(-|z|)); weighted mean over rows.
    """
    z = _float64(z)
    t = _target_matrix(target, z.shape)
    row_loss = (np.maximum(z, 0.0) - z * t + np.log1p(np.exp(-np.abs(z)))).sum(axis=1)
    loss, gradient = _weighted_mean(row_loss, _sigmoid(z) - t, weight)
    return loss, _deliver(gradient, dz)


def mean_squared_error(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """Row loss: the mean over outputs of (z - t)^2, without a factor 1/2; weighted mean over rows."""
    z = _float64(z)
    error = z - _target_matrix(target, z.shape)
    loss, gradient = _weighted_mean(_mean_of_outputs(error**2), 2.0 * error / z.shape[1], weight)
    return loss, _deliver(gradient, dz)


def sum_squared_error(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """The sum over all rows and outputs of weight * (z - t)^2; nothing is divided."""
    z = _float64(z)
    error = z - _target_matrix(target, z.shape)
    weight = np.ones((len(z), 1)) if weight is None else _float64(weight)[:, np.newaxis]
    return float((weight * error**2).sum()), _deliver(2.0 * weight * error, dz)


def poisson(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """Half the Poisson deviance of rates exp(z) for counts t >= 0, (B, O) or, if O is 1, (B,).

    Row loss: the sum over outputs of t (log(t) - z) - t + exp(z), where 0 log(0) = 0; weighted mean over rows.
    """
    z = _float64(z)
    t = _target_matrix(target, z.shape)
    log_t = np.log(t, out=np.zeros_like(t), where=t > 0.0)
    loss, gradient = _weighted_mean((t * (log_t - z) - t + np.exp(z)).sum(axis=1), np.exp(z) - t, weight)
    return loss, _deliver(gradient, dz)


def absolute_error(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, dz: Array | None = None
) -> tuple[float, Array]:
    """Row loss: the mean over outputs of |z - t|; weighted mean over rows. Where z is t the gradient is 0."""
    z = _float64(z)
    error = z - _target_matrix(target, z.shape)
    loss, gradient = _weighted_mean(_mean_of_outputs(np.abs(error)), np.sign(error) / z.shape[1], weight)
    return loss, _deliver(gradient, dz)


def huber(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, delta: float = 1.0, dz: Array | None = None
) -> tuple[float, Array]:
    """Row loss: the mean over outputs of e^2 / 2 where |e| <= delta, and of delta (|e| - delta / 2) beyond; e = z - t.

    Huber 1964, "Robust estimation of a location parameter", with the factor 1/2 and the default of Keras and PyTorch;
    weighted mean over rows.
    """
    z = _float64(z)
    error = z - _target_matrix(target, z.shape)
    size = np.abs(error)
    row_loss = _mean_of_outputs(np.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta)))
    loss, gradient = _weighted_mean(row_loss, np.clip(error, -delta, delta) / z.shape[1], weight)
    return loss, _deliver(gradient, dz)


def quantile(
    z: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, *, level: float, dz: Array | None = None
) -> tuple[float, Array]:
    """Row loss: the mean over outputs of level (t - z) where z <= t, and of (1 - level) (z - t) where z > t.

    The pinball loss of Koenker & Bassett 1978, "Regression quantiles": least where t lies below z with probability
    `level`. Weighted mean over rows. Where z is t the gradient is 0.
    """
    z = _float64(z)
    error = z - _target_matrix(target, z.shape)
    row_loss = _mean_of_outputs(np.where(error > 0.0, (1.0 - level) * error, -level * error))
    slope = np.select([error > 0.0, error < 0.0], [1.0 - level, -level], error)
    loss, gradient = _weighted_mean(row_loss, slope / z.shape[1], weight)
    return loss, _deliver(gradient, dz)


LOSSES: dict[str, Callable[..., tuple[float, Array]]] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "sigmoid_cross_entropy": sigmoid_cross_entropy,
    "mean_squared_error": mean_squared_error,
    "sum_squared_error": sum_squared_error,
    "poisson": poisson,
    "absolute_error": absolute_error,
    "huber": huber,
    "quantile": quantile,
}
LOSS_PARAMETERS = {"huber": "delta", "quantile": "level"}


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

OUTPUT_LOSSES = {
    "softmax": "softmax_cross_entropy",
    "sigmoid": "sigmoid_cross_entropy",
    "identity": "mean_squared_error",
    "exp": "poisson",
}
OTHER_LOSSES = {
    "softmax": ("mean_squared_error", "sum_squared_error"),
    "sigmoid": ("mean_squared_error", "sum_squared_error"),
    "identity": ("sum_squared_error", "absolute_error", "huber", "quantile"),
    "exp": (),
}


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
    if output not in OUTPUT_LOSSES:
        raise ValueError(f"output: expected one of {sorted(OUTPUT_LOSSES)}, got {output!r}")
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
    """Outputs (B, width) of every layer, the network's own output last.

    `weights` and `biases` have one entry per layer, `activations` one name per hidden layer; `output` is softmax,
    sigmoid, identity or exp.
    """
    return _layers(x, weights, biases, activations, output)[1]


def network_loss_and_gradients(
    x: ArrayLike,
    target: ArrayLike,
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None,
    activations: Sequence[str],
    output: str,
    loss: str | tuple[str, float] | None = None,
    weight: ArrayLike | None = None,
    l2: float = 0.0,
    factors: Sequence[ArrayLike] | None = None,
) -> tuple[float, list[Array], list[Array], Array]:
    """(loss, [dw], [db], dx) of a whole network; db is returned without biases too, as if they were zero.

    `loss` None is the cross-entropy of a softmax or sigmoid output, poisson of an exp output and mean_squared_error of
    an identity output; OTHER_LOSSES are what else goes with them. ("huber", delta) and ("quantile", level) are losses
    with their parameters. `weight` (B,) are row weights; `l2` adds l2 / 2 * sum(w^2) over all weights, biases excepted.
    `factors` has an array (B, width), which its output is multiplied by, for each hidden layer: see `dropout_factors`.
    """
    pre_activations, outputs, seen = _layers(x, weights, biases, activations, output, factors)
    loss = OUTPUT_LOSSES[output] if loss is None else loss
    name, options = (loss, {}) if isinstance(loss, str) else (loss[0], {LOSS_PARAMETERS[loss[0]]: loss[1]})
    if name not in (OUTPUT_LOSSES[output], *OTHER_LOSSES[output]):
        raise ValueError(f"loss: expected one that goes with a {output} output, got {loss!r}")
    if name in ("softmax_cross_entropy", "sigmoid_cross_entropy", "poisson"):
        value, dz = LOSSES[name](pre_activations[-1], target, weight)
    else:
        y = outputs[-1]
        value, dy = LOSSES[name](y, target, weight, **options)
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
