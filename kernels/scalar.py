"""Rules, see kernels.maths: losses, updates."""

from kernels.activations.sigmoid import sigmoid
from kernels.maths import exp, log1p, select, sqrt

Loss = str | tuple[str, float]  # a loss as engines are told of it: its name, or its name and its parameter


def loss_and_parameter(loss: Loss) -> tuple[str, float]:
    """The name of a loss, and its parameter or 0."""
    return (loss, 0.0) if isinstance(loss, str) else loss


def softplus_of_minus(a):
    """log(1 + exp(-a)) for a >= 0."""
    return log1p(exp(-a))


def sigmoid_cross_entropy(z, target, parameter):
    """-t log s(z) - (1 - t) log(1 - s(z)), without overflow."""
    return select(z < 0.0, 0.0, z) - z * target + softplus_of_minus(abs(z)), sigmoid(z) - target


def absolute_error(z, target, parameter):
    """|z - t|; where z is the target, the slope is 0."""
    error = z - target
    return abs(error), select(error > 0.0, 1.0, select(error < 0.0, -1.0, error))


def huber(z, target, delta):
    """e^2 / 2 for e = z - t, and beyond |e| = delta its tangents (Huber 1964)."""
    error = z - target
    size = abs(error)
    curved = select(size > delta, delta, size)
    slope = select(error > delta, delta, select(error < -delta, -delta, error))
    return curved * (size - 0.5 * curved), slope


def quantile(z, target, level):
    """level (t - z) below the target and (1 - level) (z - t) above it (Koenker & Bassett 1978).

    Where z is the target, the slope is 0, which lies between those on either side.
    """
    error = z - target
    slope = select(error > 0.0, 1.0 - level, select(error < 0.0, -level, error))
    return slope * error, slope


def sgd(w, g, velocity, rate, momentum, nesterov):
    """Sutskever et al. 2013, as in scikit-learn and Keras. Returns the new w and velocity."""
    new = momentum * velocity - rate * g
    return w + select(nesterov, momentum * new - rate * g, new), new


def adam(w, g, m, v, rate, beta1, share1, beta2, share2, epsilon, correction1, correction2):
    """Kingma & Ba 2015, algorithm 1; shares are 1 - beta, corrections 1 / (1 - beta^t). Returns the new w, m and v.

    The share of float32's 0.999 would be wrong by 5e-5: it is to be rounded once, from float64.
    """
    m = beta1 * m + share1 * g
    v = beta2 * v + share2 * (g * g)
    return w - rate * (m * correction1) / (sqrt(v * correction2) + epsilon), m, v
