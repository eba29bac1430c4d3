"""How kernels are compiled: families, options and symbols.

A kernel is a C function compiled once per dtype and known to the linker by a symbol that carries a hash of
the kernels' sources. Whatever calls it, other kernels, Python, a user's own `@njit(cache=True)` function, calls
it by that symbol, so no cached machine code ever holds an address. A caller's cache entry carries the kernel
itself as a pickled constant: loading the entry loads the kernel first, and where the sources have changed since
then, it raises `StaleKernelError`, an OSError, which Numba's cache takes for a missing file and compiles the caller
anew.
"""

import contextlib
import importlib
from collections.abc import Callable
from ctypes import CFUNCTYPE
from typing import Any, ClassVar, TypeVar, overload

import llvmlite.binding as llvm
import numpy as np
from llvmlite.binding import ffi
from numba import config
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typing.ctypes_utils import to_ctypes

from kernels.cpu.compiler.cache import STAMP, Cache, StaleKernelError
from kernels.cpu.compiler.calls import caller
from kernels.cpu.compiler.declaration import REAL, parameters_of, types_of
from kernels.cpu.compiler.inlining import inlined
from kernels.cpu.compiler.lowering import KernelCompiler
from kernels.cpu.compiler.matrix import flat
from kernels.process import forks
from kernels.process.announcing import announce
from kernels.process.apart import apart

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("fastnn's kernels have to be compiled: unset NUMBA_DISABLE_JIT")

# Numba's fast-math flags, by LLVM's names. `reassoc` would break the error-free reductions in exp, and `nnan` and
# `ninf` would fold isnan away: NaN and Inf keep their meaning everywhere. `contract` lets a * b + c become one FMA.
FASTMATH = {"nsz", "arcp", "contract", "afn"}
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": FASTMATH}

R = TypeVar("R")


class _CFunc(CFunc):
    """Numba's C function, which says when it has to be compiled, and takes matrices as single words."""

    @forks.cached
    def ctypes(self) -> Any:
        """What Python calls. The GIL is released."""
        taken = [to_ctypes(kind) for kind in flat(self._sig.args)]  # type: ignore[attr-defined]
        returned = to_ctypes(self._sig.return_type)  # type: ignore[attr-defined]
        return CFUNCTYPE(returned, *taken)(int(self.address or 0))

    def _compile_uncached(self) -> Any:
        announce()
        return super()._compile_uncached()  # type: ignore[misc]


def uninterrupted(work: Callable[[], R]) -> R:
    """work(), which makes Numba compile. It runs apart, unless it is a part of what the calling thread compiles.

    Numba registers its types and functions with itself when they are first needed. An exception in the midst of that,
    Ctrl-C say, leaves it in a state in which it never compiles again.
    """
    return work() if global_compiler_lock.is_locked() else apart(work)


forks.hold(global_compiler_lock)
forks.hold(ffi.lib._lock)  # llvmlite's, which is taken inside the other, and without it when a module is freed


class Kernel:
    """A C function for one dtype, compiled or loaded from the cache when its address is first asked for."""

    loaded: ClassVar[list["Kernel"]] = []  # every kernel that this process has compiled or loaded, in order

    def __init__(self, family: "Family", dtype: str) -> None:
        self.family, self.dtype = family, dtype
        self.symbol = f"fastnn_{family.name}_{dtype}_{family.stamp}"
        self._cfunc: CFunc | None = None
        self._call: Callable[..., Any] = self._first_call

    @forks.cached
    def function(self) -> Callable[..., Any]:
        """What is compiled."""
        function, like = self.family.factory(REAL[self.dtype]), self.family.like
        function.__name__ = function.__qualname__ = f"{self.family.name}_{self.dtype}"
        function.__module__ = self.family.module
        if like is not None and parameters_of(function) != parameters_of(like):
            raise TypeError(f"{self.family.name} must take {parameters_of(like)}, as {like.__name__} declares")
        return function

    @property
    def types(self) -> tuple[Any, tuple[Any, ...]]:
        """(what it returns, its arguments' types), as Numba has them."""
        return types_of(self.family.like or self.function, REAL[self.dtype])

    def load(self) -> CFunc:
        """Compile, or load from the cache, and make the symbol known to the linker."""
        return uninterrupted(self._load) if self._cfunc is None else self._cfunc

    @global_compiler_lock  # a kernel is loaded once, whoever else asks for it
    def _load(self) -> CFunc:
        if self._cfunc is None:
            returned, taken = self.types
            signature: Any = (taken, returned)
            compiled = _CFunc(self.function, signature, locals={}, options=OPTIONS, pipeline_class=KernelCompiler)
            with contextlib.suppress(RuntimeError):  # no folder to cache in: compile for this process alone
                compiled._cache = Cache(self.function, self.family.stamp)  # type: ignore[attr-defined]
            compiled.compile()
            llvm.add_symbol(self.symbol, compiled.address)
            self._cfunc = compiled
            Kernel.loaded.append(self)
        return self._cfunc

    @forks.cached
    def address(self) -> int:
        """Where its code begins: what compiled code calls."""
        return int(self.load().address or 0)

    def __call__(self, *args: Any) -> Any:
        """Call from Python, with integers for addresses and sizes. The GIL is released."""
        return self._call(*args)

    def _first_call(self, *args: Any) -> Any:
        self._call = self.load().ctypes  # where later calls go straight to
        return self._call(*args)

    def __reduce__(self) -> Any:
        return _find, (self.family.module, self.family.name, self.dtype, self.family.stamp)


