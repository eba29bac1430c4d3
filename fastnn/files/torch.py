"""Networks as PyTorch modules, and back. PyTorch is imported where it is used.

A model is a fastnn.MLP, or a fitted MLPClassifier or MLPRegressor.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastnn.files.networks import network
from fastnn.model import MLP
from kernels.activations import ACTIVATIONS
from kernels.layers import NORMS, Normalization

# The tensors of a normalisation's module, in the order of `fastnn.MLP.norms`
NORMALIZED = ("weight", "bias", "running_mean", "running_var")


def to_torch(model: Any) -> Any:
    """The network as a PyTorch module.

    Parameters
    ----------
    model : MLP, MLPClassifier or MLPRegressor
        A network or a fitted estimator.

    Returns
    -------
    torch.nn.Sequential
        Linear, maybe BatchNorm1d or LayerNorm, activation, and so on to the output activation, with copies of what they
        hold. Called on a tensor (n, inputs) it returns what `MLP.predict` does; with dropout or BatchNorm1d, after
        `.eval()`.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError
        For anything but a network or a fitted estimator.
    ValueError
        For an output or an activation that torch.nn has no module for, exp for one, and a network of `fastnn train`
        that takes rows that have been prepared.
    """
    torch, net, modules = _torch(), network(model), []
    if net.output == "exp":
        raise ValueError("model must have softmax, sigmoid or identity outputs for PyTorch, got exp")
    dtype = getattr(torch, net.dtype)
    for stage, (w, *vectors) in net.layout.arrays(net.parameters):
        layer = stage.layer
        if isinstance(layer, Normalization):
            part = getattr(torch.nn, layer.torch)(stage.outputs, eps=layer.epsilon, dtype=dtype)
            arrays = dict(zip(NORMALIZED, (w[0], *vectors)))
        else:
            part = torch.nn.Linear(*w.shape, bias=layer.bias, dtype=dtype)
            arrays = dict(zip(("weight", "bias"), (w.T, *vectors)))
        with torch.no_grad():
            for name, array in arrays.items():
                getattr(part, name).copy_(torch.from_numpy(array.copy()))
        modules += [part, *_modules(torch, layer.activation)]
        modules += [torch.nn.Dropout(stage.dropout)] if stage.dropout else []
    modules += [torch.nn.Softmax(dim=1)] if net.output == "softmax" else _modules(torch, net.output)
    return torch.nn.Sequential(*modules)


def from_torch(module: Any, output: str | None = None, **options: Any) -> MLP:
    """A network with the weights of a PyTorch module.

    Dropout after the first layer and before the last is the network's. Elsewhere, where fastnn has none, it is passed
    over.

    Parameters
    ----------
    module : torch.nn.Sequential
        Linear layers, each but the last followed by at most one activation of those that fastnn has
        (docs/activations.md). Between the two there may be a BatchNorm1d or a LayerNorm, of all layers or of none. The
        momentum of BatchNorm1d is not taken over.
    output : str, optional
        The output activation. By default it is that of the last module: Softmax, Sigmoid, or none (identity). A module
        that ends in logits is given one: output="softmax".
    **options
        Those of MLP, but for dtype, bias, norm and init.

    Returns
    -------
    MLP
        A new network.

    Raises
    ------
    ImportError
        Without PyTorch.
    TypeError, ValueError
        For any other module.
    """
    torch = _torch()
    if not isinstance(module, torch.nn.Sequential):
        raise TypeError(f"module must be a torch.nn.Sequential, got {type(module).__name__}")
    decided = options.keys() & {"dtype", "bias", "norm", "init"}
    if decided:
        raise TypeError(f"options of from_torch must not be what the module decides, got {', '.join(sorted(decided))}")
    parts = _Parts.of(torch, module)
    if output is None:
        output = parts.activations[-1]
    elif parts.activations[-1] not in ("identity", output):
        raise ValueError(f"output must be {parts.activations[-1]!r}, as the last module, or None, got {output!r}")
    layers = [parts.linear[0].in_features, *(part.out_features for part in parts.linear)]
    options = {"dropout": parts.dropout[:-1], **options}
    net = MLP(
        layers, parts.activations[:-1], output, bias=any(part.bias is not None for part in parts.linear),
        norm=parts.norm, dtype=str(parts.linear[0].weight.dtype).removeprefix("torch."), init="zeros", **options,
    )  # fmt: skip
    for n, part in enumerate(parts.linear):
        _copy(part.weight.T, net.weights[n])
        if part.bias is not None:
            _copy(part.bias, net.biases[n])
    for views, (_, part) in zip(net.norms, parts.norms.values(), strict=True):
        for view, name in zip(views, NORMALIZED, strict=True):
            _copy(getattr(part, name, None), view)
    return net


@dataclass
class _Parts:
    """The modules of a network, by its layers. norms: by the layer's number, the name in fastnn and the module."""

    linear: list[Any] = field(default_factory=list)
    activations: list[str] = field(default_factory=list)
    dropout: list[float] = field(default_factory=list)
    norms: dict[int, tuple[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, torch: Any, module: Any) -> "_Parts":
        """Those of a torch.nn.Sequential, or a ValueError that names the module which has no place."""
        parts = cls()
        for n, part in enumerate(part for part in module if not isinstance(part, torch.nn.Identity)):
            parts._take(torch, part, n)
        if not parts.linear:
            raise ValueError(f"module must hold at least one Linear layer, got {module}")
        return parts

    def _take(self, torch: Any, part: Any, n: int) -> None:
        last = len(self.linear) - 1
        if isinstance(part, torch.nn.Dropout):
            self.dropout[-1:] = [rate + part.p - rate * part.p for rate in self.dropout[-1:]]
        elif isinstance(part, torch.nn.Linear):
            self.linear.append(part)
            self.activations.append("identity")
            self.dropout.append(0.0)
        elif not self.linear or self.activations[-1] != "identity":
            raise ValueError(f"module[{n}] must be a Linear layer, got {part}")
        elif _norm(torch, part):
            if last in self.norms or self.dropout[-1]:
                raise ValueError(f"module[{n}] must come right after a Linear layer, got {part}")
            self.norms[last] = _checked_norm(torch, part, n, self.linear[-1].out_features)
        else:
            self.activations[-1] = _activation(torch, part, n)

    @property
    def norm(self) -> str | None:
        """What normalises all of the hidden layers, or None."""
        names = {name for name, _ in self.norms.values()}
        if names and (len(names) > 1 or list(self.norms) != list(range(len(self.linear) - 1))):
            raise ValueError("module must have the same normalisation after each Linear layer but the last, or none")
        return names.pop() if names else None


def _copy(tensor: Any, view: np.ndarray | None) -> None:
    """Write a tensor into a network's array; nothing where there is none, as where a module has nothing to learn."""
    if view is not None and tensor is not None:
        view[...] = tensor.detach().cpu().numpy()


def _norm(torch: Any, part: Any) -> str:
    """The name in fastnn of a normalisation's module, or nothing."""
    return next((name for name in NORMS if type(part) is getattr(torch.nn, NORMS[name].torch)), "")


def _checked_norm(torch: Any, part: Any, n: int, width: int) -> tuple[str, Any]:
    """The name of a normalisation and its module, or a ValueError where fastnn has none that does the same."""
    name = _norm(torch, part)
    epsilon = NORMS[name]().epsilon
    if part.eps != epsilon:
        raise ValueError(f"module[{n}] must have eps {epsilon}, got {part}")
    if NORMS[name].statistics and part.running_mean is None:
        raise ValueError(f"module[{n}] must have track_running_stats True, got {part}")
    size = getattr(part, "num_features", None) or tuple(part.normalized_shape)
    if size not in (width, (width,)):
        raise ValueError(f"module[{n}] must be for the {width} outputs before it, got {part}")
    return name, part


def _modules(torch: Any, activation: str) -> list[Any]:
    """The module of an activation, none for the identity."""
    found = ACTIVATIONS[activation]
    if found.is_identity:
        return []
    if not found.torch:
        raise ValueError(f"activation {activation!r} has no PyTorch module: make it with the name of one, as torch=")
    return [getattr(torch.nn, found.torch)(**found.torch_arguments)]


def _activation(torch: Any, part: Any, n: int) -> str:
    """The name of an activation module."""
    known = {name: (found.torch, found.torch_arguments) for name in ACTIVATIONS if (found := ACTIVATIONS[name]).torch}
    known |= {"softmax": ("Softmax", {"dim": 1}), "softmax of rows": ("Softmax", {"dim": -1})}
    same = {name: having for name, (kind, having) in known.items() if type(part) is getattr(torch.nn, kind)}
    if not same:
        kinds = dict.fromkeys([*(NORMS[norm].torch for norm in NORMS), *(kind for kind, _ in known.values())])
        raise ValueError(f"module[{n}] must be one of Linear, {', '.join(kinds)}, got {part}")
    for name, having in same.items():
        if all(getattr(part, attribute) == value for attribute, value in having.items()):
            return name.removesuffix(" of rows")
    wanted = " or ".join(" and ".join(f"{key} {value!r}" for key, value in having.items()) for having in same.values())
    raise ValueError(f"module[{n}] must have {wanted}, got {part}")


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ImportError("this needs PyTorch: pip install torch") from error
    return torch
