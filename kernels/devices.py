"""What this machine has: a GPU and its driver, or why none is used; what each device computes in."""

import ctypes
import functools
import importlib.util
import os
import sys
from typing import Any

EXTRA = "the package numba-cuda: pip install 'fastnn-numba[cuda]'"
DEVICES = ("auto", "cpu", "cuda")
LOWEST_CAPABILITY = (7, 5)  # of GPUs that the kernels are compiled for in the tests
PRECISIONS = ("float32", "tf32", "bf16")  # of a float32 network's products
TENSOR_CAPABILITY = (8, 0)  # the lowest that multiplies tf32 and bf16


def device(name: Any) -> str:
    """The device that "auto" or a name stands for: "cuda" where there is a usable GPU, else "cpu".

    Raises ValueError for another name; for "cuda" ImportError or RuntimeError that says what is missing.
    """
    if not isinstance(name, str) or name not in DEVICES:
        raise ValueError(f"device must be 'auto', 'cpu' or 'cuda', got {name!r}")
    if name == "cuda":
        check_extra()
        if missing := missing_gpu():
            raise RuntimeError(f"device 'cuda' needs {missing}")
        return "cuda"
    return "cuda" if name == "auto" and not why_not() else "cpu"


def tensor_cores() -> bool:
    """Whether the GPU multiplies tf32 and bf16."""
    return simulated() or _capability() >= TENSOR_CAPABILITY


def check_tensor_cores(precision: str) -> None:
    """Raise ValueError where products in this precision, one of PRECISIONS, need a newer GPU."""
    if precision != "float32" and not tensor_cores():
        needed, found = _dotted(TENSOR_CAPABILITY), _dotted(_capability())
        raise ValueError(f"precision {precision!r} needs a GPU of compute capability {needed} or newer, got {found}")


def why_not() -> str:
    """Why "auto" takes the CPU, or "" where it does not."""
    if not has_extra():
        return f"not used: it needs {EXTRA}"
    if simulated():
        return "not used: NUMBA_ENABLE_CUDASIM is set, and 'auto' takes no simulator"
    missing = missing_gpu()
    return f"not used: it needs {missing}" if missing else ""


def check_extra() -> None:
    """Raise ImportError where numba-cuda is missing."""
    if not has_extra():
        raise ImportError(f"device 'cuda' needs {EXTRA}")


@functools.cache
def has_extra() -> bool:
    """Whether numba-cuda is installed: looked up once, for every new model asks."""
    return importlib.util.find_spec("numba_cuda") is not None


def simulated() -> bool:
    """Whether numba-cuda's simulator stands in for a GPU."""
    return _is_set("NUMBA_ENABLE_CUDASIM")


def _is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def missing_gpu() -> str:
    """What a usable GPU lacks here, or "" where there is one."""
    if simulated():
        return ""
    if _is_set("NUMBA_DISABLE_CUDA"):
        return "a GPU that may be used: NUMBA_DISABLE_CUDA is set"
    return _ask_driver(os.getpid())


@functools.lru_cache(maxsize=1)
def _ask_driver(process: int) -> str:
    """The same for this process, out of the driver itself: numba-cuda takes half a second to import."""
    try:
        driver = ctypes.CDLL(_LIBRARY)
    except OSError:
        return f"NVIDIA's driver, whose {_LIBRARY} was not found"
    error = driver.cuInit(0)
    count = ctypes.c_int()
    if error == 0:
        error = driver.cuDeviceGetCount(ctypes.byref(count))
    if error == _NOT_INITIALIZED:
        return "a process of its own: this one is the fork of one that used the GPU; start it by 'spawn'"
    if error not in (0, _NO_DEVICE):
        return f"a working NVIDIA driver: it answered with CUDA error {error}"
    if error == _NO_DEVICE or count.value == 0:
        return "an NVIDIA GPU: the driver sees none (is CUDA_VISIBLE_DEVICES set?)"
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    major, minor = version.value // 1000, version.value % 1000 // 10
    if major < (needed := _toolkit()):
        return f"an NVIDIA driver for CUDA {needed} or newer, got one for CUDA {major}.{minor}"
    if (found := _capability()) < LOWEST_CAPABILITY:
        return f"a GPU of compute capability {_dotted(LOWEST_CAPABILITY)} or newer, got {_dotted(found)}"
    if library := _missing_library():
        return f"NVIDIA's toolkit, whose {library} was not found: pip install 'fastnn-numba[cuda]'"
    return ""


def _toolkit() -> int:
    """The CUDA version that numba-cuda compiles for: its bindings are of that version, too."""
    from importlib import metadata  # which takes long to import, and only a machine with a GPU needs it

    try:
        return int(metadata.version("cuda-bindings").partition(".")[0])
    except metadata.PackageNotFoundError:
        return 0


def _missing_library() -> str:
    """What numba-cuda would not find of the toolkit, which it is installed without unless asked, or ""."""
    from cuda import pathfinder  # which it looks with, too

    for name in ("nvrtc", "nvvm"):
        try:
            pathfinder.load_nvidia_dynamic_lib(name)
        except RuntimeError:
            return f"lib{name}"
    return ""


def _capability() -> tuple[int, int]:
    """The GPU's compute capability, where `missing_gpu` finds one."""
    driver, major, minor = ctypes.CDLL(_LIBRARY), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetAttribute(ctypes.byref(major), _CAPABILITY_MAJOR, 0)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _CAPABILITY_MINOR, 0)
    return major.value, minor.value


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))


# Of the driver's interface, cuda.h
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NOT_INITIALIZED, _NO_DEVICE = 3, 100
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76
