"""Lists of products that threads share, and what makes and runs them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kernels.cpu import tuning
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.records import record_of
from kernels.cpu.ir import memory
from kernels.cpu.product.gemm import gemm
from kernels.cpu.product.tiles import tiles
from kernels.cpu.rowwise.elementwise import Activation
from kernels.cpu.threads import workers
from kernels.deferred import types
from kernels.layout import address
from kernels.process.apart import apart

NEXT, TASKS, FIRST_TASK = 0, 8, 16  # a job: the shared counter on a cache line of its own, how many tasks, they


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
    sizes: tuple[int, int, int], a: np.ndarray, b: np.ndarray, c: np.ndarray, threads: int, *,
    a_transposed: bool = False, b_transposed: bool = False, bias: int = 0, relu: bool = False, activation: int = 0,
    y: np.ndarray | None = None,
) -> list[Task]:  # fmt: skip
    """The tiles of c (m, n) = a (m, k) @ b (k, n), sizes (m, n, k), and of y (m, n), which is c without one.

    a_transposed: a is (k, m); b_transposed: b is (n, k). bias: the address of n elements, 0 for none.
    """
    m, n, k = sizes
    size = c.itemsize
    a_at, rsa, csa, b_at, ldb = address(a), a.strides[0], size, address(b), b.strides[0]
    c_at, ldc = address(c), c.strides[0]
    if a_transposed:
        rsa, csa = csa, rsa
    y_at, ldy = (c_at, ldc) if y is None else (address(y), y.strides[0])
    column_of_b = ldb if b_transposed else size
    return [
        Task(
            rows, columns, k, a_at + i * rsa, rsa, csa, b_at + j * column_of_b, ldb, c_at + i * ldc + j * size, ldc,
            bias and bias + j * size, 0, relu, b_transposed, activation, y_at + i * ldy + j * size, ldy,
        )
        for i, rows, j, columns in tiles(m, n, k, threads, size)
    ]  # fmt: skip


_ONE = {np.dtype(name): np.ones(1, name) for name in ("float32", "float64")}


def column_sums(x: np.ndarray, sums: np.ndarray) -> Task:
    """sums (columns,) of x (rows, columns), as a product with a row of ones, which are all the same one."""
    (rows, columns), at = x.shape, address(sums)
    return Task(1, columns, rows, address(_ONE[x.dtype]), 0, 0, address(x), x.strides[0], at, 0, 0, 0, 0, 0, 0, at, 0)


_task_at = record_of(np.dtype([(name, np.int64) for name in Task._fields], align=True))


@jit.kernel(like=workers.Work)
def products(real: Any) -> Any:
    """A list of tasks, claimed one by one by whoever runs this with the same job."""
    product, activation = gemm(real), calls.by_address(Activation, real)
    integers, task_bytes = memory.pointer(types.int64), 8 * len(Task._fields)
    none, zero = real(float("-inf")), real(0.0)

    def function(address):
        while True:
            n = memory.fetch_add(address + NEXT * 8, 1)
            if n >= integers(address)[TASKS]:
                break
            t = _task_at(address + FIRST_TASK * 8 + n * task_bytes)
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
    # NumPy takes longer for a subclass of tuple
    job[FIRST_TASK:].reshape(-1, len(Task._fields))[...] = [*map(tuple, tasks)]
    kernel, at = products[dtype], address(job)

    def stop() -> None:
        job[NEXT] = len(tasks)

    if multiply_adds <= tuning.LONG_PRODUCT:
        workers.of_process.run(kernel, at, threads)
    else:
        apart(lambda: workers.of_process.run(kernel, at, threads), stop)
