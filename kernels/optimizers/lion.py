"""Lion: steps by the sign of a momentum."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import select
from kernels.optimizers.declaration import ClipNorm, NotNegative, Optimizer, Rate, ShareBelowOne, Update, declare


def lion(
    w: Any, g: Any, m: Any, learning_rate: Any, weight_decay: Any, beta1: Any, share1: Any, beta2: Any, share2: Any
) -> Any:
    """Chen et al. 2023, algorithm 2; weight_decay is the rate times the option, shares are 1 - beta."""
    c = beta1 * m + share1 * g
    sign = select(c > 0.0, 1.0, select(c < 0.0, -1.0, c))  # NaN passes
    return w - weight_decay * w - learning_rate * sign, beta2 * m + share2 * g


def _scalars(learning_rate: Any, beta1: Any, beta2: Any, weight_decay: Any) -> Any:
    return learning_rate, learning_rate * weight_decay, beta1, 1.0 - beta1, beta2, 1.0 - beta2


def reference(
    w: Any,
    dw: Any,
    m: Any,
    *,
    learning_rate: float = 1e-4,
    beta1: float = 0.9,
    beta2: float = 0.99,
    weight_decay: float = 0.0,
) -> None:
    """One step of Lion (Chen et al. 2023), in place on w and m (arrays of any one shape).

    w -= learning_rate * (sign(beta1 * m + (1 - beta1) * dw) + weight_decay * w); m = beta2 * m + (1 - beta2) * dw.
    Biases are to have a weight_decay of 0.
    """
    gradient, before, mean = (np.asarray(array, np.float64) for array in (dw, w, m))
    direction = np.sign(beta1 * mean + (1.0 - beta1) * gradient) + weight_decay * before
    m[...] = beta2 * mean + (1.0 - beta2) * gradient
    w[...] = before - learning_rate * direction


@declare("lion")
@dataclass(frozen=True)
class Lion(Optimizer):
    """Lion (Chen et al. 2023, algorithm 2).

    w -= learning_rate * (sign(beta1 * m + (1 - beta1) * g) + weight_decay * w), without the last term for biases;
    m = beta2 * m + (1 - beta2) * g.

    learning_rate: a number > 0 or a schedule of the step. beta1, beta2: in [0, 1). weight_decay: >= 0. clip_norm: None
    or a number > 0, the largest norm of the gradient, see Optimizer.
    """

    learning_rate: Rate = 1e-4
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.99
    weight_decay: NotNegative = 0.0
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = (Update(("m",), lion, _scalars),)
    reference = staticmethod(reference)
