"""Arrays wherever they lie."""

from typing import Any

import numpy as np

_DLPACK_CUDA = (2, 13)  # of dlpack.h: kDLCUDA, kDLCUDAManaged


def on_cuda(array: Any) -> bool:
    """Whether an array lies on a CUDA device."""
    if isinstance(array, np.ndarray):
        return False
    if hasattr(array, "__cuda_ndarray__") or hasattr(array, "__cuda_array_interface__"):
        return True
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in _DLPACK_CUDA
