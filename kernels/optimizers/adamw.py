"""AdamW: Adam, and weights that decay by themselves."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.optimizers.adam import adam
from kernels.optimizers.adam import reference as adam_reference
from kernels.optimizers.adam import scalars as adam_scalars
from kernels.optimizers.declaration import (
    ClipNorm,
    NotNegative,
    Optimizer,
    Positive,
    Rate,
    ShareBelowOne,
    Update,
    declare,
)


def adamw(
    w: Any, g: Any, m: Any, v: Any, weight_decay: Any, learning_rate: Any, beta1: Any, share1: Any, beta2: Any,
    share2: Any, epsilon: Any, correction1: Any, correction2: Any,
) -> Any:  # fmt: skip
    """Loshchilov & Hutter 2019, algorithm 2, as in PyTorch; weight_decay is the rate times the option."""
    return adam(
        w - weight_decay * w, g, m, v, learning_rate, beta1, share1, beta2, share2, epsilon, correction1, correction2
    )


def _scalars(step: Any, learning_rate: Any, beta1: Any, beta2: Any, epsilon: Any, weight_decay: Any) -> Any:
    return learning_rate * weight_decay, *adam_scalars(step, learning_rate, beta1, beta2, epsilon)


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
    weight_decay: float = 0.01,
) -> None:
    """Step number `step`, counted from 1, of AdamW (Loshchilov & Hutter 2019), in place on w, m and v (of one shape).

    w -= learning_rate * weight_decay * w, and then Adam's step. Biases are to have a weight_decay of 0.
    """
    decayed = np.array(w, np.float64)
    decayed *= 1.0 - learning_rate * weight_decay
    adam_reference(decayed, dw, m, v, step=step, learning_rate=learning_rate, beta1=beta1, beta2=beta2, epsilon=epsilon)
    w[...] = decayed


@declare("adamw")
@dataclass(frozen=True)
class AdamW(Optimizer):
    """AdamW (Loshchilov & Hutter 2019, algorithm 2, as in PyTorch): Adam with decoupled weight decay.

    w -= learning_rate * weight_decay * w, biases excepted, and then Adam's step.

    Parameters
    ----------
    learning_rate : float or schedule
        A number > 0, or a schedule of the step.
    beta1, beta2 : float
        In [0, 1).
    epsilon : float
        > 0.
    weight_decay : float
        >= 0.
    clip_norm : float, optional
        The largest norm of the gradient, > 0, see Optimizer.
    """

    learning_rate: Rate = 1e-3
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.999
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.01
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = (Update(("m", "v"), adamw, _scalars),)
    reference = staticmethod(reference)
