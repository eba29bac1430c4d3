"""AMSGrad: Adam by the largest second moment so far."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import select, sqrt
from kernels.optimizers.adam import moments, scalars
from kernels.optimizers.declaration import ClipNorm, Optimizer, Positive, Rate, ShareBelowOne, Update, declare


def amsgrad(
    w: Any, g: Any, m: Any, v: Any, largest: Any, learning_rate: Any, beta1: Any, share1: Any, beta2: Any, share2: Any,
    epsilon: Any, correction1: Any, correction2: Any,
) -> Any:  # fmt: skip
    """Reddi, Kale & Kumar 2018, algorithm 2, with Adam's corrections as in PyTorch."""
    m = beta1 * m + share1 * g
    v = beta2 * v + share2 * (g * g)
    largest = select(largest < v, v, largest)
    return w - learning_rate * (m * correction1) / (sqrt(largest * correction2) + epsilon), m, v, largest


def reference(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    largest: Any,
    *,
    step: int,
    learning_rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
) -> None:
    """Step number `step`, counted from 1, of AMSGrad (Reddi, Kale & Kumar 2018), in place on all but dw (of one shape).

    Adam's step, with the largest v so far in the place of v.
    """
    first, second = moments(dw, m, v, beta1, beta2)
    most = np.maximum(np.asarray(largest, np.float64), second)
    largest[...] = most
    root = np.sqrt(most) / np.sqrt(1.0 - beta2**step)
    w[...] = np.asarray(w, np.float64) - learning_rate / (1.0 - beta1**step) * first / (root + epsilon)


@declare("amsgrad")
@dataclass(frozen=True)
class AMSGrad(Optimizer):
    """AMSGrad (Reddi, Kale & Kumar 2018, algorithm 2, with Adam's corrections as in PyTorch).

    Adam's step, with the largest v so far in the place of v.

    learning_rate, beta1, beta2, epsilon, clip_norm: as Adam's.
    """

    learning_rate: Rate = 1e-3
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.999
    epsilon: Positive = 1e-8
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = (Update(("m", "v", "largest"), amsgrad, scalars),)
    reference = staticmethod(reference)
