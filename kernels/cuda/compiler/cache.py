"""numba-cuda's disk cache, keyed by what the kernels here are made of."""

from collections.abc import Callable
from typing import Any

import numba_cuda
from numba.cuda.dispatcher import CUDACache

from kernels.declarations.sources import source_hash

STAMP = source_hash("cuda", "activations", "engine/codes.py", "losses", "maths", "optimizers")


class Cache(CUDACache):
    """numba-cuda's disk cache, keyed by a kernel's constants and the hash of all sources, not by its bytecode."""

    def __init__(self, function: Callable[..., Any], constants: str) -> None:
        super().__init__(function)
        self._constants = constants

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), numba_cuda.__version__, self._constants, STAMP)
