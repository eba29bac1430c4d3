"""numba-cuda's disk cache, keyed by what the kernels here are made of."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba_cuda
from numba.cuda.dispatcher import CUDACache


def _source_hash() -> str:
    package = Path(__file__).parents[2]
    digest = hashlib.sha256()
    shared = [package / name for name in ("engine/codes.py", "maths/float_bits.py", "scalar.py", "random.py")]
    for path in [*shared, *sorted((package / "cuda").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


STAMP = _source_hash()


class Cache(CUDACache):
    """numba-cuda's disk cache, keyed by a kernel's constants and the hash of all sources, not by its bytecode."""

    def __init__(self, function: Callable[..., Any], constants: str) -> None:
        super().__init__(function)
        self._constants = constants

    def _index_key(self, sig: Any, codegen: Any) -> tuple[Any, ...]:
        return (sig, codegen.magic_tuple(), numba_cuda.__version__, self._constants, STAMP)
