"""Compiled kernels on disk: the hash of their sources that keys them, and Numba's cache of their machine code."""

import contextlib
import pickle
import warnings
from typing import Any

import llvmlite.binding as llvm
from numba.core.caching import CompileResultCacheImpl, FunctionCache


class _MachineCode(CompileResultCacheImpl):
    """Numba's cache entry without the LLVM code, which only callers that inline need: here they call a symbol."""

    def reduce(self, cres: Any) -> Any:
        (name, kind, (code, _)), *rest = super().reduce(cres)
        symbol = llvm.parse_assembly(f'define void @"{cres.fndesc.llvm_cfunc_wrapper_name}"() {{ ret void }}')
        return (name, kind, (code, symbol.as_bitcode())), *rest


_DAMAGED = (  # what unpickling raises
    pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, KeyError, TypeError, ValueError,
)  # fmt: skip


class Cache(FunctionCache):
    """Numba's disk cache, keyed by the hash of what a kernel is made of instead of one function's bytecode."""

    _impl_class = _MachineCode

    def __init__(self, function: Any, stamp: str) -> None:
        super().__init__(function)
        self._stamp = stamp

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), self._stamp)

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


def cache_folder() -> str:
    """The folder that compiled kernels are cached in, or why there is none."""
    try:
        return str(Cache(cache_folder, "").cache_path)
    except RuntimeError:
        return "none: neither the package's folder nor the user's can be written to"
