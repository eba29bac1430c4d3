"""The network that other libraries' forms are made of."""

from typing import Any

from fastnn.inputs import check_raw
from fastnn.model import MLP


def network(model: Any) -> MLP:
    """The network that a model is or holds."""
    net = model if isinstance(model, MLP) else getattr(model, "network_", None)
    if not isinstance(net, MLP):
        raise TypeError(f"model must be a fastnn.MLP or a fitted estimator of fastnn, got {type(model).__name__}")
    check_raw(net.metadata)
    return net
