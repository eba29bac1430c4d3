"""How CUDA kernels are compiled, cached and launched. The one file that touches numba-cuda's internals.

A kernel is made by a factory from compile-time constants (dtype, tile shape, activation) and has one signature, so it
is compiled once. In numba-cuda's simulator (NUMBA_ENABLE_CUDASIM=1) the same functions run as plain Python.
"""

import contextlib
import functools
import hashlib
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba.cuda
import numba_cuda
import numpy as np
from numba import types
from numba.cuda.core import config

from kernels import forks
from kernels.cpu.compiler import jit as cpu_jit

api: Any = numba.cuda
SIMULATED = bool(config.ENABLE_CUDASIM)

THREADS = 256  # of a block, where nothing else decides
LAUNCHES = 64  # of a kernel, each of so many blocks on a stream, that are remembered

_launching = threading.local()  # its `stream`: what `launching` was given; its `record`: see `recorded`


def _source_hash() -> str:
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    shared = [package / name for name in ("scalar.py", "random.py", "cpu/ir/floats.py")]
    for path in [*shared, *sorted((package / "cuda").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


STAMP = _source_hash()


class OutOfMemoryError(MemoryError):
    """The GPU has no room for an array, or for a kernel's code, or this process has none on it at all."""


def failure(error: Exception) -> Exception:
    """OutOfMemoryError where the driver has no memory, else RuntimeError: each library has classes of its own."""
    if "OUT_OF_MEMORY" in str(error):
        return OutOfMemoryError("device 'cuda' has no room for what is to run on it: use device='cpu'")
    return RuntimeError(f"device 'cuda' failed: {error}")


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Raise the `failure` that an error of the driver is."""
    try:
        yield
    except Exception as error:
        raise failure(error) from error


if SIMULATED:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
    from numba.cuda.simulator.kernel import _get_kernel_context

    class _Shared:
        """Shared memory: an array for each line that asks for one. The simulator's own may give two threads two."""

        def array(self, n: int, dtype: Any, alignment: int = 8) -> np.ndarray:
            caller = sys._getframe(1)
            arrays = _get_kernel_context().shared._allocations
            return arrays.setdefault((caller.f_code, caller.f_lineno), np.empty(n, str(dtype)))

    class _Simulated:
        """`cuda` as kernels see it: within a launch, that launch's threads, shared memory and barriers.

        The simulator itself puts these into the globals of the kernel's own module alone, and there with a race.
        """

        shared = _Shared()

        def __getattr__(self, name: str) -> Any:
            return getattr(_get_kernel_context() or api, name)

    cuda: Any = _Simulated()
else:
    from numba.cuda import dispatcher
    from numba.cuda.dispatcher import CUDACache

    cuda = api

    class _Cache(CUDACache):
        """numba-cuda's disk cache, keyed by a kernel's constants and the hash of all sources, not by its bytecode."""

        def __init__(self, function: Callable[..., Any], constants: str) -> None:
            super().__init__(function)
            self._constants = constants

        def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
            return (sig, codegen.magic_tuple(), numba_cuda.__version__, self._constants, STAMP)


class Kernel:
    """A compiled kernel: `kernel(blocks, *arguments)` enqueues it and returns at once; no blocks have nothing to do.

    signature: a letter for each argument: R an array (n,) of the kernel's real type, I one of int64, i an int64
    number, or a Numba type's name for an array (n,) of that. All arrays are contiguous. threads: of a block.
    """

    def __init__(
        self, function: Callable[..., None], signature: str, real: Any, threads: int, constants: tuple[Any, ...]
    ) -> None:
        self.function, self.signature, self.threads, self.constants = function, signature, threads, constants
        self.argtypes = tuple(_argument(word, real) for word in signature.split())
        self._launches: dict[Any, Any] = {}

    @forks.cached
    def _dispatcher(self) -> Any:
        if SIMULATED:
            return api.jit(self.function)
        # By default numba-cuda would optimise once more while it links: that is other code than what `ptx` shows
        dispatcher = api.jit(self.function, lto=False)
        with contextlib.suppress(RuntimeError):  # no folder to cache in: compile for this process alone
            dispatcher._cache = _Cache(self.function, f"{self.function.__qualname__}{self.constants}")
        return dispatcher

    def load(self) -> None:
        """Compile for the current GPU, or load from the cache; else the first launch does that.

        Raises OutOfMemoryError, and RuntimeError where the GPU or a part of the toolkit does not work.
        """
        if SIMULATED or self._dispatcher.overloads:
            return
        with driver_errors():
            cached = self._dispatcher._cache.load_overload(self.argtypes, self._dispatcher.targetctx)
        if cached is None and cpu_jit.announce is not None:
            cpu_jit.announce()
        with driver_errors():  # and onto the GPU: a step that ends for want of memory must not be half done
            self._dispatcher.compile(self.argtypes).bind()
        self._dispatcher.disable_compile()

    def __call__(self, blocks: int | tuple[int, ...], *args: Any) -> None:
        """Raises OutOfMemoryError and RuntimeError, too."""
        if blocks == 0:  # which the driver would take for an error
            return
        if (record := getattr(_launching, "record", None)) is not None:
            record.append((self, blocks, args))
            return
        if SIMULATED:  # where a configured kernel is the kernel itself
            _configured(self._dispatcher, blocks, self.threads, current_stream())(*args)
            return
        key = blocks, handle(current_stream())
        launch = self._launches.get(key)
        try:
            if launch is None:
                launch = _configured(self._dispatcher, blocks, self.threads, current_stream())
                if len(self._launches) >= LAUNCHES:
                    self._launches.clear()
                self._launches[key] = launch
            launch(*args)
        except Exception as error:  # no context manager: this is the time of a launch
            raise failure(error) from error

    def ptx(self, *capabilities: tuple[int, int]) -> list[str]:
        """Its code for GPUs of these compute capabilities. Needs no GPU."""
        current = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: _Device(capabilities[0])  # device functions ask for it
        try:
            library, _ = api.compiler._compile_pyfunc_with_fixup(  # what numba.cuda.compile_ptx does, but once for all
                self.function, self.argtypes, debug=None, lineinfo=False, device=False, fastmath=False,
                cc=capabilities[0], opt=None, abi="numba", abi_info=None, forceinline=False,
                launch_bounds=None, lto=False,
            )  # fmt: skip
        finally:
            dispatcher.get_current_device = current
        return ["\n".join(library.get_asm_strs(cc=capability)) for capability in capabilities]


def _configured(dispatcher: Any, blocks: int | tuple[int, ...], threads: int, stream: Any = 0) -> Any:
    """A launch, without numba-cuda's warning that few blocks leave a GPU idle: a small network has no more."""
    before, config.CUDA_LOW_OCCUPANCY_WARNINGS = config.CUDA_LOW_OCCUPANCY_WARNINGS, 0
    try:
        return dispatcher[blocks, threads, stream]
    finally:
        config.CUDA_LOW_OCCUPANCY_WARNINGS = before


class _Device:
    """What the compiler asks of a device."""

    def __init__(self, compute_capability: tuple[int, int]) -> None:
        self.compute_capability = compute_capability


def _argument(word: str, real: Any) -> Any:
    if word == "i":
        return types.int64
    element = {"R": real, "I": types.int64}.get(word) or getattr(types, word)
    return types.Array(element, 1, "C")


def kernel(factory: Callable[..., tuple[Callable[..., None], str, int]]) -> Callable[..., Kernel]:
    """Make a family of kernels of a factory `factory(real, *constants) -> (function, signature, threads)`.

    The family is called with a dtype in place of `real`; the same constants give the same kernel.
    """

    @functools.cache
    def member(dtype: str, *constants: Any) -> Kernel:
        real = getattr(types, dtype)
        function, signature, threads = factory(real, *constants)
        function.__name__ = f"{factory.__name__}_{dtype}"
        function.__qualname__ = function.__name__
        function.__module__ = factory.__module__
        return Kernel(function, signature, real, threads, constants)

    return member


def inline(function: Callable[..., Any]) -> Any:
    """A function for use inside kernels; it becomes part of each."""
    return function if SIMULATED else api.jit(function, device=True, forceinline=True)


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


@contextlib.contextmanager
def launching(stream: Any) -> Iterator[None]:
    """What this thread enqueues meanwhile goes to this stream, 0 for the default one."""
    before, _launching.stream = current_stream(), stream
    try:
        yield
    finally:
        _launching.stream = before


def recorded(enqueue: Callable[[], None]) -> list[tuple[Kernel, Any, tuple[Any, ...]]]:
    """What `enqueue` launches, without launching it: kernels, their blocks and arguments."""
    record: list[tuple[Kernel, Any, tuple[Any, ...]]] = []
    _launching.record = record
    try:
        enqueue()
    finally:
        _launching.record = None
    return record


def current_stream() -> Any:
    """The stream that this thread enqueues on."""
    return getattr(_launching, "stream", 0)


def handle(stream: Any) -> int:
    """A stream's address, 0 for the default one."""
    return int(stream.handle) if stream else 0


def external_stream(handle: int) -> Any:
    """A stream that another library made."""
    return api.external_stream(handle) if handle else 0


def wait(later: Any, earlier: Any) -> None:
    """What is enqueued on one stream from now on starts after what another has by now."""
    if handle(later) != handle(earlier):
        with driver_errors():
            event = api.event(timing=False)
            event.record(earlier)
            event.wait(later)


def _device() -> Any:
    """The current GPU, on which this process has a context from now on."""
    with driver_errors():
        return api.get_current_device()


def device_number() -> int:
    """The current GPU's number."""
    return 0 if SIMULATED else int(_device().id)


def synchronize() -> None:
    """Wait until all that was enqueued is done."""
    with driver_errors():
        api.synchronize()


def processors() -> int:
    """The current GPU's multiprocessors."""
    return 1 if SIMULATED else int(_device().MULTIPROCESSOR_COUNT)


def address(array: Any) -> int:
    """The address of an array's first element on the GPU; in the simulator, that of memory allocated there."""
    return int(array._ary.ctypes.data if SIMULATED else array.__cuda_array_interface__["data"][0])


def free_memory() -> float:
    """Bytes that the current GPU has left."""
    return float(api.current_context().get_memory_info().free)


def info() -> dict[str, str]:
    """The current GPU and the versions that work with it."""
    versions = {"numba-cuda": numba_cuda.__version__}
    if SIMULATED:
        return {"gpu": "numba-cuda's simulator", **versions}
    device = _device()
    total = api.current_context().get_memory_info().total
    return {
        "gpu": device.name if isinstance(device.name, str) else device.name.decode(),
        "compute capability": ".".join(map(str, device.compute_capability)),
        "multiprocessors": str(device.MULTIPROCESSOR_COUNT),
        "gpu memory": f"{total / 2**30:.1f} GiB",
        "cuda runtime": ".".join(map(str, api.runtime.get_version())),
        **versions,
    }
