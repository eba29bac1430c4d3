"""How CUDA kernels are compiled and launched.

A kernel is made by a factory from compile-time constants (dtype, tile shape, activation) and has one signature, so it
is compiled once. In numba-cuda's simulator the same functions run as plain Python.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, overload

from numba import types
from numba.cuda.core import config
from numba.cuda.core.errors import NumbaError

from kernels.activations import Activation
from kernels.cuda import tuning
from kernels.cuda.compiler.declaration import parameters_of, types_of
from kernels.cuda.compiler.target import SIMULATED, api
from kernels.cuda.driver.errors import driver_errors, failure
from kernels.cuda.driver.streams import current, current_stream, handle
from kernels.process import forks
from kernels.process.announcing import announce

if not SIMULATED:
    from kernels.cuda.compiler import offline
    from kernels.cuda.compiler.cache import Cache


class Kernel:
    """A compiled kernel: `kernel(blocks, *arguments)` enqueues it and returns at once; no blocks have nothing to do.

    argtypes: of its arguments, as Numba has them. threads: of a block.
    """

    def __init__(
        self, function: Callable[..., None], argtypes: tuple[Any, ...], threads: int, constants: tuple[Any, ...],
        stamp: str = "",
    ) -> None:  # fmt: skip
        self.function, self.argtypes, self.threads, self.constants = function, argtypes, threads, constants
        self.stamp = stamp
        self._launches: dict[Any, Any] = {}

    @forks.cached
    def _dispatcher(self) -> Any:
        if SIMULATED:
            return api.jit(self.function)
        # By default numba-cuda would optimise once more while it links: that is other code than what `ptx` shows
        dispatcher = api.jit(self.function, lto=False)
        with contextlib.suppress(RuntimeError):  # no folder to cache in: compile for this process alone
            dispatcher._cache = Cache(self.function, f"{self.function.__qualname__}{self.constants}{self.stamp}")
        return dispatcher

    def load(self) -> None:
        """Compile for the current GPU, or load from the cache; else the first launch does that.

        Raises OutOfMemoryError, and RuntimeError where the GPU or a part of the toolkit does not work.
        """
        if SIMULATED or self._dispatcher.overloads:
            return
        with driver_errors():
            cached = self._dispatcher._cache.load_overload(self.argtypes, self._dispatcher.targetctx)
        if cached is None:
            announce()
        try:  # and onto the GPU: a step that ends for want of memory must not be half done
            self._dispatcher.compile(self.argtypes).bind()
        except Exception as error:
            raise self._failure(error) from error
        self._dispatcher.disable_compile()

    def __call__(self, blocks: int | tuple[int, ...], *args: Any) -> None:
        """Raises OutOfMemoryError and RuntimeError, too."""
        if blocks == 0:  # which the driver would take for an error
            return
        if (record := getattr(current, "record", None)) is not None:
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
                if len(self._launches) >= tuning.LAUNCHES:
                    self._launches.clear()
                self._launches[key] = launch
            launch(*args)
        except Exception as error:  # no context manager: this is the time of a launch
            raise self._failure(error) from error

    def _failure(self, error: Exception) -> Exception:
        """What to raise: a program's own activation may not compile."""
        for constant in self.constants:
            if isinstance(constant, Activation) and isinstance(error, NumbaError):
                return constant.cannot_compile("function or slope", error)
        return failure(error)

    def ptx(self, *capabilities: tuple[int, int]) -> list[str]:
        """Its code for GPUs of these compute capabilities. Needs no GPU."""
        return offline.ptx(self.function, self.argtypes, capabilities)


def _configured(dispatcher: Any, blocks: int | tuple[int, ...], threads: int, stream: Any = 0) -> Any:
    """A launch, without numba-cuda's warning that few blocks leave a GPU idle: a small network has no more."""
    before, config.CUDA_LOW_OCCUPANCY_WARNINGS = config.CUDA_LOW_OCCUPANCY_WARNINGS, 0
    try:
        return dispatcher[blocks, threads, stream]
    finally:
        config.CUDA_LOW_OCCUPANCY_WARNINGS = before


Factory = Callable[..., tuple[Any, ...]]


@overload
def kernel(factory: Factory) -> Callable[..., Kernel]: ...
@overload
def kernel(
    *, like: type | None = None, name: str = "", stamp: str = ""
) -> Callable[[Factory], Callable[..., Kernel]]: ...
def kernel(factory: Factory | None = None, *, like: type | None = None, name: str = "", stamp: str = "") -> Any:
    """Make a family of kernels of a factory `factory(real, *constants) -> (function, threads)`.

    The annotations of that function say what the kernel takes, see declaration.py; or those of the protocol `like`,
    whose parameters it then has. Where they speak of Data, the factory returns (function, threads, the name of Data's
    type). The family is called with a dtype in place of `real`; the same constants give the same kernel. It has the
    factory's name unless told otherwise. stamp: a hash of what the factory compiles besides this package's sources.
    """
    return _family(factory, like, name, stamp) if factory else lambda factory: _family(factory, like, name, stamp)


def _family(factory: Factory, like: type | None, name: str, stamp: str) -> Callable[..., Kernel]:
    @functools.cache
    def member(dtype: str, *constants: Any) -> Kernel:
        real = getattr(types, dtype)
        function, threads, *data = factory(real, *constants)
        function.__name__ = f"{name or factory.__name__}_{dtype}"
        function.__qualname__ = function.__name__
        function.__module__ = factory.__module__
        if like is not None and parameters_of(function) != parameters_of(like):
            raise TypeError(f"{function.__name__} must take {parameters_of(like)}, as {like.__name__} declares")
        argtypes = types_of(like or function, real, *(getattr(types, element) for element in data))
        return Kernel(function, argtypes, threads, constants, stamp)

    return member


def inline(function: Callable[..., Any]) -> Any:
    """A function for use inside kernels; it becomes part of each."""
    return function if SIMULATED else api.jit(function, device=True, forceinline=True)
