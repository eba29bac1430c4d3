"""The loops around the micro-kernel: x @ w, x.T @ dz and dz @ w.T are one product with other strides.

Names and numbers of the loops as in the literature (Van Zee & van de Geijn 2015, BLIS; Huang & van de Geijn 2016,
BLISlab); choose.py says how far they go. The 1st and the 2nd are exchanged: a strip of a, MR x KC, stays in L1 over all
panels of a block of b, which streams from L2, and c is visited along its rows, which the hardware prefetches.
"""

from typing import Any, NamedTuple, Protocol

from kernels import deferred
from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Flag, Real, Size, Stride
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import WIDEST, chosen, itemsize
from kernels.cpu.product.choose import (
    IN_PLACE,
    ONE_ROW,
    block_bytes,
    chooser,
    least_bytes,
    without_workspace,
)
from kernels.cpu.product.packing import panel_packer, rows_packer

masked_rows = deferred.module("kernels.cpu.ir.masked_rows")
micro_kernel = deferred.module("kernels.cpu.product.micro_kernel")


class BlockedProduct(NamedTuple):
    """What is to be made, as `gemm` takes it, and in what parts.

    init has an element in the place of each of c's, `init_step` bytes from column to column. kernels: the address of
    the micro-kernels. depth: of one pass along k. strips: of c's rows, `height` each, the first `taller` one more.
    """

    m: int
    n: int
    k: int
    a: int
    rsa: int
    csa: int
    b: int
    ldb: int
    transposed: int
    c: int
    ldc: int
    init: int
    ldi: int
    init_step: int
    floor: float
    kernels: int
    depth: int
    strips: int
    height: int
    taller: int


class Product(Protocol):
    """c (m, n) = max(init + a (m, k) @ b (k, n), floor), overwritten; strides in bytes.

    a: rows `rsa` apart, steps along k `csa` apart, one of them one element (so x.T is x with the two exchanged), or m
    1. b: rows `ldb` apart, unit stride along n; or, with `transposed`, b.T is in memory: rows of n, `ldb` apart, unit
    stride along k. c: rows `ldc` apart. init: rows `ldi` apart: a bias with ldi 0, or c itself; address 0 for zeros.
    `lanes_exist`: b, c and init may be read and written up to a whole vector past column n, so n is rounded up;
    not with `transposed`. Each size may be 0; with k 0, c = max(init, floor).
    """

    def __call__(
        self, m: Size, n: Size, k: Size, a: Address, rsa: Stride, csa: Stride, b: Address, ldb: Stride, c: Address,
        ldc: Stride, init: Address, ldi: Stride, floor: Real, transposed: Flag, lanes_exist: Flag,
    ) -> None: ...  # fmt: skip


@jit.kernel(like=Product)
def gemm(real: Any) -> Any:
    """The product of numbers as they are."""
    size, lanes = itemsize(real), chosen().lanes(itemsize(real))
    columns, panel_bytes = WIDEST * lanes, least_bytes(real)
    zeros_bytes = columns * size
    kernels, elements, choose = micro_kernel.all_blocks(real), memory.pointer(real), chooser(real)
    no_terms, one_row, in_place, packed = _no_terms(real), _one_row(real), _in_place(real), _packed(real)

    def function(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, lanes_exist):
        if m == 0 or n == 0 or k == 0:  # what follows has one block of one row at least
            no_terms(m, n, c, ldc, init, ldi, floor)
            return
        if lanes_exist:
            n = (n + lanes - 1) // lanes * lanes
        plan = choose(m, n, k, rsa, csa, ldb, transposed)
        if plan.algorithm == ONE_ROW:
            one_row(n, k, a, b, ldb, c, init, floor)
            return
        workspace, heap = memory.stack(panel_bytes), 0
        if plan.workspace != 0:
            heap = memory.allocate(plan.workspace)
            if heap != 0:
                workspace = (heap + 63) // 64 * 64
            else:
                plan = without_workspace(plan)
        zeros, init_step = memory.stack(zeros_bytes), size
        if init == 0:
            init, ldi, init_step = zeros, 0, 0
            for j in range(columns):
                elements(zeros)[j] = real(0.0)
        product = BlockedProduct(
            m, n, k, a, rsa, csa, b, ldb, transposed, c, ldc, init, ldi, init_step, floor, kernels(),
            _pass_depth(k, plan.kc), *_even_parts(m, plan.mr),
        )  # fmt: skip
        if plan.algorithm == IN_PLACE:
            in_place(product, plan)
        else:
            packed(product, plan, workspace)
        if heap != 0:
            memory.free(heap)

    return function


