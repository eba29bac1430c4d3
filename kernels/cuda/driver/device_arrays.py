"""numba-cuda's arrays: made, and laid over memory that is there."""

from typing import Any

import numpy as np

from kernels.cuda.compiler.target import SIMULATED, api
from kernels.cuda.driver.errors import driver_errors
from kernels.cuda.driver.streams import current_stream

if SIMULATED:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray


def device_array(n: int, dtype: Any) -> Any:
    """A new array (n,) on the GPU. Raises OutOfMemoryError."""
    if SIMULATED:
        return api.device_array(n, dtype)
    with driver_errors():
        return api.device_array(n, dtype, stream=current_stream())


def flat(array: Any) -> Any:
    """The memory of an array of the GPU with rows that lie apart, from its first element to its last, as (n,)."""
    rows, columns = array.shape if array.ndim == 2 else (1, array.shape[0])
    n = (rows - 1) * (array.strides[0] // array.dtype.itemsize) + columns if array.size else 0
    if SIMULATED:
        memory = np.lib.stride_tricks.as_strided(array._ary, (n,), (array.dtype.itemsize,))
        return type(array)(memory)
    return api.cudadrv.devicearray.DeviceNDArray((n,), (array.dtype.itemsize,), array.dtype, gpu_data=array.gpu_data)


class Described:
    """Memory as `__array_interface__` describes it, of which NumPy makes an array that keeps `owner` alive."""

    def __init__(self, interface: dict[str, Any], owner: Any = None) -> None:
        self.__array_interface__, self.owner = interface, owner


def array_at(interface: dict[str, Any], owner: Any) -> Any:
    """An array over memory of the GPU, described as by `__cuda_array_interface__`, which keeps `owner` alive."""
    if not SIMULATED:
        return api.from_cuda_array_interface(interface | {"stream": None}, owner=owner, sync=False)
    return FakeCUDAArray(np.asarray(Described(interface | {"version": 3}, owner)))


def address(array: Any) -> int:
    """The address of an array's first element on the GPU; in the simulator, that of memory allocated there."""
    return int(array._ary.ctypes.data if SIMULATED else array.__cuda_array_interface__["data"][0])
