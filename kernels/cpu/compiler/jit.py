"""How kernels are compiled: options, cache, symbols. With inlining.py the one place that calls Numba's compiler.

A kernel is a C function compiled once per dtype and known to the linker by a symbol that carries a hash of
the kernels' sources. Whatever calls it, other kernels, Python, a user's own `@njit(cache=True)` function, calls
it by that symbol, so no cached machine code ever holds an address. A caller's cache entry carries the kernel
itself as a pickled constant: loading the entry loads the kernel first, and where the sources have changed since
then, it raises `StaleKernelError`, an OSError, which Numba's cache takes for a missing file and compiles the caller
anew.
"""

import contextlib
import hashlib
import importlib
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from llvmlite.binding import ffi
from numba import config, types
from numba.core import cgutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from kernels import forks
from kernels.announcing import announce
from kernels.apart import apart
from kernels.cpu.compiler.inlining import inlined

if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("fastnn's kernels have to be compiled: unset NUMBA_DISABLE_JIT")

# Numba's fast-math flags, by LLVM's names. `reassoc` would break the error-free reductions in exp, and `nnan` and
# `ninf` would fold isnan away: NaN and Inf keep their meaning everywhere. `contract` lets a * b + c become one FMA.
FASTMATH = {"nsz", "arcp", "contract", "afn"}
OPTIONS: dict[str, Any] = {"error_model": "numpy", "fastmath": FASTMATH}

REAL = {"float32": types.float32, "float64": types.float64}
_LETTERS = {"i": types.int64, "d": types.float64, "v": types.void}


def _source_hash() -> str:
    package = Path(__file__).parents[2]
    sources = [
        *(package / name for name in ("engine/codes.py", "maths/float_bits.py", "layout.py", "random.py", "scalar.py")),
        *(path for folder in ("cpu", "nopython") for path in sorted((package / folder).rglob("*.py"))),
    ]
    digest = hashlib.sha256()
    for path in sources:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


STAMP = _source_hash()

R = TypeVar("R")


class StaleKernelError(OSError):
    """A cached caller was compiled against other sources of the kernels."""


class _MachineCode(CompileResultCacheImpl):
    """What Numba caches of a kernel but its LLVM code, which is for callers that inline it: here they call a symbol.

    A first small fit after `import fastnn` takes 31 ms in place of 73, and 2 MB in place of 11.
    """

    def reduce(self, cres: Any) -> Any:
        (name, kind, (code, _)), *rest = super().reduce(cres)
        symbol = llvm.parse_assembly(f'define void @"{cres.fndesc.llvm_cfunc_wrapper_name}"() {{ ret void }}')
        return (name, kind, (code, symbol.as_bitcode())), *rest


_DAMAGED = (  # what unpickling raises
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError,
)  # fmt: skip


class _Cache(FunctionCache):
    """Numba's disk cache, keyed by the hash of all the kernels' sources instead of one function's bytecode."""

    _impl_class = _MachineCode

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), STAMP)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What is cached, or None; also where a file is damaged, which is then written anew."""
        try:
            return super().load_overload(sig, target_context)
        except _DAMAGED:
            with contextlib.suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep what was compiled; where there is no room, say so and go on."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            why = f"compiled kernels cannot be kept in {self.cache_path}: {error.strerror}"
            warnings.warn(f"{why}; the next program compiles them again", RuntimeWarning, stacklevel=2)


class _CFunc(CFunc):
    """Numba's C function, which says when it has to be compiled."""

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
        self.restype, self.argtypes = _types(family.signature, REAL[dtype])
        self.symbol = f"fastnn_{family.name}_{dtype}_{STAMP}"
        self._cfunc: CFunc | None = None

    def load(self) -> CFunc:
        """Compile, or load from the cache, and make the symbol known to the linker."""
        return uninterrupted(self._load) if self._cfunc is None else self._cfunc

    @global_compiler_lock  # a kernel is loaded once, whoever else asks for it
    def _load(self) -> CFunc:
        if self._cfunc is None:
            function = self.family.factory(REAL[self.dtype])
            function.__name__ = f"{self.family.name}_{self.dtype}"
            function.__qualname__ = function.__name__
            function.__module__ = self.family.factory.__module__
            signature: Any = (self.argtypes, self.restype)
            compiled = _CFunc(function, signature, locals={}, options=OPTIONS)
            with contextlib.suppress(RuntimeError):  # no folder to cache in: compile for this process alone
                compiled._cache = _Cache(function)  # type: ignore[attr-defined]
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
        call = self._call = self.load().ctypes
        self.__class__ = _LoadedKernel
        return call(*args)

    def __reduce__(self) -> Any:
        return _find, (self.family.module, self.family.name, self.dtype, STAMP)


