"""The cross-entropy of probabilities that are the softmax of a row."""

import numpy as np

from kernels.losses.declaration import Loss, Parameter, Targets


def reference(z, t, smoothing):
    """-t log p of each output, p = softmax(z), and p sum(t) - t; 0 log(0) is 0. Of t all outputs share `smoothing`."""
    t = (1.0 - smoothing) * t + smoothing / t.shape[1]
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -np.multiply(t, log_p, out=np.zeros_like(t), where=t != 0.0)
    return losses, np.exp(log_p) * t.sum(axis=1, keepdims=True) - t


Loss(
    "softmax_cross_entropy",
    mean=False,
    targets=Targets(0, 1, labels=True),
    parameter=Parameter("smoothing", 0, 1, default=0.0, closed=True),
    outputs=("softmax",),
    default_of="softmax",
    kernel="softmax_cross_entropy",
    reference=reference,
    formula="-t log softmax(z), in which t is (1 - smoothing) t + smoothing / O (Szegedy et al. 2016; as in PyTorch)",
)
