"""Where a benchmark runs: on a number of threads of the CPU, or on a GPU. What is not there is skipped."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from kernels import backends, devices

from .common import sweep, use_threads

DEVICES = sweep("cpu", "cuda")


def use(device: str, threads: int = 1) -> None:
    """Let `kernels` use `threads` threads of this device; skip the benchmark where they are not there."""
    if device == "cpu":
        return use_threads(threads)
    try:
        devices.device(device)
    except (ImportError, RuntimeError) as error:
        raise NotImplementedError(str(error)) from None
    if threads > 1:
        raise NotImplementedError("device 'cuda' takes no threads of the host")


def use_precision(precision: str) -> None:
    """Skip the benchmark where there is no GPU that multiplies in this precision."""
    use("cuda")
    try:
        backends.check_precision(precision, "cuda")
    except ValueError as error:
        raise NotImplementedError(str(error)) from None


def product_call(precision: str, a: Any, b: Any, c: Any) -> Callable[[], Any]:
    """A call that enqueues c = a @ b, arrays on the GPU, in this precision where the sizes are worth it."""
    from kernels.cuda.product.products import multiply

    (m, k), n = a.shape, b.shape[1]
    return lambda: multiply("x @ w", m, n, k, a, b, c, precision=precision)


def backend(device: str) -> Any:
    """The kernels for arrays of this device."""
    if device == "cpu":
        import kernels

        return kernels
    from kernels import cuda

    return cuda


def placed(device: str, *arrays: np.ndarray) -> Sequence[Any]:
    """Arrays where the device reads them."""
    if device == "cpu":
        return arrays
    from numba import cuda

    return [cuda.to_device(array) for array in arrays]


def waiting(device: str, call: Callable[[], Any]) -> Callable[[], Any]:
    """A call that returns when the device has done it."""
    if device == "cpu":
        return call
    from kernels.cuda.driver.gpu import synchronize

    def complete() -> Any:
        result = call()
        synchronize()
        return result

    return complete


def on_host(array: Any) -> np.ndarray:
    """An array of any device as NumPy's."""
    return array if isinstance(array, np.ndarray) else array.copy_to_host()
