"""Adam: steps by running means of the gradient and of its square."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import sqrt
from kernels.optimizers.declaration import ClipNorm, Optimizer, Positive, Rate, ShareBelowOne, Update, declare


def adam(
    w: Any, g: Any, m: Any, v: Any, learning_rate: Any, beta1: Any, share1: Any, beta2: Any, share2: Any, epsilon: Any,
    correction1: Any, correction2: Any,
) -> Any:  # fmt: skip
    """Kingma & Ba 2015, algorithm 1; shares are 1 - beta, corrections 1 / (1 - beta^t)."""
    m = beta1 * m + share1 * g
    v = beta2 * v + share2 * (g * g)
    return w - learning_rate * (m * correction1) / (sqrt(v * correction2) + epsilon), m, v


def scalars(step: Any, learning_rate: Any, beta1: Any, beta2: Any, epsilon: Any) -> Any:
    """The shares are scalars of their own: that of float32's 0.999 would be wrong by 5e-5."""
    return (
        learning_rate, beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon, 1.0 / (1.0 - beta1**step),
        1.0 / (1.0 - beta2**step),
    )  # fmt: skip


def moments(dw: Any, m: Any, v: Any, beta1: float, beta2: float) -> tuple[np.ndarray, np.ndarray]:
    """For references: the running means of the gradient and of its square, in float64; m and v are overwritten."""
    gradient = np.asarray(dw, np.float64)
    first = beta1 * np.asarray(m, np.float64) + (1.0 - beta1) * gradient
    second = beta2 * np.asarray(v, np.float64) + (1.0 - beta2) * gradient**2
    m[...], v[...] = first, second
    return first, second


def reference(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    *,
    step: int,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Step number `step`, counted from 1, of Adam (Kingma & Ba 2015), in place on w, m and v (of any one shape)."""
    first, second = moments(dw, m, v, beta1, beta2)
    unbiased_first = first / (1.0 - beta1**step)
    unbiased_second = second / (1.0 - beta2**step)
    w[...] = np.asarray(w, np.float64) - learning_rate * unbiased_first / (np.sqrt(unbiased_second) + epsilon)


@declare("adam")
@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1).

    m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2;
    w -= learning_rate * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon), where t counts steps from 1.

    Parameters
    ----------
    learning_rate : float or schedule
        A number > 0, or a schedule of the step.
    beta1, beta2 : float
        In [0, 1).
    epsilon : float
        > 0.
    clip_norm : float, optional
        The largest norm of the gradient, > 0, see Optimizer.
    """

    learning_rate: Rate = 1e-3
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.999
    epsilon: Positive = 1e-8
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = (Update(("m", "v"), adam, scalars),)
    reference = staticmethod(reference)
