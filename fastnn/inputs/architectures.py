"""What a network is made of: each argument of MLP checked, and the articles' way of writing them."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from kernels import backends, devices
from kernels.activations import ACTIVATIONS
from kernels.declarations.ranges import check_count, check_number
from kernels.engine.codes import OUTPUTS
from kernels.layers import NORMS
from kernels.layout import Norm


def chain(architecture: Sequence[Mapping[str, Any]]) -> tuple[list[int], list[str], list[float]]:
    """Widths, activations and dropout of a list of {"input_dim": 2, "output_dim": 25, "activation": "relu"}."""
    layers = list(architecture) if isinstance(architecture, Iterable) else []
    if not layers:
        raise ValueError(f"architecture must be a list of at least one layer, got {architecture!r}")
    for n, layer in enumerate(layers):
        keys = {"input_dim", "output_dim", "activation"}
        if not isinstance(layer, Mapping) or not keys <= set(layer):
            raise ValueError(f"architecture[{n}] must have {', '.join(sorted(keys))}, got {layer!r}")
        if n and layer["input_dim"] != layers[n - 1]["output_dim"]:
            raise ValueError(
                f"architecture[{n}] must have input_dim {layers[n - 1]['output_dim']}, the output_dim before it, "
                f"got {layer['input_dim']}"
            )
    if layers[-1].get("dropout", 0.0) != 0.0:
        raise ValueError(f"architecture[-1] must have no dropout, for it is the output, got {layers[-1]['dropout']!r}")
    widths = [layers[0]["input_dim"], *(layer["output_dim"] for layer in layers)]
    return widths, [layer["activation"] for layer in layers], [layer.get("dropout", 0.0) for layer in layers[:-1]]


def widths(layers: Any) -> tuple[int, ...]:
    """The widths of input, hidden layers and output."""
    try:
        widths = list(layers)
        for width in widths:
            check_count("layers", width)
    except (TypeError, ValueError):
        widths = []
    if len(widths) < 2:
        raise ValueError(f"layers must be at least two widths >= 1, from input to output, got {layers!r}")
    return tuple(int(width) for width in widths)


def shapes(layers: Sequence[int], bias: bool, norm: str | None) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The arrays of a network with these widths, as its files name them: w0 (I, O), b0 (O,), gamma0 (O,), ..., w1."""
    for n, (inputs, outputs) in enumerate(itertools.pairwise(layers)):
        yield f"w{n}", (inputs, outputs)
        if bias:
            yield f"b{n}", (outputs,)
        if norm and n < len(layers) - 2:
            kept = NORMS[norm].statistics
            yield from ((f"{name}{n}", (outputs,)) for name in Norm._fields[: 2 + kept])


def activations(activation: Any, hidden: int) -> tuple[str, ...]:
    """The canonical name of each hidden layer's activation."""
    one = isinstance(activation, str)
    names = [activation] if one or not isinstance(activation, Iterable) else list(activation)
    names = [ACTIVATIONS.canonical(name) for name in names]
    if not one and len(names) != hidden:
        raise ValueError(f"activation must be one name or one per hidden layer ({hidden}), got {activation!r}")
    return tuple(names * hidden if one else names)


def dropout(rates: Any, hidden: int) -> tuple[float, ...]:
    """The share of each hidden layer's outputs that training drops."""
    one = not isinstance(rates, Iterable) or isinstance(rates, str)
    values = [rates] if one else list(rates)
    for rate in values:
        check_number("dropout", rate, 0, 1, closed="left")
    if not one and len(values) != hidden:
        raise ValueError(f"dropout must be one rate or one per hidden layer ({hidden}), got {rates!r}")
    return tuple(float(rate) for rate in (values * hidden if one else values))


def output(name: Any, n_outputs: int) -> str:
    """The name of the output activation."""
    found = ACTIVATIONS.canonical(name) if name in ACTIVATIONS else name
    if not isinstance(found, str) or found not in OUTPUTS:
        raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {name!r}")
    if name == "softmax" and n_outputs == 1:
        raise ValueError("output 'softmax' needs at least 2 outputs, got layers ending in 1; use output='sigmoid'")
    return found


def dtype(value: Any) -> str:
    """The name of the parameters' dtype."""
    try:
        name = "" if value is None else np.dtype(value).name
    except TypeError:
        name = ""
    if name not in ("float32", "float64"):
        raise ValueError(f"dtype must be float32 or float64, got {value!r}")
    return name


def norm(name: Any) -> str | None:
    """What normalises hidden layers, a name of kernels.layers.NORMS, or None."""
    return None if name is None else NORMS.canonical(name)


def device(name: Any, norm: str | None = None) -> str:
    """The device that "auto" or a name stands for, see kernels.devices; with a norm "auto" stands for the CPU."""
    found = devices.device("cpu" if norm and name == "auto" else name)
    if norm and found == "cuda":
        raise ValueError(f"norm {norm!r} needs device 'cpu', got 'cuda'")
    return found


def precision(name: Any, dtype: str, device: str) -> str:
    """The precision of the products of a network of this dtype on this device."""
    if not isinstance(name, str) or name not in devices.PRECISIONS:
        raise ValueError(f"precision must be 'float32', 'tf32' or 'bf16', got {name!r}")
    if name != "float32" and dtype != "float32":
        raise ValueError(f"precision {name!r} needs dtype float32, got {dtype}")
    backends.check_precision(name, device)
    return str(name)