def _find(module: str, name: str, dtype: str, stamp: str) -> Kernel:
    """Unpickle a kernel out of a cached caller: load it, or refuse the caller if it is stale."""
    if stamp.startswith(STAMP):  # else the module may not be there any more
        home = importlib.import_module(module)
        if (module, name) not in Family.known and hasattr(home, "declared"):
            home.declared()  # a program's, which the module has not been asked for yet
    family = Family.known.get((module, name))
    if family is None or family.stamp != stamp:
        raise StaleKernelError(f"compiled against other sources of {name}")
    kernel = family[dtype]
    kernel.load()
    return kernel


class Family:
    """The kernels that one factory makes, by dtype: `gemm["float32"]`. stamp: the hash of what it makes them of."""

    known: ClassVar[dict[tuple[str, str], "Family"]] = {}

    def __init__(self, factory: Callable[..., Any], like: type | None, name: str, stamp: str = "") -> None:
        self.factory, self.like, self.stamp = factory, like, STAMP + stamp
        self.name, self.module = name, factory.__module__
        self._kernels: dict[Any, Kernel] = {}
        Family.known[self.module, self.name] = self

    def __getitem__(self, dtype: Any) -> Kernel:
        """The kernel for a NumPy dtype or its name."""
        kernel = self._kernels.get(dtype)
        if kernel is None:
            name = np.dtype(dtype).name
            kernel = self._kernels[dtype] = self._kernels.get(name) or Kernel(self, name)
            self._kernels[name] = kernel
        return kernel

    def __call__(self, real: Any) -> Callable[..., Any]:
        """Inside a kernel's factory: the function to call from compiled code."""
        return caller(self[str(real)])


@overload
def kernel(factory: Callable[..., Any]) -> Family: ...
@overload
def kernel(*, like: type | None = None, name: str = "", stamp: str = "") -> Callable[[Callable[..., Any]], Family]: ...
def kernel(
    factory: Callable[..., Any] | None = None, *, like: type | None = None, name: str = "", stamp: str = ""
) -> Any:
    """Make a family of kernels of a factory `factory(real) -> function`, whose name it has unless told otherwise.

    The annotations of that function say what the kernels take and return, see declaration.py; or those of the protocol
    `like`, whose parameters it then has. stamp: a hash of what the factory compiles besides this package's sources.
    """
    if factory is not None:
        return Family(factory, like, name or factory.__name__)
    return lambda factory: Family(factory, like, name or factory.__name__, stamp)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for use inside kernels; it becomes part of each. It may make pointers of addresses."""
    return inlined(function, addresses=True, **OPTIONS)


def plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a function that makes no pointers of addresses, scalar maths say: LLVM optimises it further."""
    return inlined(function, addresses=False, **OPTIONS)


def target_machine() -> tuple[str, str, str]:
    """(triple, CPU name, features) that Numba compiles for: NUMBA_CPU_NAME and the like included."""
    triple, name, features = uninterrupted(lambda: cpu_target.target_context.codegen().magic_tuple())
    return triple, name, features
