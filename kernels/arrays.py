"""Arrays wherever they lie: what the checks and fastnn ask of them.

For each kind of memory a module has the functions of the protocol `Arrays`. This one has them for NumPy's; that of
another device is imported by its name, when it is first needed.
"""

import functools
import importlib
import sys
from typing import Any, Protocol

import numpy as np

MODULES = {"cpu": "kernels.arrays", "cuda": "kernels.cuda.arrays.foreign"}  # by the device whose memory it is
_DLPACK_CUDA = (2, 13)  # of dlpack.h: kDLCUDA, kDLCUDAManaged


class Arrays(Protocol):
    """Arrays in one kind of memory. Those that `adopted` and `written` return can be passed to all the others."""

    def adopted(self, value: Any, name: str) -> Any:
        """An array over the memory of whatever a person may pass. Raises TypeError or ValueError naming it."""

    def written(self, value: Any, name: str) -> Any:
        """The same, of an array to write into."""

    def shadow(self, array: Any) -> np.ndarray:
        """A NumPy array of the same addresses, shape and dtype, for questions about them; its elements are not read."""

    def unit_stride(self, array: Any) -> bool:
        """Whether a kernel can take an array where it lies: aligned elements, side by side along the last axis."""

    def contiguous(self, array: Any, dtype: Any = None) -> Any:
        """An array in C order and of this dtype: the same one where it is that already."""

    def empty(self, shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
        """A new array in C order, where another one lies."""

    def copied(self, into: Any, source: Any) -> Any:
        """`into`, with the elements of an array of its shape."""

    def placed(self, value: Any, name: str) -> Any:
        """Real numbers of a type that engines read, in any array of this memory: where they lie, if that can be.

        Raises TypeError or ValueError naming it.
        """

    def on_host(self, array: Any) -> np.ndarray:
        """The same numbers in the host's memory."""

    def bounds(self, array: Any) -> tuple[Any, Any]:
        """The smallest and the largest element of an array that has any, both NaN where there is one."""

    def outside(self, array: Any, least: float, most: float) -> str:
        """What there is in an array (n,) that does not lie in [least, most], in words. Something must be."""


@functools.cache
def of(device: str) -> Arrays:
    """What knows the arrays in a device's memory."""
    module: Any = importlib.import_module(MODULES[device])
    return module


def on_cuda(array: Any) -> bool:
    """Whether an array lies on a CUDA device."""
    if isinstance(array, np.ndarray):
        return False
    if hasattr(array, "__cuda_ndarray__") or hasattr(array, "__cuda_array_interface__"):
        return True
    return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] in _DLPACK_CUDA


def adopted(value: Any, name: str) -> np.ndarray:
    """See Arrays."""
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    result = np.asarray(value)
    if result.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got {type(value).__name__}")
    return result


def written(value: Any, name: str) -> np.ndarray:
    """See Arrays."""
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array to write into, got {type(value).__name__}")
    return value


def shadow(array: np.ndarray) -> np.ndarray:
    """See Arrays."""
    return array


def unit_stride(array: np.ndarray) -> bool:
    """See Arrays."""
    along_rows = array.ndim == 0 or array.strides[-1] == array.itemsize or array.shape[-1] == 1
    return array.flags.aligned and along_rows


def contiguous(array: np.ndarray, dtype: Any = None) -> np.ndarray:
    """See Arrays."""
    return np.ascontiguousarray(array, dtype)


def empty(shape: tuple[int, ...], dtype: Any, like: np.ndarray) -> np.ndarray:
    """See Arrays."""
    return np.empty(shape, dtype)


def copied(into: np.ndarray, source: np.ndarray) -> np.ndarray:
    """See Arrays."""
    into[...] = source
    return into


def placed(value: Any, name: str) -> np.ndarray:
    """See Arrays. A new view of the caller's memory where that can be."""
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        value = np.from_dlpack(value)
    if "numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray) and value.mask.any():
        raise ValueError(f"{name} must have no masked elements, got {value.mask.sum()} of them: fill or leave them out")
    try:
        result = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name} must be an array of numbers, got {type(value).__name__}: {error}") from None
    if result.dtype.kind not in "biuf":
        got = f"dtype {result.dtype}" if result.ndim else type(value).__name__
        hint = f"; pass {name}.toarray()" if hasattr(value, "toarray") else ""
        raise TypeError(f"{name} must hold real numbers, got {got}{hint}")
    if result.dtype.itemsize > 8:
        raise TypeError(f"{name} must hold numbers of at most 64 bits, got dtype {result.dtype}: convert it to float64")
    return result.view()  # whoever sets shape, strides or dtype of an array that is learnt from sets those of their own


def on_host(array: np.ndarray) -> np.ndarray:
    """See Arrays."""
    return array


def bounds(array: np.ndarray) -> tuple[Any, Any]:
    """See Arrays."""
    return array.min(), array.max()


def outside(array: np.ndarray, least: float, most: float) -> str:
    """See Arrays."""
    wrong = np.flatnonzero(~((array >= least) & (array <= most)))[0]
    return f"{array[wrong]} at [{wrong}]"
