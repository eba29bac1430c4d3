"""Numba and llvmlite, and what is written with them, imported when something is first compiled.

A program whose kernels came compiled with the package never imports them.
"""

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from kernels.process import forks
from kernels.process.apart import apart


def _imported(name: str) -> ModuleType:
    """The module, whose import takes a large stack and must not be interrupted where Numba comes with it."""
    if name in sys.modules:  # which may not be whole yet: this waits for it
        return importlib.import_module(name)
    return apart(lambda: importlib.import_module(name))


class Module:
    """A module that is imported when something of it is first asked for, in Python or in compiled code."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(_imported(self._name), attribute)

    @property
    def _numba_type_(self) -> Any:
        """What Numba takes it for: the module."""
        return types.Module(_imported(self._name))


class Intrinsic:
    """Numba's `intrinsic`, as a decorator that leaves Numba alone until compiled code calls the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    @forks.cached
    def _numba_type_(self) -> Any:
        template = Module("numba.core.typing.templates").make_intrinsic_template
        return types.Function(template(self, self.function, self.function.__name__))


def module(name: str) -> Any:
    """The module of that name, not imported yet."""
    return Module(name)


# It is called without the typing context, which mypy does not know
intrinsic: Callable[[Callable[..., Any]], Any] = Intrinsic
ir, llvm = module("llvmlite.ir"), module("llvmlite.binding")
types, cgutils = module("numba.core.types"), module("numba.core.cgutils")
