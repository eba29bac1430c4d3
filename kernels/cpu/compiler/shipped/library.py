"""The kernels of a level that lie compiled beside this file: found, checked, loaded by ctypes.

A level's kernels are a shared object, and a manifest, JSON: what the object was made of, and what it holds.
"""

import ctypes
import functools
import hashlib
import json
import os
import platform
import warnings
from ctypes import CFUNCTYPE
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kernels.cpu.compiler.shipped import levels
from kernels.cpu.compiler.shipped.levels import Level
from kernels.cpu.ir.system import FUNCTIONS
from kernels.declarations.sources import source_hash
from kernels.process import forks

MAKING = "FASTNN_MAKING"
# Where the package has them, unless a variable names another folder that build.py has filled
FOLDER = Path(os.environ.get("FASTNN_KERNELS") or Path(__file__).parent / "objects")
SOURCES = source_hash("cpu", "nopython", "activations", "engine/codes.py", "losses", "maths", "optimizers", "layout.py")
# Numba's variables that change what is compiled: whoever sets one wants to see that
GOING_ROUND = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT", "NUMBA_DEBUG", "NUMBA_DEBUGINFO")
C_TYPES: dict[str, Any] = {  # by Numba's names
    "none": None, "int64": ctypes.c_int64, "float64": ctypes.c_double, "float32": ctypes.c_float,
}  # fmt: skip


@dataclass(frozen=True)
class Code:
    """A shipped kernel: where it is, and what it returns and takes, by Numba's names."""

    address: int
    signature: tuple[str, ...]

    @forks.cached
    def ctypes(self) -> Any:
        """What Python calls. The GIL is released."""
        returned, *taken = (C_TYPES[name] for name in self.signature)
        return CFUNCTYPE(returned, *taken)(self.address)


class Library:
    """The kernels of a level."""

    def __init__(self, level: Level, folder: Path = FOLDER) -> None:
        """Load them; raises ValueError, which says why, where they do not fit the manifest, the sources or the CPU."""
        path = folder / f"{level.name}.so"
        manifest = json.loads(path.with_suffix(".json").read_text())
        if manifest["sources"] != SOURCES:
            raise ValueError(f"{path} was made of other sources of the kernels")
        if hashlib.sha256(path.read_bytes()).hexdigest() != manifest["sha256"]:
            raise ValueError(f"{path} is not what its manifest says")
        if not levels.flags().issuperset(manifest["needs"]):
            raise ValueError(f"{path} needs features that this CPU does not have")
        self.level, self.path = level, path
        self._signatures: dict[str, list[str]] = manifest["kernels"]
        self._object = ctypes.CDLL(str(path))
        for name, address in FUNCTIONS.items():
            ctypes.c_void_p.in_dll(self._object, pointer_to(name)).value = address

    def find(self, symbol: str) -> Code | None:
        """A kernel, or None where it is none of these."""
        signature = self._signatures.get(symbol)
        if signature is None:
            return None
        address = ctypes.cast(getattr(self._object, symbol), ctypes.c_void_p).value or 0
        return Code(address, tuple(signature))


def pointer_to(name: str) -> str:
    """The variable of a shared object that holds the address of a function of system.py."""
    return f"{name}_at"


@functools.cache
def found() -> tuple[Library | None, str]:
    """The kernels that this process uses, or None; and why these, or none."""
    set_ones = [name for name in GOING_ROUND if os.environ.get(name)]
    if set_ones:
        return None, f"compiled here: {', '.join(set_ones)} is set"
    reasons: list[str] = []
    for level in levels.candidates():
        try:
            return Library(level), "the best that this CPU has" if not reasons else "; ".join(reasons)
        except FileNotFoundError:
            reasons.append(f"the package has none for {level.name}")
        except (ValueError, KeyError, OSError) as error:
            reasons.append(f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error))
            warnings.warn(f"shipped kernels are not used: {reasons[-1]}", RuntimeWarning, stacklevel=2)
    if os.environ.get(levels.VARIABLE) == levels.NONE:
        return None, f"compiled here: {levels.VARIABLE} is {levels.NONE}"
    return None, f"compiled here: {'; '.join(reasons) or 'there are none for this system'}"


def find(symbol: str) -> Code | None:
    """The kernel that came with the package, or None."""
    library = None if making() else found()[0]
    return None if library is None else library.find(symbol)


def making() -> Level | None:
    """The level that this process makes kernels for, to be shipped."""
    return levels.LEVELS.get(os.environ.get(MAKING, ""))


def stamp() -> str:
    """A hash of the kernels' sources, and the level that they are compiled for: how much code does at once."""
    level = level_in_force()
    return SOURCES + ("" if level is None else level.name.replace("-", "_"))


def level_in_force() -> Level | None:
    """The level whose kernels are used, or are being made; None where they are compiled for this very CPU."""
    library = None if making() else found()[0]
    return making() if library is None else library.level


def machine() -> str:
    """What kind of machine code is for, as platform.machine says."""
    level = level_in_force()
    return platform.machine() if level is None else level.machine
