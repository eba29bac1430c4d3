"""Lists of products that threads share, and what makes and runs them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numba import from_dtype, types
from numba.extending import intrinsic

from kernels.apart import apart
from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.product.gemm import gemm
from kernels.cpu.product.tiles import tiles
from kernels.cpu.rowwise.elementwise import FORWARD
from kernels.cpu.threads import workers as teams
from kernels.layout import address

NEXT, TASKS, FIRST_TASK = 0, 8, 16  # a job: the shared counter on a cache line of its own, how many tasks, they


class Matrix(NamedTuple):
    """A matrix in memory: its address, the bytes from row to row, and from column to column."""

    at: int
    row: int
    column: int

    @classmethod
    def of(cls, array: np.ndarray) -> "Matrix":
        return cls(address(array), array.strides[0], array.itemsize)

    def transpose(self) -> "Matrix":
        return Matrix(self.at, self.column, self.row)


class Task(NamedTuple):
    """c (m, n) = init + a (m, k) @ b (k, n), as `gemm` takes it, and then y = f(c)."""

    m: int
    n: int
    k: int
    a: int
    rsa: int
    csa: int
    b: int
    ldb: int
    c: int
    ldc: int
    init: int
    ldi: int
    relu: int  # 1 for a floor of 0, 0 for none
    transposed: int
    activation: int  # the address of f's kernel, 0 for none
    y: int
    ldy: int


def product_tasks(
    sizes: tuple[int, int, int], a: Matrix, b: Matrix, c: Matrix, threads: int, *, transposed: bool = False,
    bias: int = 0, relu: bool = False, activation: int = 0, y: Matrix | None = None,
) -> list[Task]:  # fmt: skip
    """The tiles of c (m, n) = a (m, k) @ b (k, n), sizes (m, n, k), and of y (m, n); the others as in a Task.

    transposed: b is (n, k). bias: the address of n elements, 0 for none.
    """
    m, n, k = sizes
    y = c if y is None else y
    column_of_b = b.row if transposed else b.column
    return [
        Task(
            rows, columns, k, a.at + i * a.row, a.row, a.column, b.at + j * column_of_b, b.row,
            c.at + i * c.row + j * c.column, c.row, bias and bias + j * c.column, 0, relu, transposed,
            activation, y.at + i * y.row + j * y.column, y.row,
        )
        for i, rows, j, columns in tiles(m, n, k, threads, c.column)
    ]  # fmt: skip


def column_sums(rows: int, columns: int, one: int, x: Matrix, sums: int) -> Task:
    """sums (columns,) of x (rows, columns), as a product with a row of ones, which are all the one at an address."""
    return Task(1, columns, rows, one, 0, 0, x.at, x.row, sums, 0, 0, 0, 0, 0, 0, sums, 0)


_RECORD = from_dtype(np.dtype([(name, np.int64) for name in Task._fields], align=True))


@intrinsic
def _task_at(typingctx: Any, at: Any) -> Any:
    """The task at an address, of which each field is read where it is used."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return _RECORD(types.int64), codegen


@jit.kernel("v i")
def products(real: Any) -> Any:
    """A list of tasks, claimed one by one by whoever runs this with the same job."""
    product, activation = gemm(real), jit.caller_of_address(FORWARD, real)
    integers, task_bytes = memory.pointer(types.int64), 8 * len(Task._fields)
    none, zero = real(float("-inf")), real(0.0)

    def function(job):
        while True:
            n = memory.fetch_add(job + NEXT * 8, 1)
            if n >= integers(job)[TASKS]:
                break
            t = _task_at(job + FIRST_TASK * 8 + n * task_bytes)
            product(
                t.m, t.n, t.k, t.a, t.rsa, t.csa, t.b, t.ldb, t.c, t.ldc, t.init, t.ldi, zero if t.relu != 0 else none,
                t.transposed, 0,
            )  # fmt: skip
            if t.activation != 0:
                activation(t.activation, t.m, t.n, t.c, t.ldc, t.y, t.ldy)

    return function


def run(dtype: np.dtype, tasks: Sequence[Task], threads: int, multiply_adds: int) -> None:
    """Do the tasks, of `multiply_adds` in all, on at most `threads` threads."""
    job: np.ndarray = np.empty(FIRST_TASK + len(Task._fields) * len(tasks), np.int64)
    job[NEXT], job[TASKS] = 0, len(tasks)
    job[FIRST_TASK:].reshape(-1, len(Task._fields))[...] = tasks
    kernel, at = products[dtype], address(job)

    def stop() -> None:
        job[NEXT] = len(tasks)

    if multiply_adds <= tuning.LONG_PRODUCT:
        teams.team.run(kernel, at, threads)
    else:
        apart(lambda: teams.team.run(kernel, at, threads), stop)
