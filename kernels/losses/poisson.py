"""Half the deviance of counts whose rates are exp(z)."""

import numpy as np

from kernels.losses.declaration import Loss, Targets
from kernels.maths import exp, log, select


def poisson(z, target):
    """t (log(t) - z) - t + exp(z), half the Poisson deviance of rates exp(z); 0 log(0) is 0."""
    error = exp(z) - target
    return error + target * select(target > 0.0, log(target) - z, 0.0), error


def reference(z, t):
    """t (log(t) - z) - t + e^z and e^z - t."""
    log_t = np.log(t, out=np.zeros_like(t), where=t > 0.0)
    return t * (log_t - z) - t + np.exp(z), np.exp(z) - t


Loss("poisson", poisson, mean=False, targets=Targets(0), outputs=("exp",), default_of="exp", reference=reference)
