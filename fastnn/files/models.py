"""Model files: what `MLP.save` writes, read again."""

import os
from os import PathLike
from typing import Any

from fastnn.files import formats
from fastnn.files.read import DataError, reading
from fastnn.inputs import architectures
from fastnn.model import MLP
from kernels.activations import ACTIVATIONS


def load(path: str | PathLike[str], **options: Any) -> MLP:
    """Read a model that `MLP.save` wrote.

    Parameters
    ----------
    path : str or path-like
        The .npz or .safetensors file.
    **options
        threads, device, precision and seed, as for MLP. precision is by default the saved model's.

    Returns
    -------
    MLP
        A new model with the saved parameters and metadata.

    Raises
    ------
    ValueError
        For a file that is damaged, of a newer version or not fastnn's, and for a precision that the device does not
        have.
    TypeError
        For another option.
    OSError
        Where the file cannot be read.
    ImportError
        For .safetensors without the package safetensors.
    """
    known = "threads", "device", "precision", "seed"
    unknown = options.keys() - set(known)
    if unknown:
        raise TypeError(f"options of load must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    MLP([1, 2], **options)  # what is wrong with the options is not the file's fault
    with formats.open_arrays(path) as file, reading(path, "is not a model of this version of fastnn"):
        a, user = (formats.entry(file.metadata, name, dict) for name in ("architecture", "user"))
        names = formats.entry(a, "activations", list)
        for name in names:
            if isinstance(name, str) and name.isidentifier() and name not in ACTIVATIONS:
                why = f"activation {name!r} is not known here: make it with fastnn.Activation before loading"
                raise DataError(f"{os.fspath(path)} cannot be loaded: {why}")
        layers, bias = architectures.widths(formats.entry(a, "layers", list)), formats.entry(a, "bias", bool)
        norm = architectures.norm(a.get("norm"))
        arrays = {name: file.read(name, shape) for name, shape in architectures.shapes(layers, bias, norm)}
        if other := set(file.names) - set(arrays):
            raise ValueError(f"{min(other)} belongs to no layer")
        model = MLP(
            layers, names, formats.entry(a, "output", str),
            dropout=a.get("dropout", 0.0), bias=bias, norm=norm, dtype=formats.entry(a, "dtype", str), init="zeros",
            **{**options, "precision": "float32"},
        )  # fmt: skip
        for name, view in model.named_arrays.items():
            view[...] = arrays[name]
        for n, each in enumerate(model.norms):
            if each.variance is not None and (each.variance < 0).any():
                raise ValueError(f"variance{n} must be at least 0, got {each.variance.min()}")
        model.metadata = user
    try:
        precision = options.get("precision", a.get("precision", "float32"))
        model._precision = architectures.precision(precision, model.dtype, model.device)
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded as it is: {error}; pass precision='float32'") from error
    return model
