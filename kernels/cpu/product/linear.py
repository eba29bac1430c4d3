"""Matmul-bias-activation: forward, and below it backward; and both as lists of products that a team shares."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numba import types

from kernels.apart import apart
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.declaration import Address, Flag, Size, Stride
from kernels.cpu.ir import memory
from kernels.cpu.ir.simd import chosen, itemsize
from kernels.cpu.ir.transpose import transpose as turn_kernel
from kernels.cpu.product.gemm import PACK_ROWS, gemm
from kernels.cpu.rowwise.elementwise import Activation, ActivationBackward
from kernels.cpu.threads import workers as teams
from kernels.layout import address

# Multiply-adds below which a thread more brings nothing: see team.BRIEF
WORK_PER_THREAD = 1 << 19
# The largest product that one thread claims at once. 480 rows: 4 % slower at 1024 and 2048 cubed, as each packs its b
TILE_ROWS, TILE_COLUMNS = 1024, 512
# A product of more multiply-adds than LONG runs apart, in tiles of at most TILE_WORK: Ctrl-C waits for those begun
LONG, TILE_WORK, LEAST = 1 << 33, 1 << 31, 64
# dw (I, O) is made as its transpose, out of the same sums, where so its rows have fewer elements with those that fill
# their last vectors, and x is read along its rows: 64 x 10 in 1.0 us in place of 1.75, 400 x 25 in 16 in place of 26,
# 784 x 10 in 12 in place of 35 (128 rows of a batch; Intel Xeon with AVX-512). To turn it takes what 16 rows gain.
# Where the outputs fill one vector, reading x along its rows is enough: steps of 2048-15-10 take 0.81 of the time,
# 784-16-10 0.83, 400-16-10 0.89, 64-16-10 0.98.
TURNED_PERCENT, TURNED_ROWS = 110, 32


def better_turned(rows: int, inputs: int, outputs: int, lanes: int) -> bool:
    """Whether dw of so many rows is better made as its transpose."""
    plain, turned = inputs * ((outputs + lanes - 1) // lanes), outputs * ((inputs + lanes - 1) // lanes)
    return rows >= TURNED_ROWS and 100 * plain >= (100 if outputs <= lanes else TURNED_PERCENT) * turned


_better_turned = jit.plain(better_turned)


@jit.kernel
def linear(real: Any) -> Any:
    """y (m, n) = f(x (m, k) @ w (k, n) + b), overwritten, on the calling thread; row strides in bytes.

    b: address 0 for none. fused: 1 for ReLU. f: the address of another activation's kernel, 0 for none. pre: where x @
    w + b goes as well, address 0 for nowhere. lanes_exist: as for gemm.
    """
    product, activation = gemm(real), calls.by_address(Activation, real)
    size = itemsize(real)
    none, zero = real(float("-inf")), real(0.0)

    def function(
        m: Size, n: Size, k: Size, x: Address, ldx: Stride, w: Address, ldw: Stride, b: Address, fused: Flag,
        f: Address, pre: Address, ldpre: Stride, y: Address, ldy: Stride, lanes_exist: Flag,
    ) -> None:  # fmt: skip
        z, ldz = (pre, ldpre) if pre != 0 else (y, ldy)
        product(m, n, k, x, ldx, size, w, ldw, z, ldz, b, 0, zero if fused else none, 0, lanes_exist)
        if f != 0:
            activation(f, m, n, z, ldz, y, ldy)

    return function


@jit.kernel
def linear_backward(real: Any) -> Any:
    """dz = dy * f'(.), dx = dz @ w.T, dw = x.T @ dz, db = the sum of dz's rows; overwritten, on the calling thread.

    dy, dz (m, n), x, dx (m, k), w, dw (k, n), db (n,); row strides in bytes. f: the address of the activation's
    backward kernel, with `saved` as it wants it; or address 0 for the identity, when dz is not used.
    """
    backward, product, turn = calls.by_address(ActivationBackward, real), gemm(real), turn_kernel(real)
    size = itemsize(real)
    lanes = chosen().lanes(size)
    none, elements = real(float("-inf")), memory.pointer(real)

    def function(
        m: Size, n: Size, k: Size, dy: Address, lddy: Stride, saved: Address, lds: Stride, f: Address, x: Address,
        ldx: Stride, w: Address, ldw: Stride, dz: Address, lddz: Stride, dx: Address, lddx: Stride, dw: Address,
        lddw: Stride, db: Address,
    ) -> None:  # fmt: skip
        if f == 0:
            dz, lddz = dy, lddy
        else:
            backward(f, m, n, dy, lddy, saved, lds, dz, lddz)
        product(m, k, n, dz, lddz, size, w, ldw, dx, lddx, 0, 0, none, 1, 0)
        turned = memory.allocate(n * k * size) if _better_turned(m, k, n, lanes) else 0
        if turned != 0:
            product(n, k, m, dz, size, lddz, x, ldx, turned, k * size, 0, 0, none, 0, 0)
            turn(n, k, turned, k * size, dw, lddw)
            memory.free(turned)
        else:
            product(k, n, m, x, size, ldx, dz, lddz, dw, lddw, 0, 0, none, 0, 0)
        one = memory.stack(8)
        elements(one)[0] = real(1.0)
        product(1, n, m, one, 0, 0, dz, lddz, db, 0, 0, 0, none, 0, 0)

    return function


# A task: a product as gemm takes it, with ReLU or not in place of the floor, then the address of an activation's
# kernel or 0, and where its result goes
TASK = 17
NEXT, TASKS, FIRST_TASK = 0, 8, 16  # a job: the shared counter on a cache line of its own, how many tasks, they


@jit.kernel(like=teams.Work)
def products(real: Any) -> Any:
    """A list of tasks, claimed one by one by whoever runs this with the same job."""
    product, activation = gemm(real), calls.by_address(Activation, real)
    integers = memory.pointer(types.int64)
    none, zero = real(float("-inf")), real(0.0)

    def function(address):
        while True:
            n = memory.fetch_add(address + NEXT * 8, 1)
            if n >= integers(address)[TASKS]:
                break
            t = integers(address + (FIRST_TASK + n * TASK) * 8)
            product(
                t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11], zero if t[12] != 0 else none,
                t[13], 0,
            )  # fmt: skip
            if t[14] != 0:
                activation(t[14], t[0], t[1], t[8], t[9], t[15], t[16])

    return function


def tile_grid(m: int, n: int, threads: int, itemsize: int) -> tuple[int, int, int]:
    """(tiles down, tiles across, columns of one) of an (m, n) product.

    By columns first, so that each packs its own b; and so wide that each reads long rows of it, where none packs.
    """
    nr = chosen().nv * chosen().lanes(itemsize)
    columns = min(TILE_COLUMNS if m >= PACK_ROWS else n, max(nr, -(-n // threads // nr) * nr))
    across = -(-n // columns)
    down = max(-(-m // TILE_ROWS), 1 if across >= threads else min(-(-threads // across), -(-m // PACK_ROWS)))
    return down, across, columns


def tiles(m: int, n: int, k: int, threads: int, itemsize: int) -> list[tuple[int, int, int, int]]:
    """(i, rows, j, columns) of the tiles of an (m, n) product with sums over k; none where that is empty."""
    if m == 0 or n == 0:
        return []
    down, _, columns = tile_grid(m, n, threads, itemsize)
    if m * n * k > LONG:
        columns = min(columns, max(LEAST, TILE_WORK // (k * -(-m // down)) // LEAST * LEAST))
        down = max(down, -(-m // max(LEAST, TILE_WORK // (k * columns))))
    edges = [m * i // down for i in range(down + 1)]
    return [(i0, i1 - i0, j, min(columns, n - j)) for i0, i1 in pairwise(edges) for j in range(0, n, columns)]


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


def threads_for(multiply_adds: int) -> int:
    """How many threads a product of so many multiply-adds uses."""
    threads = max(1, min(teams.default_threads(), multiply_adds // WORK_PER_THREAD))
    return threads if threads == 1 or teams.team.worth(multiply_adds) else 1
