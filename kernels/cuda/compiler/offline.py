"""Kernels compiled for GPUs that need not be there, to be looked at. A part of numba-cuda is replaced here alone."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numba_cuda
from numba.cuda import dispatcher

from kernels.cuda.compiler.target import api
from kernels.process import forks

_compiling = forks.lock()


class _Device(NamedTuple):
    """What the compiler asks of a GPU."""

    compute_capability: tuple[int, int]


@contextlib.contextmanager
def _as_if_on(capability: tuple[int, int]) -> Iterator[None]:
    """numba-cuda compiles a kernel for any GPU, but the device functions that it calls for the current one alone.

    So meanwhile it finds one of this compute capability. Raises RuntimeError where a version of it looks elsewhere.
    """
    if not hasattr(dispatcher, "get_current_device"):
        raise RuntimeError(f"numba-cuda {numba_cuda.__version__} does not ask the dispatcher for the current GPU")
    with _compiling:
        found = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: _Device(capability)
        try:
            yield
        finally:
            dispatcher.get_current_device = found


def ptx(function: Callable[..., None], argtypes: Sequence[Any], capabilities: Sequence[tuple[int, int]]) -> list[str]:
    """A kernel's code for GPUs of these compute capabilities. It is compiled once, for the first."""
    with _as_if_on(capabilities[0]):
        library, _ = api.compiler._compile_pyfunc_with_fixup(  # what numba.cuda.compile_ptx does, but once for all
            function, argtypes, debug=None, lineinfo=False, device=False, fastmath=False, cc=capabilities[0], opt=None,
            abi="numba", abi_info=None, forceinline=False, launch_bounds=None, lto=False,
        )  # fmt: skip
    return ["\n".join(library.get_asm_strs(cc=capability)) for capability in capabilities]
