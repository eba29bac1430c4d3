"""Arrays on the GPU: made, filled and read back."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kernels.cuda import tuning
from kernels.cuda.driver import device_arrays, errors, streams


@dataclass(frozen=True)
class Placed:
    """An array that has been copied to the GPU: its elements in C order, its shape and dtype."""

    flat: Any
    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, rows: slice) -> "Placed":
        """Some rows, where they lie."""
        start, stop, _ = rows.indices(len(self))
        width = math.prod(self.shape[1:])
        return Placed(self.flat[start * width : stop * width], (stop - start, *self.shape[1:]), self.dtype)

    def reshape(self, *shape: int) -> "Placed":
        """The same elements in another shape."""
        return Placed(self.flat, shape, self.dtype)

    def read(self) -> np.ndarray:
        """A copy on the host."""
        return read(self.flat).reshape(self.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]


def empty(n: int, dtype: Any) -> Any:
    """A new array (n,) on the GPU. Raises MemoryError where there is no room for it."""
    dtype = np.dtype(dtype)
    try:
        return device_arrays.device_array(n, dtype)
    except errors.OutOfMemoryError:
        raise MemoryError(
            f"device 'cuda' has no room for an array of {n * dtype.itemsize:,} bytes beside what it holds: "
            "use a smaller batch_size, less data, or device='cpu'"
        ) from None


def shaped(shape: tuple[int, ...], dtype: Any) -> Any:
    """A new array of this shape in C order, bound to the stream that this thread enqueues on."""
    return empty(math.prod(shape), dtype).reshape(*shape).bind(streams.current_stream())


def zeros(n: int, dtype: Any) -> Any:
    """A new array (n,) of zeros on the GPU."""
    return fill(empty(n, dtype), np.zeros(n, dtype))


def copied(array: np.ndarray) -> Any:
    """A contiguous array (n,) copied to the GPU."""
    return fill(empty(array.size, array.dtype), array)


def fill(array: Any, values: np.ndarray) -> Any:
    """An array (n,) of the GPU, into which these values (n,) are copied. Raises RuntimeError where the GPU fails."""
    with errors.driver_errors():
        array.copy_to_device(values, stream=streams.current_stream())
    return array


def read(array: Any, into: np.ndarray | None = None) -> np.ndarray:
    """A copy on the host, `into` where given, once all is done that was enqueued before. Raises as `fill`."""
    with errors.driver_errors():
        result = array.copy_to_host(into, stream=streams.current_stream())
        if streams.current_stream():
            streams.current_stream().synchronize()
    return result


def place(array: np.ndarray | Placed, dtype: Any = None) -> Placed:
    """An array of any strides on the GPU, converted to dtype where one is given; a few rows at a time.

    What is there already stays where it is. bool becomes uint8 and float16 float32.
    """
    if isinstance(array, Placed):
        return array
    wanted = np.dtype(dtype or placed_dtype(array.dtype))
    flat = empty(array.size, wanted)
    width = math.prod(array.shape[1:])
    rows = max(1, tuning.COPY_BYTES // max(1, width * wanted.itemsize))
    for start in range(0, len(array), rows):
        block = np.ascontiguousarray(array[start : start + rows], wanted).reshape(-1)
        fill(flat[start * width : start * width + block.size], block)
    return Placed(flat, array.shape, wanted)


def placed_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype in which an array of this dtype, in any byte order, is placed."""
    return np.dtype({"bool": "uint8", "float16": "float32"}.get(dtype.name, dtype.name))
