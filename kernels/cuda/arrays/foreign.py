"""Arrays of other libraries on the GPU, read and written where they lie, in the order of the streams they are used on.

What has `__cuda_array_interface__` (CuPy, PyTorch, numba-cuda) or DLPack is taken without a copy. Its stream is the
interface's, PyTorch's current one, or the default one, for which DLPack's producer makes the data ready.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from kernels import arrays
from kernels.cuda import tuning
from kernels.cuda.arrays import memory
from kernels.cuda.arrays.memory import Placed
from kernels.cuda.arrays.strided import copy, extremes
from kernels.cuda.driver import device_arrays, gpu, streams
from kernels.cuda.engine.operations.gather import SOURCES

DEFAULT_STREAM = 1  # as both interfaces write it


def adopted(value: Any, name: str) -> Any:
    """An array of numba-cuda over the memory of any array of the GPU, bound to its stream.

    Raises TypeError for masked arrays and ValueError for one of another GPU or one whose elements are not aligned.
    """
    return _adopted(value, name, writing=False)


def written(value: Any, name: str) -> Any:
    """The same, of an array to write into. Raises ValueError for a read-only one, too."""
    return _adopted(value, name, writing=True)


def _adopted(value: Any, name: str, writing: bool) -> Any:
    if value is None:
        raise TypeError(f"{name} must be an array of real numbers, got NoneType")
    if hasattr(value, "__cuda_ndarray__"):
        return value
    where = value.__dlpack_device__()[1] if hasattr(value, "__dlpack_device__") else gpu.device_number()
    if where != gpu.device_number():
        raise ValueError(f"{name} must be on GPU {gpu.device_number()}, the current one, got one on GPU {where}")
    owner, interface = value, getattr(value, "__cuda_array_interface__", None)
    if interface is None:
        owner, interface = _from_dlpack(value)
    if interface.get("mask") is not None:
        raise TypeError(f"{name} must have no mask, got a masked {type(value).__name__}")
    if writing and interface["data"][1]:
        raise ValueError(f"{name} must be writable, got a read-only array")
    array = device_arrays.array_at(interface, owner)
    if not shadow(array).flags.aligned:
        raise ValueError(f"{name} must have elements at multiples of their {array.dtype.itemsize} bytes: copy it first")
    return array.bind(streams.external_stream(_stream_of(value, interface)))


def _from_dlpack(value: Any) -> tuple[Any, dict[str, Any]]:
    from cuda.core.utils import StridedMemoryView

    view = StridedMemoryView.from_dlpack(value, stream_ptr=DEFAULT_STREAM)
    size = view.dtype.itemsize
    strides = None if view.strides is None else tuple(size * stride for stride in view.strides)
    typestr = view.dtype.str
    return view, {
        "shape": tuple(view.shape), "strides": strides, "typestr": typestr, "data": (view.ptr, view.readonly),
        "version": 3,
    }  # fmt: skip


def _stream_of(value: Any, interface: dict[str, Any]) -> int:
    """The stream an array is used on, 0 for the default one. PyTorch's interface does not name it."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return int(torch.cuda.current_stream(value.device).cuda_stream)
    stream = interface.get("stream") or 0
    return 0 if stream == DEFAULT_STREAM else int(stream)


def shadow(array: Any) -> np.ndarray:
    """A NumPy array of the same addresses, shape and dtype, for questions about them. Its elements must not be read."""
    interface = {
        "shape": tuple(array.shape), "strides": tuple(array.strides), "typestr": array.dtype.str,
        "data": (device_arrays.address(array), False), "version": 3,
    }  # fmt: skip
    return np.asarray(device_arrays.Described(interface))


def unit_stride(array: Any) -> bool:
    """Whether a kernel can take an array where it lies: whole elements apart, side by side along the last axis."""
    shadowed = shadow(array)
    if any(stride < 0 or stride % shadowed.itemsize for stride in shadowed.strides):  # which elements cannot count
        return False
    return arrays.unit_stride(shadowed)


