"""The compiler: from a kernel's function to machine code in this process, or out of Numba's cache."""

import contextlib
from collections.abc import Callable
from ctypes import CFUNCTYPE
from typing import Any, TypeVar

import llvmlite.binding as llvm
import numba
from llvmlite.binding import ffi
from numba import config
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typing.ctypes_utils import to_ctypes

from kernels.cpu.compiler.attributes import OPTIONS
from kernels.cpu.compiler.cache import Cache
from kernels.cpu.compiler.lowering import KernelCompiler
from kernels.cpu.compiler.matrix import flat
from kernels.cpu.ir.system import FUNCTIONS
from kernels.process import forks
from kernels.process.announcing import announce
from kernels.process.apart import apart

# Versions of Numba that are tested: what is used of its compiler here is its own affair, and changes with it
LOWEST, BELOW = "0.63", "0.69"


def check_version(version: str) -> None:
    """ImportError where kernels are not known to compile by this version of Numba."""
    if not _numbers(LOWEST) <= _numbers(version) < _numbers(BELOW):
        raise ImportError(f"fastnn's kernels need numba >= {LOWEST} and < {BELOW}, got numba {version}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


check_version(numba.__version__)
if config.DISABLE_JIT:  # type: ignore[attr-defined]
    raise ImportError("fastnn's kernels have to be compiled: unset NUMBA_DISABLE_JIT")

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


for _name, _address in FUNCTIONS.items():
    llvm.add_symbol(_name, _address)
forks.hold(global_compiler_lock)
forks.hold(ffi.lib._lock)  # llvmlite's, which is taken inside the other, and without it when a module is freed


def _c_function(kernel: Any) -> _CFunc:
    returned, taken = kernel.types
    signature: Any = (taken, returned)
    return _CFunc(kernel.function, signature, locals={}, options=OPTIONS, pipeline_class=KernelCompiler)


@global_compiler_lock
def optimised(kernel: Any) -> tuple[Any, str]:
    """A kernel's optimised LLVM module, with all that it calls but other kernels, and the name of its C function."""
    compiled = _c_function(kernel)._compile_uncached()
    compiled.library._ensure_finalized()
    return compiled.library._final_module, compiled.fndesc.llvm_cfunc_wrapper_name


def load(kernel: Any) -> None:
    """Give a kernel its code, compiled or out of the cache."""
    uninterrupted(lambda: _load(kernel))


@global_compiler_lock  # a kernel is loaded once, whoever else asks for it
def _load(kernel: Any) -> None:
    if kernel.code is not None:
        return
    code = _c_function(kernel)
    with contextlib.suppress(RuntimeError):  # no folder to cache in: compile for this process alone
        code._cache = Cache(kernel.function, kernel.family.stamp)  # type: ignore[attr-defined]
    code.compile()
    kernel.code = code
    kernel.loaded.append(kernel)


def target_machine() -> tuple[str, str, str]:
    """(triple, CPU name, features) that Numba compiles for: NUMBA_CPU_NAME and the like included."""
    triple, name, features = uninterrupted(lambda: cpu_target.target_context.codegen().magic_tuple())
    return triple, name, features
