"""Lists of products that a team shares."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import types

from kernels.apart import apart
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.product.gemm import gemm
from kernels.cpu.product.tiles import LONG
from kernels.cpu.rowwise.elementwise import FORWARD
from kernels.cpu.threads import workers as teams
from kernels.layout import address

# A task: a product as gemm takes it, with ReLU or not in place of the floor, then the address of an activation's
# kernel or 0, and where its result goes
TASK = 17
NEXT, TASKS, FIRST_TASK = 0, 8, 16  # a job: the shared counter on a cache line of its own, how many tasks, they


@jit.kernel("v i")
def products(real: Any) -> Any:
    """A list of tasks, claimed one by one by whoever runs this with the same job."""
    product, activation = gemm(real), jit.caller_of_address(FORWARD, real)
    integers = memory.pointer(types.int64)
    none, zero = real(float("-inf")), real(0.0)

    def function(job):
        while True:
            n = memory.fetch_add(job + NEXT * 8, 1)
            if n >= integers(job)[TASKS]:
                break
            t = integers(job + (FIRST_TASK + n * TASK) * 8)
            product(
                t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], zero if t[12] != 0 else none,
                t[13], 0,
            )  # fmt: skip
            if t[14] != 0:
                activation(t[14], t[0], t[1], t[8], t[9], t[15], t[16])

    return function


def run(dtype: np.dtype, tasks: Sequence[tuple[int, ...]], threads: int, multiply_adds: int) -> None:
    """Do the tasks, of so many multiply-adds in all, on up to so many threads."""
    job = np.empty(FIRST_TASK + TASK * len(tasks), np.int64)
    job[NEXT], job[TASKS] = 0, len(tasks)
    job[FIRST_TASK:].reshape(-1, TASK)[...] = tasks
    kernel, at = products[dtype], address(job)

    def stop() -> None:
        job[NEXT] = len(tasks)

    if multiply_adds <= LONG:
        teams.team.run(kernel, at, threads)
    else:
        apart(lambda: teams.team.run(kernel, at, threads), stop)
