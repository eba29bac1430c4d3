"""Adagrad: steps by the gradient over the root of the sum of its squares."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from kernels.maths import sqrt
from kernels.optimizers.declaration import ClipNorm, Optimizer, Positive, Rate, Update, declare


def adagrad(w: Any, g: Any, total: Any, learning_rate: Any, epsilon: Any) -> Any:
    """Duchi, Hazan & Singer 2011, section 1.3, as in PyTorch."""
    total = total + g * g
    return w - learning_rate * g / (sqrt(total) + epsilon), total


def _scalars(learning_rate: Any, epsilon: Any) -> Any:
    return learning_rate, epsilon


def reference(w: Any, dw: Any, total: Any, *, learning_rate: float = 0.01, epsilon: float = 1e-10) -> None:
    """One step of Adagrad (Duchi, Hazan & Singer 2011), in place on w and total (arrays of any one shape).

    total += dw^2; w -= learning_rate * dw / (sqrt(total) + epsilon).
    """
    gradient = np.asarray(dw, np.float64)
    squares = np.asarray(total, np.float64) + gradient**2
    total[...] = squares
    w[...] = np.asarray(w, np.float64) - learning_rate * gradient / (np.sqrt(squares) + epsilon)


@declare("adagrad")
@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad (Duchi, Hazan & Singer 2011, section 1.3, as in PyTorch).

    total += g^2; w -= learning_rate * g / (sqrt(total) + epsilon).

    learning_rate: a number > 0 or a schedule of the step. epsilon: > 0. clip_norm: None or a number > 0, the largest
    norm of the gradient, see Optimizer.
    """

    learning_rate: Rate = 0.01
    epsilon: Positive = 1e-10
    clip_norm: ClipNorm = None

    updates: ClassVar[tuple[Update, ...]] = (Update(("total",), adagrad, _scalars),)
    reference = staticmethod(reference)
