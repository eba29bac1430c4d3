"""Arrays of other libraries on the GPU: in the simulator over the host's memory, else over numba-cuda's."""

import numpy as np
from numba import cuda

from kernels.cuda.compiler import target
from kernels.cuda.driver import device_arrays


class Foreign:
    """An array of another library: its memory, and how it is shown.

    Parts are taken of a copy in the host's memory, which says where they lie: numba-cuda's arrays know no steps < 0.
    """

    def __init__(self, array, stream=None, read_only=False):
        self.whole = self.view = np.array(array)
        self.memory = self.whole if target.SIMULATED else cuda.to_device(self.whole)
        self.stream, self.read_only = stream, read_only

    def __getitem__(self, at):
        other = object.__new__(type(self))
        other.__dict__ |= {**self.__dict__, "view": self.view[at]}
        return other

    @property
    def interface(self):
        start = self.whole.ctypes.data if target.SIMULATED else device_arrays.address(self.memory)
        address = start + self.view.ctypes.data - self.whole.ctypes.data
        return {
            "shape": self.view.shape, "strides": self.view.strides, "typestr": self.view.dtype.str,
            "data": (address, self.read_only), "version": 3, "stream": self.stream,
        }  # fmt: skip

    def host(self):
        if not target.SIMULATED:
            self.memory.copy_to_host(self.whole)
        return self.view.copy()


class ByInterface(Foreign):
    """As CuPy's."""

    __cuda_array_interface__ = Foreign.interface
