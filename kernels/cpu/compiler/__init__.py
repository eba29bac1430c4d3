"""How kernels are declared, compiled, cached and called: the one place that calls Numba's compiler."""

import numba

# Versions of Numba that are tested: what is used of its compiler here is its own affair, and changes with it
LOWEST, BELOW = "0.63", "0.69"


def check_version(version: str) -> None:
    """ImportError where kernels are not known to compile by this version of Numba."""
    if not _numbers(LOWEST) <= _numbers(version) < _numbers(BELOW):
        raise ImportError(f"fastnn's kernels need numba >= {LOWEST} and < {BELOW}, got numba {version}")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")[:2]))


check_version(numba.__version__)
