"""Rules, see kernels.maths: updates."""

from kernels.maths import select, sqrt


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