def on_its_stream(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run on the first array's stream; the other arrays' streams are waited for, and wait for what was enqueued."""
    names = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = names.bind(*args, **kwargs).arguments.values()
        used = {streams.handle(array.stream): array.stream for array in given if hasattr(array, "__cuda_ndarray__")}
        stream, *others = used.values()
        for other in others:
            streams.wait(stream, other)
        with streams.launching(stream):
            result = function(*args, **kwargs)
        for other in others:
            streams.wait(other, stream)
        return result

    return call


def copied(into: Any, source: Any) -> Any:
    """`into`, with the elements of an array of its shape, at most 2-D, of any strides and number type."""
    if source.size == 0:
        return into
    matrix, target = _matrix(source), _matrix(into)
    kernel = copy(into.dtype.name, _type_name(source.dtype))
    blocks = -(-source.size // tuning.THREADS)
    with streams.launching(into.stream):
        streams.wait(into.stream, source.stream)
        kernel(blocks, matrix.memory, target.memory, *matrix.shape, *matrix.steps, *target.steps)
        streams.wait(source.stream, into.stream)
    return into


def empty(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """A new array in C order, on the stream of another one."""
    with streams.launching(like.stream):
        return memory.shaped(shape, dtype)


def contiguous(array: Any, dtype: Any = None) -> Any:
    """An array in C order and of this dtype: the same one where it is that already."""
    dtype = array.dtype if dtype is None else np.dtype(dtype)
    if array.dtype == dtype and shadow(array).flags.c_contiguous:
        return array
    return copied(empty(tuple(array.shape), dtype, array), array)


def placed(value: Any, name: str) -> Placed:
    """Any array of the GPU, at most 2-D, as engines take it: where it lies if it is in C order, labels as int64.

    What is enqueued on this thread's stream from now on finds it ready.
    """
    array = adopted(value, name)
    if array.ndim > 2:
        raise ValueError(f"{name} must have at most 2 dimensions, got shape {tuple(array.shape)}")
    dtype = np.dtype(_type_name(array.dtype))
    if dtype not in SOURCES:
        raise TypeError(f"{name} must hold real numbers of at most 64 bits, got dtype {array.dtype} on a CUDA device")
    if array.size == 0:
        return Placed(None, tuple(array.shape), dtype)
    if array.ndim == 1 and dtype.kind in "iu":
        dtype = np.dtype(np.int64)
    flat = contiguous(array, dtype).reshape(array.size)
    streams.wait(streams.current_stream(), array.stream)
    return Placed(flat, tuple(array.shape), dtype)


def on_host(array: Any) -> np.ndarray:
    """The same numbers in the host's memory."""
    with streams.launching(array.stream):
        return memory.read(contiguous(array)) if array.size else np.empty(array.shape, array.dtype)


def bounds(array: Any) -> tuple[Any, Any]:
    """The smallest and the largest element, both NaN where there is one."""
    matrix = _matrix(array)
    name = _type_name(array.dtype)
    with streams.launching(array.stream):
        blocks = tuning.EXTREMES_PARTS
        parts = memory.empty(2 * blocks, np.dtype(name))
        extremes(name, tuning.THREADS)(blocks, matrix.memory, parts, *matrix.shape, *matrix.steps)
        low, high = memory.read(parts).reshape(blocks, 2).T
    return low.min(), high.max()


def outside(array: Any, least: float, most: float) -> str:
    """What there is in an array: it is not looked through for the first element outside of [least, most]."""
    low, high = bounds(array)
    return f"values from {low} to {high}"


def _type_name(dtype: np.dtype) -> str:
    return "uint8" if dtype == np.bool_ else dtype.name


class _Strided(NamedTuple):
    """An array, at most 2-D, as kernels see it."""

    memory: Any  # (n,)
    shape: tuple[int, int]
    steps: tuple[int, int, int]  # the first element in memory, and from one element to the next, down and across


def _matrix(array: Any) -> _Strided:
    shadowed = shadow(array)
    if array.dtype == np.bool_:
        shadowed = shadowed.view(np.uint8)
    rows, columns = shadowed.shape if shadowed.ndim == 2 else (1, shadowed.size)
    down, across = shadowed.strides if shadowed.ndim == 2 else (0, shadowed.strides[0])
    size = shadowed.itemsize
    reach = [(rows - 1) * down, (columns - 1) * across]  # from the first element to the last of each axis
    low = device_arrays.address(array) + sum(min(0, step) for step in reach)
    length = sum(abs(step) for step in reach) // size + 1
    interface = {
        "shape": (length,), "strides": None, "typestr": shadowed.dtype.str, "data": (low, False),
        "version": 3,
    }  # fmt: skip
    first = (device_arrays.address(array) - low) // size
    return _Strided(device_arrays.array_at(interface, array), (rows, columns), (first, down // size, across // size))
