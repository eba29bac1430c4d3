"""Levels: sets of features, never names, of CPUs that kernels are compiled for ahead of time.

Those of x86-64 are the psABI's (gitlab.com/x86-psABIs/x86-64-ABI, "low-level system information"), and two beyond.
"""

import ctypes
import os
import platform
import sys
from dataclasses import dataclass
from functools import cache

VARIABLE = "FASTNN_LEVEL"
NONE = "none"  # the variable's value for no shipped kernels
X86, ARM = "x86_64", "aarch64"

_V2 = ("cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")
_BF16 = (*_V4, "avx512_bf16")
_AMX = (*_BF16, "amx_tile", "amx_bf16")


@dataclass(frozen=True)
class Level:
    """What a CPU must have, and what is compiled for it.

    machine: as platform.machine says. instruction_set, bf16: of ir/instruction_sets.py. cpu, features: LLVM's names.
    needs: what a CPU must have, by Linux' names, which leave out what the system does not enable.
    """

    name: str
    machine: str
    instruction_set: str
    cpu: str
    features: str = ""
    needs: tuple[str, ...] = ()
    bf16: str = ""

    @property
    def triple(self) -> str:
        """LLVM's name of the system."""
        return f"{self.machine}-unknown-linux-gnu"


LEVELS = {  # the best of a machine first
    level.name: level
    for level in (
        Level(
            "x86-64-v4-amx", X86, "avx512", "x86-64-v4", "+avx512bf16,+amx-tile,+amx-bf16", needs=_AMX, bf16="amx",
        ),
        Level("x86-64-v4-bf16", X86, "avx512", "x86-64-v4", "+avx512bf16", needs=_BF16, bf16="avx512"),
        Level("x86-64-v4", X86, "avx512", "x86-64-v4", needs=_V4),
        Level("x86-64-v3", X86, "avx2", "x86-64-v3", needs=_V3),
        Level("x86-64-v2", X86, "generic", "x86-64-v2", needs=_V2),
        Level("aarch64", ARM, "neon", "generic", "+neon", needs=("asimd",)),
    )
}  # fmt: skip


@cache
def flags() -> frozenset[str]:
    """What this CPU has and this system enables, by Linux' names; empty on other systems."""
    try:
        with open("/proc/cpuinfo") as file:
            lines = [line for line in file if line.startswith(("flags", "Features"))]
    except OSError:
        return frozenset()
    found = frozenset(lines[0].partition(":")[2].split()) if lines else frozenset()
    return found if tiles_allowed() else found - {"amx_tile", "amx_bf16"}


@cache
def tiles_allowed() -> bool:
    """Ask Linux for AMX's registers, which no process has until it asks: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA)."""
    if sys.platform != "linux" or platform.machine() != X86:
        return False
    system_call, request, tile_data = 158, 0x1023, 18
    return ctypes.CDLL(None).syscall(system_call, request, tile_data) == 0


def runs_here(level: Level) -> bool:
    """Whether this process can run what is compiled for a level."""
    return sys.platform == "linux" and platform.machine() == level.machine and flags().issuperset(level.needs)


def candidates() -> list[Level]:
    """The levels that this process can run, the best first; those alone that FASTNN_LEVEL asks for.

    Raises ValueError where it asks for a level that is not known, or that this CPU does not have.
    """
    here = [level for level in LEVELS.values() if runs_here(level)]
    wanted = os.environ.get(VARIABLE, "")
    if wanted == NONE:
        return []
    if not wanted:
        return here
    level = LEVELS.get(wanted) or LEVELS.get(f"x86-64-{wanted}")
    if level is None:
        short = [name.removeprefix("x86-64-") for name in LEVELS]
        raise ValueError(f"{VARIABLE} must be {NONE} or one of {', '.join(short)}, got {wanted!r}")
    if level not in here:
        able = ", ".join(each.name for each in here) or "none of them"
        raise ValueError(f"{VARIABLE} must be a level that this CPU has, {able}, got {wanted!r}")
    return [level]
