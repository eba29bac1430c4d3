"""The current GPU: its number, its facts, and waiting for it."""

from typing import Any

import numba_cuda

from kernels.cuda.compiler.target import SIMULATED, api
from kernels.cuda.driver.errors import driver_errors


def _device() -> Any:
    """The current GPU, on which this process has a context from now on."""
    with driver_errors():
        return api.get_current_device()


def device_number() -> int:
    """The current GPU's number."""
    return 0 if SIMULATED else int(_device().id)


def synchronize() -> None:
    """Wait until all that was enqueued is done."""
    with driver_errors():
        api.synchronize()


def processors() -> int:
    """The current GPU's multiprocessors."""
    return 1 if SIMULATED else int(_device().MULTIPROCESSOR_COUNT)


def free_memory() -> float:
    """Bytes that the current GPU has left."""
    return float(api.current_context().get_memory_info().free)


def info() -> dict[str, str]:
    """The current GPU and the versions that work with it."""
    versions = {"numba-cuda": numba_cuda.__version__}
    if SIMULATED:
        return {"gpu": "numba-cuda's simulator", **versions}
    device = _device()
    total = api.current_context().get_memory_info().total
    return {
        "gpu": device.name if isinstance(device.name, str) else device.name.decode(),
        "compute capability": ".".join(map(str, device.compute_capability)),
        "multiprocessors": str(device.MULTIPROCESSOR_COUNT),
        "gpu memory": f"{total / 2**30:.1f} GiB",
        "cuda runtime": ".".join(map(str, api.runtime.get_version())),
        **versions,
    }
