"""NAdam: Adam with Nesterov's momentum."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import sqrt
from kernels.optimizers.adam import moments
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

LEAST = 1e-20  # a product below it is as good as 0 beside 1


def nadam(
    w: Any, g: Any, m: Any, v: Any, rate_of_g: Any, rate_of_m: Any, beta1: Any, share1: Any, beta2: Any, share2: Any,
    epsilon: Any, correction2: Any,
) -> Any:  # fmt: skip
    """Dozat 2016, algorithm 8, as in PyTorch; shares are 1 - beta, the correction 1 / (1 - beta2^t)."""
    m = beta1 * m + share1 * g
    v = beta2 * v + share2 * (g * g)
    return w - (rate_of_g * g + rate_of_m * m) / (sqrt(v * correction2) + epsilon), m, v


def _mu(step: Any, beta1: Any, momentum_decay: Any) -> Any:
    return beta1 * (1.0 - 0.5 * 0.96 ** (step * momentum_decay))


def _product(step: Any, beta1: Any, momentum_decay: Any) -> Any:
    """mu_1 * ... * mu_step."""
    product, t = 1.0, 1.0
    while t <= step and product > LEAST:
        product *= _mu(t, beta1, momentum_decay)
        t += 1.0
    return product


def _by_product(
    step: Any, product: Any, learning_rate: Any, beta1: Any, beta2: Any, epsilon: Any, momentum_decay: Any
) -> Any:
    now, then = _mu(step, beta1, momentum_decay), _mu(step + 1.0, beta1, momentum_decay)
    return (
        learning_rate * (1.0 - now) / (1.0 - product), learning_rate * then / (1.0 - product * then),
        beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon, 1.0 / (1.0 - beta2**step),
    )  # fmt: skip


def _scalars(step: Any, learning_rate: Any, beta1: Any, beta2: Any, epsilon: Any, momentum_decay: Any) -> Any:
    product = _product(step, beta1, momentum_decay)
    return _by_product(step, product, learning_rate, beta1, beta2, epsilon, momentum_decay)


def reference(
    w: Any,
    dw: Any,
    m: Any,
    v: Any,
    *,
    step: int,
    learning_rate: float = 2e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    momentum_decay: float = 4e-3,
) -> None:
    """Step number `step`, counted from 1, of NAdam (Dozat 2016), in place on w, m and v (of any one shape).

    With mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2), m and v as Adam's, and v divided by 1 - beta2^t:
    w -= learning_rate * ((1 - mu_t) / (1 - mu_1 ... mu_t) * dw + mu_t+1 / (1 - mu_1 ... mu_t+1) * m) /
    (sqrt(v) + epsilon).
    """
    mus = beta1 * (1.0 - 0.5 * 0.96 ** (momentum_decay * np.arange(1, step + 2)))
    first, second = moments(dw, m, v, beta1, beta2)
    of_gradient, of_mean = (1.0 - mus[-2]) / (1.0 - np.prod(mus[:-1])), mus[-1] / (1.0 - np.prod(mus))
    ahead = of_gradient * np.asarray(dw, np.float64) + of_mean * first
    w[...] = np.asarray(w, np.float64) - learning_rate * ahead / (np.sqrt(second / (1.0 - beta2**step)) + epsilon)


@declare("nadam")
@dataclass(frozen=True)
class NAdam(Optimizer):
    """NAdam (Dozat 2016, algorithm 8, as in PyTorch): Adam with Nesterov's momentum, which grows with the steps.

    mu_t = beta1 * (1 - 0.96^(t * momentum_decay) / 2), where t counts steps from 1; m and v are Adam's, and
    w -= learning_rate * ((1 - mu_t) / (1 - mu_1 ... mu_t) * g + mu_t+1 / (1 - mu_1 ... mu_t+1) * m) /
    (sqrt(v / (1 - beta2^t)) + epsilon).

    learning_rate, beta1, beta2, epsilon, clip_norm: as Adam's. momentum_decay: >= 0.
    """

    learning_rate: Rate = 2e-3
    beta1: ShareBelowOne = 0.9
    beta2: ShareBelowOne = 0.999
    epsilon: Positive = 1e-8
    momentum_decay: NotNegative = 4e-3
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = (Update(("m", "v"), nadam, _scalars),)
    reference = staticmethod(reference)

    def scalars(self, first_step: int, rates: np.ndarray) -> np.ndarray:
        """As Optimizer's; the product of a step is that of the step before times one factor."""
        beta1, decay, last = float(self.beta1), float(self.momentum_decay), first_step + len(rates)
        least = math.ceil(math.log(LEAST) / math.log(beta1)) if beta1 > 0 else 0  # no mu is larger than beta1
        products = np.zeros(len(rates))
        found = np.cumprod(_mu(np.arange(1.0, min(last, least) + 1.0), beta1, decay))[first_step:]
        products[: len(found)] = found
        steps = np.arange(first_step + 1.0, last + 1.0)
        options = rates, beta1, float(self.beta2), float(self.epsilon), decay
        values = _by_product(steps, products, *options)
        return np.stack([np.broadcast_to(value, len(rates)) for value in values], axis=1)
