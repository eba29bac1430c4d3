"""RMSprop: steps by the gradient over the root of its running mean square."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import select, sqrt
from kernels.optimizers.declaration import (
    ClipNorm,
    Flag,
    Optimizer,
    Positive,
    Rate,
    Share,
    ShareBelowOne,
    Update,
    declare,
)


def _mean(rho: Any, share: Any, before: Any, now: Any) -> Any:
    return rho * before + share * now


def _root(square: Any, epsilon: Any) -> Any:
    """Epsilon is outside of the root. Rounding can make a variance negative."""
    return sqrt(select(square < 0.0, 0.0, square)) + epsilon


def rmsprop(w: Any, g: Any, v: Any, learning_rate: Any, rho: Any, share: Any, epsilon: Any) -> Any:
    """Tieleman & Hinton 2012, lecture 6.5, as in PyTorch; share is 1 - rho."""
    v = _mean(rho, share, v, g * g)
    return w - learning_rate * g / (sqrt(v) + epsilon), v


def rmsprop_momentum(
    w: Any, g: Any, v: Any, velocity: Any, learning_rate: Any, rho: Any, share: Any, epsilon: Any, momentum: Any
) -> Any:
    """With momentum, as in PyTorch."""
    v = _mean(rho, share, v, g * g)
    velocity = momentum * velocity + g / (sqrt(v) + epsilon)
    return w - learning_rate * velocity, v, velocity


def rmsprop_centered(w: Any, g: Any, v: Any, mean: Any, learning_rate: Any, rho: Any, share: Any, epsilon: Any) -> Any:
    """By the variance in the place of the mean square (Graves 2013, equations 38 to 45)."""
    v, mean = _mean(rho, share, v, g * g), _mean(rho, share, mean, g)
    return w - learning_rate * g / _root(v - mean * mean, epsilon), v, mean


def rmsprop_centered_momentum(
    w: Any, g: Any, v: Any, mean: Any, velocity: Any, learning_rate: Any, rho: Any, share: Any, epsilon: Any,
    momentum: Any,
) -> Any:  # fmt: skip
    """Both."""
    v, mean = _mean(rho, share, v, g * g), _mean(rho, share, mean, g)
    velocity = momentum * velocity + g / _root(v - mean * mean, epsilon)
    return w - learning_rate * velocity, v, mean, velocity


def _scalars(learning_rate: Any, rho: Any, epsilon: Any) -> Any:
    return learning_rate, rho, 1.0 - rho, epsilon


def _momentum_scalars(learning_rate: Any, rho: Any, epsilon: Any, momentum: Any) -> Any:
    return learning_rate, rho, 1.0 - rho, epsilon, momentum


def reference(
    w: Any,
    dw: Any,
    v: Any,
    mean: Any = None,
    velocity: Any = None,
    *,
    learning_rate: float = 0.01,
    rho: float = 0.99,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
) -> None:
    """One step of RMSprop (Tieleman & Hinton 2012), in place on w, v and what is given of mean and velocity.

    v = rho * v + (1 - rho) * dw^2; w -= learning_rate * dw / (sqrt(v) + epsilon). With mean, the running mean of dw,
    v - mean^2 is in the place of v (Graves 2013). With velocity, velocity = momentum * velocity + what follows the rate
    there, and w -= learning_rate * velocity. centered needs a mean, momentum a velocity. All have one shape.
    """
    gradient = np.asarray(dw, np.float64)
    square = rho * np.asarray(v, np.float64) + (1.0 - rho) * gradient**2
    v[...] = square
    if mean is not None:
        average = rho * np.asarray(mean, np.float64) + (1.0 - rho) * gradient
        mean[...] = average
        square = np.maximum(square - average**2, 0.0)
    step = gradient / (np.sqrt(square) + epsilon)
    if velocity is not None:
        step = momentum * np.asarray(velocity, np.float64) + step
        velocity[...] = step
    w[...] = np.asarray(w, np.float64) - learning_rate * step


_UPDATES = (
    Update(("v", "mean", "velocity"), rmsprop_centered_momentum, _momentum_scalars),
    Update(("v", "mean"), rmsprop_centered, _scalars),
    Update(("v", "velocity"), rmsprop_momentum, _momentum_scalars),
    Update(("v",), rmsprop, _scalars),
)


@declare("rmsprop")
@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop (Tieleman & Hinton 2012, lecture 6.5), with momentum and centred as in PyTorch.

    v = rho * v + (1 - rho) * g^2; w -= learning_rate * g / (sqrt(v) + epsilon). Centred, v less the square of g's
    running mean is in the place of v (Graves 2013). With momentum, velocity = momentum * velocity + g / (...), and
    w -= learning_rate * velocity.

    Parameters
    ----------
    learning_rate : float or schedule
        A number > 0, or a schedule of the step.
    rho : float
        In [0, 1), PyTorch's alpha.
    epsilon : float
        > 0.
    momentum : float
        In [0, 1].
    centered : bool
        Whether the square of g's running mean is subtracted.
    clip_norm : float, optional
        The largest norm of the gradient, > 0, see Optimizer.
    """

    learning_rate: Rate = 0.01
    rho: ShareBelowOne = 0.99
    epsilon: Positive = 1e-8
    momentum: Share = 0.0
    centered: Flag = False
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = _UPDATES
    optional: ClassVar[Mapping[str, str]] = {"mean": "centered", "velocity": "momentum"}
    reference = staticmethod(reference)
