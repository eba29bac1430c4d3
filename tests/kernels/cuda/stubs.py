"""Arrays of other libraries on the GPU: in the simulator over the host's memory, else over numba-cuda's."""

import numpy as np
from numba import cuda

from kernels.cuda import jit


class Foreign:
    """An array of another library: its memory, and how it is shown."""

    def __init__(self, array, stream=None, read_only=False):
        self.memory = np.array(array) if jit.SIMULATED else cuda.to_device(np.array(array))
        self.view, self.stream, self.read_only = self.memory, stream, read_only

    def __getitem__(self, at):
        other = object.__new__(type(self))
        other.__dict__ |= {**self.__dict__, "view": self.view[at]}
        return other

    @property
    def interface(self):
        address = jit.address(self.view) if not jit.SIMULATED else self.view.ctypes.data
        return {
            "shape": tuple(self.view.shape), "strides": tuple(self.view.strides), "typestr": self.view.dtype.str,
            "data": (address, self.read_only), "version": 3, "stream": self.stream,
        }  # fmt: skip

    def host(self):
        return self.view.copy() if jit.SIMULATED else self.view.copy_to_host()


class ByInterface(Foreign):
    """As CuPy's."""

    __cuda_array_interface__ = Foreign.interface
