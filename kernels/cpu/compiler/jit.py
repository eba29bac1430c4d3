"""How kernels are compiled: families, options and symbols.

A kernel is a C function compiled once per dtype and known to the linker by a symbol that carries a hash of
the kernels' sources. Whatever calls it, other kernels, Python, a user's own `@njit(cache=True)` function, calls
it by that symbol, so no cached machine code ever holds an address. A caller's cache entry carries the kernel
itself as a pickled constant: loading the entry loads the kernel first, and where the sources have changed since
then, it raises `StaleKernelError`, an OSError, which Numba's cache takes for a missing file and compiles the caller
anew.

Numba itself is imported when the first kernel has to be compiled, see compiling.py.
"""

import importlib
from collections.abc import Callable
from typing import Any, ClassVar, overload

import numpy as np

from kernels import deferred
from kernels.cpu.compiler.calls import caller
from kernels.cpu.compiler.declaration import parameters_of, real_of, types_of
from kernels.cpu.compiler.shipped import library
from kernels.deferred import llvm
from kernels.process import forks

compiling = deferred.module("kernels.cpu.compiler.compiling")

STAMP = library.stamp()  # what symbols and caches carry


class StaleKernelError(OSError):
    """A cached caller was compiled against other sources of the kernels."""


class Kernel:
    """A C function for one dtype, loaded or compiled when its address is first asked for."""

    loaded: ClassVar[list["Kernel"]] = []  # every kernel that this process has compiled or loaded, in order

    def __init__(self, family: "Family", dtype: str) -> None:
        self.family, self.dtype = family, dtype
        self.symbol = f"fastnn_{family.name}_{dtype}_{family.stamp}"
        self.code: Any = None  # with an `address`, and what Python calls, `ctypes`
        self._call: Callable[..., Any] = self._first_call

    @forks.cached
    def function(self) -> Callable[..., Any]:
        """What is compiled."""
        function, like = self.family.factory(real_of(self.dtype)), self.family.like
        function.__name__ = function.__qualname__ = f"{self.family.name}_{self.dtype}"
        function.__module__ = self.family.module
        if like is not None and parameters_of(function) != parameters_of(like):
            raise TypeError(f"{self.family.name} must take {parameters_of(like)}, as {like.__name__} declares")
        return function

    @property
    def types(self) -> tuple[Any, tuple[Any, ...]]:
        """(what it returns, its arguments' types), as Numba has them."""
        return types_of(self.family.like or self.function, real_of(self.dtype))

    def load(self) -> Any:
        """Its code: what came with the package, or else what is in the cache, or else compiled."""
        if self.code is None:
            shipped = library.find(self.symbol)
            if shipped is None:
                compiling.load(self)
            else:
                self.code = shipped
                Kernel.loaded.append(self)
        return self.code

    def link(self) -> None:
        """Load it, and make its symbol known to the linker of compiled code; shipped code has a linker of its own."""
        if not library.making():
            llvm.add_symbol(self.symbol, self.address)

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
    kernel.link()
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


class Inlined:
    """A function that becomes part of the kernels that call it; it is given to Numba when the first does.

    addresses: whether it makes pointers of addresses, see attributes.py.
    """

    def __init__(self, function: Callable[..., Any], addresses: bool) -> None:
        self.function, self.addresses = function, addresses

    @forks.cached
    def dispatcher(self) -> Any:
        """Numba's own object for it."""
        return deferred.module("kernels.cpu.compiler.inlining").inlined(self.function, self.addresses)

    @property
    def _numba_type_(self) -> Any:
        return self.dispatcher._numba_type_


def inline(function: Callable[..., Any]) -> Any:
    """A function for use inside kernels; it becomes part of each. It may make pointers of addresses."""
    return Inlined(function, addresses=True)


def plain(function: Callable[..., Any]) -> Any:
    """The same of a function that makes no pointers of addresses, scalar maths say: LLVM optimises it further."""
    return Inlined(function, addresses=False)
