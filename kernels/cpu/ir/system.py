"""What compiled code calls outside of itself: functions of the system and of CPython that ask nothing of the GIL."""

import ctypes
import os

YIELD, ACQUIRE, RELEASE = "fastnn_yield", "fastnn_acquire", "fastnn_release"
ALLOCATE, FREE = "fastnn_allocate", "fastnn_free"


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]


def _yield() -> int:
    if os.name == "nt":
        return _address(ctypes.windll.kernel32.SwitchToThread)  # type: ignore[attr-defined]
    return _address(ctypes.CDLL(None).sched_yield)


FUNCTIONS = {  # addresses, by the symbols that compiled code knows them by
    YIELD: _yield(),
    ACQUIRE: _address(ctypes.pythonapi.PyThread_acquire_lock),  # (lock, wait)
    RELEASE: _address(ctypes.pythonapi.PyThread_release_lock),
    ALLOCATE: _address(ctypes.pythonapi.PyMem_RawMalloc),
    FREE: _address(ctypes.pythonapi.PyMem_RawFree),
}
