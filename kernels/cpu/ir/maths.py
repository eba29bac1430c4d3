"""The scalar maths of the CPU's kernels."""

import functools
from typing import Any

from kernels.cpu.compiler import jit
from kernels.cpu.ir import floats
from kernels.maths.functions import Maths, functions


@functools.cache
def maths_of(real: Any) -> Maths:
    """The maths of a dtype, for all kernels: each function and rule is compiled once in a process."""
    return functions(real, jit.plain, floats.bits(real))
