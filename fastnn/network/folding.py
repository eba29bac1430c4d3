"""Normalisations made a part of the dense layers before them."""

import numpy as np

from fastnn.network.base import Model
from kernels.layers import Normalization


def fold(source: Model, target: Model) -> None:
    """Give `target`, a network like `source` but with biases and without normalisation, the parameters to do the same.

    Raises ValueError where a normalisation does not go by statistics that are kept.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for stage, arrays in source.layout.arrays(source.parameters):
        w, *vectors = (array.astype(np.float64) for array in arrays)
        if isinstance(stage.layer, Normalization):
            found[-1] = stage.layer.folded(*found[-1], w, *vectors)
        else:
            found.append((w, vectors[0] if vectors else np.zeros(stage.outputs)))
    for (_, views), values in zip(target.layout.arrays(target.parameters), found, strict=True):
        for view, array in zip(views, values):
            view[...] = array
