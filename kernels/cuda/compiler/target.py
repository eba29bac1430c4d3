"""What kernels are compiled for: GPUs, or numba-cuda's simulator (NUMBA_ENABLE_CUDASIM=1), where they run as Python."""

import sys
from typing import Any

import numba.cuda
import numpy as np
from numba.cuda.core import config

api: Any = numba.cuda
SIMULATED = bool(config.ENABLE_CUDASIM)

if SIMULATED:
    from numba.cuda.simulator.kernel import BlockManager, _get_kernel_context

    from kernels.cuda.compiler.simulator import run_block

    BlockManager.run = run_block  # type: ignore[method-assign]

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
    cuda = api