class _LoadedKernel(Kernel):
    """A kernel that has been called: its second call and later ones go straight to ctypes."""

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)


def _find(module: str, name: str, dtype: str, stamp: str) -> Kernel:
    """Unpickle a kernel out of a cached caller: load it, or refuse the caller if it is stale."""
    if stamp != STAMP:
        raise StaleKernelError(f"compiled against other sources of {name}")
    importlib.import_module(module)
    kernel = Family.known[module, name][dtype]
    kernel.load()
    return kernel


class Family:
    """The kernels that one factory makes, by dtype: `gemm["float32"]`."""

    known: ClassVar[dict[tuple[str, str], "Family"]] = {}

    def __init__(self, factory: Callable[..., Any], signature: str, name: str) -> None:
        self.factory, self.signature = factory, signature
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


def kernel(signature: str, name: str = "") -> Callable[[Callable[..., Any]], Family]:
    """Make a family of kernels of a factory `factory(real) -> function`, whose name it has unless told otherwise.

    The signature is the result's type and the arguments', "v 12i r": v void, i int64 (sizes, strides in bytes,
    addresses), r the kernel's real type, d float64, each with how many there are in a row.
    """
    return lambda factory: Family(factory, signature, name or factory.__name__)


def inline(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function for use inside kernels; it becomes part of each."""
    return inlined(function, **OPTIONS)


def caller(target: Kernel) -> Callable[..., Any]:
    """An intrinsic that calls a kernel by its symbol from compiled code, cached or not."""

    def function(context: Any, builder: Any, fnty: Any) -> Any:
        return _declare(target, context, builder, fnty)

    return _call(target.family.name, target.restype, target.argtypes, function)


def address(target: Kernel) -> Any:
    """An intrinsic f() that returns a kernel's address, by its symbol: for compiled code that may be cached."""

    @intrinsic
    def kernel_address(typingctx: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            function = _declare(target, context, builder, ir.FunctionType(ir.VoidType(), []))
            return builder.ptrtoint(function, ir.IntType(64))

        return types.int64(), codegen

    return kernel_address


def _declare(target: Kernel, context: Any, builder: Any, fnty: Any) -> Any:
    target.load()
    context.environment.consts.append(target)  # travels with the caller's cache entry, see the module's text
    return cgutils.get_or_insert_function(builder.module, fnty, target.symbol)


def caller_of_address(signature: str, real: Any) -> Callable[..., Any]:
    """An intrinsic f(address, *arguments) that calls the kernel of this signature at an address."""
    restype, argtypes = _types(signature, real)
    return _call("at_address", restype, argtypes, None)


def _types(signature: str, real: Any) -> tuple[Any, tuple[Any, ...]]:
    letters: dict[str, Any] = {**_LETTERS, "r": real}
    restype, *argtypes = (letters[word[-1]] for word in signature.split() for _ in range(int(word[:-1] or 1)))
    return restype, tuple(argtypes)


def _call(name: str, restype: Any, argtypes: tuple[Any, ...], function: Callable[..., Any] | None) -> Any:
    """An intrinsic that calls what `function` declares, or, without it, what is at the address in its first
    argument."""
    parameters = argtypes if function else (types.int64, *argtypes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = [
            context.cast(builder, value, given, wanted)
            for value, given, wanted in zip(args, sig.args, parameters, strict=True)
        ]
        fnty = ir.FunctionType(
            ir.VoidType() if restype == types.void else context.get_value_type(restype),
            [context.get_value_type(t) for t in argtypes],
        )
        if function:
            result = builder.call(function(context, builder, fnty), values)
        else:
            result = builder.call(builder.inttoptr(values[0], fnty.as_pointer()), values[1:])
        return context.get_dummy_value() if restype == types.void else result

    return intrinsic_of(name, restype(*parameters), codegen)


def intrinsic_of(name: str, signature: Any, codegen: Callable[..., Any]) -> Any:
    """An intrinsic of one signature."""

    def typing(typingctx: Any) -> Any:
        return signature, codegen

    # an intrinsic's typing function has as many named parameters as the call has arguments
    names = ", ".join(f"a{i}" for i in range(len(signature.args)))
    scope: dict[str, Any] = {"typing": typing}
    exec(f"def {name}(typingctx, {names}):\n    return typing(typingctx)", scope)
    return intrinsic(scope[name])


def cache_folder() -> str:
    """The folder that compiled kernels are cached in, or why there is none."""
    try:
        return str(_Cache(_source_hash).cache_path)
    except RuntimeError:
        return "none: neither the package's folder nor the user's can be written to"


def target_machine() -> tuple[str, str, str]:
    """(triple, CPU name, features) that Numba compiles for: NUMBA_CPU_NAME and the like included."""
    triple, name, features = uninterrupted(lambda: cpu_target.target_context.codegen().magic_tuple())
    return triple, name, features
