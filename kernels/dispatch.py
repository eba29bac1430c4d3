"""Which backend runs a call: the only dispatcher. It never falls back silently."""

from types import ModuleType
from typing import Any

from . import cpu


def backend(*arrays: Any) -> ModuleType:
    """The backend for these arrays: kernels.cpu. Raises TypeError for arrays on a device that has no backend."""
    for array in arrays:
        if hasattr(array, "__cuda_array_interface__"):
            raise TypeError(
                f"{type(array).__name__} is on a CUDA device, and there are no CUDA kernels in this version: "
                "copy it to the host first"
            )
    return cpu
