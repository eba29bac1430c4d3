"""The cross-entropy of probabilities that are the softmax of a row."""

import numpy as np

from kernels.losses.declaration import Loss, Parameter, Targets
from kernels.maths import exp


def of_label(z, top, total):
    """What is done for an output of a row with a label."""
    e = exp(z - top)
    return total + e, e * total


def of_smoothed_label(z, top, total, value, spread, scale):
    """The same where labels are smoothed."""
    e = exp(z - top)
    return total + e, value + spread * (top - z), e * total - spread * scale


def of_target(z, t, top, total, mass, value, scale):
    """What is done for an output of a row with a target for each."""
    e = exp(z - top)
    return total + e, mass + t, value + t * (top - z), e * total - scale * t


def of_smoothed_target(z, t, top, total, mass, value, kept, spread, scale):
    """The same where they are smoothed, for the loss and for dz."""
    e, share = exp(z - top), kept * t + spread
    return total + e, mass + share, value + share * (top - z), e * total - scale * (kept * t + spread)


def work(output, labels, smoothing):
    """By rows, which the loss of one output cannot say."""
    plain, smoothed = (of_label, of_smoothed_label) if labels else (of_target, of_smoothed_target)
    return smoothed if smoothing else plain


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
    work=work,
    reference=reference,
    formula="-t log softmax(z), in which t is (1 - smoothing) t + smoothing / O (Szegedy et al. 2016; as in PyTorch)",
)