def _packed(real: Any) -> Any:
    """b by packed panels, of which a block, KC x NC, stays in L2, or one alone in L1; a in place, or packed as well."""
    isa, size = chosen(), itemsize(real)
    nr, a_offset, group = isa.nv * isa.lanes(size), block_bytes(real), tuning.MC_STRIPS
    block_of_c, pack_panel, pack_rows = _block_of_c(real), panel_packer(real), rows_packer(real)

    @jit.inline
    def packed(p, plan, workspace):
        a_along_k, j0 = p.csa == size, 0
        while j0 < p.n:  # 5th loop around the micro-kernel: NC columns of b and c
            width, p0 = min(plan.nc, p.n - j0), 0
            while p0 < p.k:  # 4th loop: KC columns of a, rows of b
                depth, i = min(p.depth, p.k - p0), 0
                b_at, ldp, panel = p.b + p0 * p.ldb + j0 * size, p.ldb, nr * size
                if plan.pack_b:
                    source, step = (p.b + j0 * p.ldb + p0 * size, p.ldb) if p.transposed != 0 else (b_at, size)
                    b_at, ldp, panel = workspace, nr * size, depth * nr * size
                    for j in range(0, width, nr):
                        target = b_at + j * depth * size
                        pack_panel(depth, min(nr, width - j), source + j * step, p.ldb, p.transposed, target)
                for first in range(0, p.strips, group):  # 3rd loop: MC = MC_STRIPS * MR rows of a and c
                    last, at, row = min(first + group, p.strips), workspace + a_offset, i
                    for strip in range(first, last if plan.pack_a else first):
                        rows = p.height + (strip < p.taller)
                        pack_rows(rows, p.m - row, depth, p.a + p0 * p.csa + row * p.rsa, p.rsa, p.csa, at)
                        at, row = at + rows * depth * size, row + rows
                    at = workspace + a_offset
                    for strip in range(first, last):  # 2nd loop: MR rows of a and c
                        rows = p.height + (strip < p.taller)
                        a_at, lda = p.a + p0 * p.csa + i * p.rsa, p.rsa if a_along_k else p.csa
                        if plan.pack_a:
                            a_at, lda = at, rows * size
                        panel_at = b_at
                        for j in range(0, width, nr):  # 1st loop: NR columns of b and c
                            block_of_c(
                                p, i, j0 + j, rows, min(nr, width - j), p0, depth, plan.pack_a or not a_along_k,
                                a_at, lda, panel_at, ldp,
                            )  # fmt: skip
                            panel_at += panel
                        i += rows
                        at += rows * depth * size
                p0 += depth
            j0 += width

    return packed


def _in_place(real: Any) -> Any:
    """Few rows, or a b in L1: nothing is packed."""
    size = itemsize(real)
    block_of_c = _block_of_c(real)

    @jit.inline
    def in_place(p, plan):
        a_along_k, j0 = p.csa == size, 0
        lda = p.rsa if a_along_k else p.csa
        while j0 < p.n:  # 5th loop around the micro-kernel: NC columns of b and c
            end, p0 = min(p.n, j0 + plan.nc), 0
            while p0 < p.k:  # 4th loop: KC columns of a, rows of b
                depth, i = min(p.depth, p.k - p0), 0
                for strip in range(p.strips):  # 2nd loop: MR rows of a and c; the 3rd has all of them
                    rows, j = p.height + (strip < p.taller), j0
                    while j < end:  # 1st loop: NR columns of b and c
                        block_of_c(
                            p, i, j, rows, min(plan.nr, end - j), p0, depth, not a_along_k,
                            p.a + p0 * p.csa + i * p.rsa, lda, p.b + p0 * p.ldb + j * size, p.ldb,
                        )  # fmt: skip
                        j += plan.nr
                    i += rows
                p0 += depth
            j0 = end

    return in_place


def _one_row(real: Any) -> Any:
    """One row by a b from beyond L2, of which KC rows are read at once, from end to end."""
    size, elements, none, kc = itemsize(real), memory.pointer(real), real(float("-inf")), tuning.KC_ONE_ROW
    add_rows, add_row = masked_rows.rows_added(real, kc), masked_rows.rows_added(real, 1)

    @jit.inline
    def one_row(n, k, a, b, ldb, c, init, floor):
        for j in range(n):
            elements(c)[j] = elements(init)[j] if init != 0 else real(0.0)
        whole = k // kc * kc
        for p in range(0, whole, kc):
            add_rows(n, a + p * size, b + p * ldb, ldb, c, floor if p + kc == k else none)
        for p in range(whole, k):
            add_row(n, a + p * size, b + p * ldb, ldb, c, floor if p + 1 == k else none)

    return one_row


def _no_terms(real: Any) -> Any:
    """The sums of no terms."""
    elements = memory.pointer(real)

    @jit.inline
    def no_terms(m, n, c, ldc, init, ldi, floor):
        for i in range(m):
            for j in range(n):
                start = elements(init + i * ldi)[j] if init != 0 else real(0.0)
                elements(c + i * ldc)[j] = floor if floor > start else start

    return no_terms


def _block_of_c(real: Any) -> Any:
    """The micro-kernel on the block of c at (i, j), for `depth` steps along k from p0 on.

    It begins with init in the first pass along k and with c itself in later ones, and ends with the floor in the last.
    packed: whether a has a unit stride along its rows, and lda is its stride along k.
    """
    size, none = itemsize(real), real(float("-inf"))
    multiply = micro_kernel.block_product(real)

    @jit.inline
    def block_of_c(p, i, j, rows, columns, p0, depth, packed, a, lda, b, ldb):
        c = p.c + i * p.ldc + j * size
        start, start_row = c, p.ldc
        if p0 == 0:
            start, start_row = p.init + i * p.ldi + j * p.init_step, p.ldi
        floor = p.floor if p0 + depth == p.k else none
        multiply(p.kernels, rows, columns, packed, depth, a, lda, b, ldb, c, p.ldc, start, start_row, floor)

    return block_of_c


@jit.plain
def _pass_depth(k, kc):
    """The depth of passes along k: at most kc, and all alike but the last."""
    if k <= kc:  # what small products need not divide for
        return k
    passes = (k + kc - 1) // kc
    return (k + passes - 1) // passes


@jit.plain
def _even_parts(n, most):
    """(parts, size, larger): n as parts of `most` or less, the first `larger` one more than `size`."""
    if n <= most:
        return 1, n, 0
    parts = (n + most - 1) // most
    return parts, n // parts, n % parts
