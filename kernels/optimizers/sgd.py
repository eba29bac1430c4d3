"""Stochastic gradient descent, with momentum or without."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import select
from kernels.optimizers.declaration import ClipNorm, Flag, Optimizer, Rate, Share, Update, declare


def sgd(w: Any, g: Any, learning_rate: Any) -> Any:
    """w - learning_rate * g."""
    return (w - learning_rate * g,)


def momentum(w: Any, g: Any, velocity: Any, learning_rate: Any, momentum: Any, nesterov: Any) -> Any:
    """Sutskever et al. 2013, as in scikit-learn and Keras."""
    new = momentum * velocity - learning_rate * g
    return w + select(nesterov != 0.0, momentum * new - learning_rate * g, new), new


def _sgd_scalars(learning_rate: Any) -> Any:
    return (learning_rate,)


def _momentum_scalars(learning_rate: Any, momentum: Any, nesterov: Any) -> Any:
    return learning_rate, momentum, nesterov


_UPDATES = Update(("velocity",), momentum, _momentum_scalars), Update((), sgd, _sgd_scalars)


def reference(
    w: Any, dw: Any, velocity: Any = None, *, learning_rate: float, momentum: float = 0.0, nesterov: bool = False
) -> None:
    """One step of gradient descent, in place on w and velocity (arrays of any one shape).

    velocity = momentum * velocity - learning_rate * dw; w += velocity, or with nesterov w += momentum * velocity -
    learning_rate * dw (Sutskever et al. 2013). Momentum needs a velocity.
    """
    if velocity is None and momentum != 0.0:
        raise ValueError(f"velocity must be given with momentum {momentum}: an array like w, of zeros at first")
    gradient_step = -learning_rate * np.asarray(dw, np.float64)
    step = gradient_step
    if velocity is not None:
        step = momentum * np.asarray(velocity, np.float64) + gradient_step
        velocity[...] = step
        if nesterov:
            step = momentum * step + gradient_step
    w[...] = np.asarray(w, np.float64) + step


@declare("sgd")
@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum, as in scikit-learn and Keras.

    v = momentum * v - learning_rate * g; then w += v, or with Nesterov's momentum w += momentum * v - learning_rate * g
    (Sutskever et al. 2013, section 2, in the form that stores the look-ahead weights). Without momentum `nesterov`
    changes nothing.

    Parameters
    ----------
    learning_rate : float or schedule
        A number > 0, or a schedule of the step.
    momentum : float
        In [0, 1].
    nesterov : bool
        Whether the momentum is Nesterov's.
    clip_norm : float, optional
        The largest norm of the gradient, > 0, see Optimizer.
    """

    learning_rate: Rate = 0.01
    momentum: Share = 0.0
    nesterov: Flag = False
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = _UPDATES
    optional: ClassVar[Mapping[str, str]] = {"velocity": "momentum"}
    reference = staticmethod(reference)
