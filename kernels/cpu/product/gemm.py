"""The loops around the micro-kernel: x @ w, x.T @ dz and dz @ w.T are one product with other strides.

Names as in the literature (Van Zee & van de Geijn 2015, BLIS): the micro-kernel computes MR x NR, KC is the depth of
one pass over k, NC the columns of B that are packed at once.
"""

from typing import Any, Protocol

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Flag, Real, Size, Stride
from kernels.cpu.ir import memory, simd
from kernels.cpu.ir.masked_rows import rows_added
from kernels.cpu.product import micro_kernel

# B is packed by blocks of KC x NC, panel by panel (NR columns each), and A read in strips of MR rows. A block streams
# from L2 past the registers: 800 KiB, for which the 1 or 2 MiB of new cores have room. MR x KC elements of A, 19 KiB,
# stay in L1 over all its panels, and c is visited along its rows, which the hardware prefetches: 86 % of the FMA peak
# at 1024 cubed and 88 % at 2048, where one panel at a time, in L1 under a block of A in L2, had waited for c and for
# the rows of B (78 and 72 %; float32, one core of an Intel Xeon with AVX-512 and 2 MiB of L2). KC 512 is as fast, 256
# costs 2 %; NC 256 costs 4 %; prefetching b or c in the micro-kernel brought 0 to 2 %.
KC = 400
NC_BYTES = 2048
# Few rows take one panel at a time: A and c stay in L2 meanwhile. 89 % against 83 % at 192 x 784 x 256, 85 against 84
# at 384 cubed; 77 against 86 at 1000 cubed. Shallower, so that the panel, 32 KiB, stays in L1.
FEW_ROWS = 384
KC_FEW_ROWS = 256
KC_LEAST = 64  # of a panel on the stack, 8 KiB: a thread may have 32 KiB in all. Deeper ones are allocated
# A panel is packed when enough rows of A will use it: 64 x 1000 x 1000 reaches 69 % of the peak packed and 62 % in
# place, and weights that another core has just written come sooner by a copy. It takes more rows where b is in L1
# anyway: 64 cubed 82 % packed and 87 % in place.
PACK_ROWS, PACK_ROWS_IN_L1 = 48, 96
L1 = 32 * 1024
# A b from beyond L2 for few rows is read along so many of its rows at once, as the hardware prefetches: 1, 4 and 6 rows
# by 2048 x 2048 take 0.79, 0.85 and 0.79 of the time (8 and 32 rows at once are alike).
STREAMED, KC_STREAMED = 1 << 20, 16
# For one row of a, by so many of its rows at once and from end to end: 1 x 2048 by 2048 x 2048 takes 0.67 of the time,
# from memory 0.42 (8 at once 0.73 and 0.49, 4 at once 0.76 and 0.68; AMD Zen 4), but 4 rows of a 1.3.
AT_ONCE = 16
# A is packed, so many blocks of MR rows at a time, where it would not stay in L1: rows that lie a multiple of the page
# apart fall into the same cache sets, and columns this many bytes apart are on a page each (packing them costs 15 % at
# 64 cubed, reading them in place 20 % at 1000).
GROUP = 8
PAGE = 4096
FAR_COLUMNS = 1024


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
    isa = simd.chosen()
    size, lanes = simd.itemsize(real), isa.lanes(simd.itemsize(real))
    mr, nr = isa.mr, isa.nv * lanes
    product = micro_kernel.block_product(real)
    pack = simd.copy_panel(real)
    transpose, part = simd.transpose_square(real), simd.transpose_part(real)
    elements = memory.pointer(real)
    none = real(float("-inf"))
    low, vectors_of_low = isa.low
    one_row = simd.WIDEST * lanes
    row_bytes, panel_bytes, least_bytes = one_row * size, KC_FEW_ROWS * nr * size + 64, KC_LEAST * nr * size
    block_bytes = KC * (NC_BYTES // size + nr) * size
    add_rows, add_row = rows_added(real, AT_ONCE), rows_added(real, 1)
    scratch_bytes = block_bytes + (KC * GROUP * mr + nr) * size + 64

    @jit.inline
    def pack_transposed(k, n, b, ldb, panel):
        """panel (k, NR) = b.T of b (n, k); the last vector repeats the last column."""
        for j in range(0, n, lanes):
            for p in range(0, k, lanes):
                source, target = b + j * ldb + p * size, panel + (p * nr + j) * size
                if j + lanes <= n and p + lanes <= k:
                    transpose(source, ldb, target, nr * size)
                else:
                    part(min(lanes, n - j), min(lanes, k - p), source, ldb, target, nr * size, lanes)

    @jit.inline
    def pack_rows(height, left, k, a, rsa, csa, target):
        """target (k, height) = a (height, k).T; `left` rows of a exist. Writes up to a vector past the end."""
        if csa != size:
            pack(k, height, a, csa, target, height * size)
            return
        strips, done = (height + lanes - 1) // lanes, 0
        if left >= strips * lanes:
            done = k // lanes * lanes
            for p in range(0, done, lanes):
                # what a square writes past a row's end, the strip before it or the next square overwrites
                for strip in range(strips - 1, -1, -1):
                    i = strip * lanes
                    transpose(a + i * rsa + p * size, rsa, target + (p * height + i) * size, height * size)
        for p in range(done, k):
            to = elements(target + p * height * size)
            for i in range(height):
                to[i] = elements(a + p * size + i * rsa)[0]

    @jit.inline
    def pack_block(k, n, b, ldb, transposed, block):
        """block: the panels (k, NR) of b (k, n), one after the other."""
        for j in range(0, n, nr):
            columns, panel = min(nr, n - j), block + j * k * size
            if transposed:
                pack_transposed(k, columns, b + j * ldb, ldb, panel)
            else:
                pack(k, columns, b + j * size, ldb, panel, nr * size)

    @jit.inline
    def one_row_by_many(n, k, a, b, ldb, c, init, floor):
        """As the function below, for one row and a b from beyond L2."""
        for j in range(n):
            elements(c)[j] = elements(init)[j] if init != 0 else real(0.0)
        whole = k // AT_ONCE * AT_ONCE
        for p in range(0, whole, AT_ONCE):
            add_rows(n, a + p * size, b + p * ldb, ldb, c, floor if p + AT_ONCE == k else none)
        for p in range(whole, k):
            add_row(n, a + p * size, b + p * ldb, ldb, c, floor if p + 1 == k else none)

    @jit.inline
    def without_terms(m, n, c, ldc, init, ldi, floor):
        """The sums of no terms."""
        for i in range(m):
            for j in range(n):
                start = elements(init + i * ldi)[j] if init != 0 else real(0.0)
                elements(c + i * ldc)[j] = floor if floor > start else start

    def function(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, lanes_exist):
        if m == 0 or n == 0 or k == 0:  # what follows has one block of one row at least
            without_terms(m, n, c, ldc, init, ldi, floor)
            return
        if lanes_exist:
            n = (n + lanes - 1) // lanes * lanes
        if m == 1 and csa == size and k * ldb > STREAMED and not transposed:
            one_row_by_many(n, k, a, b, ldb, c, init, floor)
            return
        zeros, least = memory.stack(row_bytes), memory.stack(least_bytes)
        for j in range(one_row):
            elements(zeros)[j] = real(0.0)
        across = csa != size  # a's columns lie in memory as rows
        pack_a = csa >= FAR_COLUMNS if across else rsa % PAGE == 0 and n > 2 * nr
        in_l1, vectors = k * ldb <= L1 and not transposed, (n + lanes - 1) // lanes
        # blocks of a last vector alone would have too few sums
        suits_low = low > 2 and in_l1 and n > nr and vectors % vectors_of_low != 1
        lower = (m <= low or suits_low) and not pack_a and not transposed
        pack_b = transposed or (not lower and m >= (PACK_ROWS_IN_L1 if in_l1 else PACK_ROWS))
        few = (m <= FEW_ROWS or lower) and not pack_a
        scratch = (panel_bytes if pack_b and k > KC_LEAST else 0) if few else scratch_bytes
        heap = memory.allocate(scratch) if scratch != 0 else 0
        kc, nc, block, high, wide = KC, NC_BYTES // size, (heap + 63) // 64 * 64, mr, nr
        if few:
            kc, nc = KC_FEW_ROWS, nr
        if heap == 0:
            block = least
        if scratch != 0 and heap == 0:  # without the memory, what needs hardly any
            pack_a, kc, nc = False, KC_LEAST, nr
        if lower:
            kc, nc, high, wide = k, n, low, one_row if m == 1 else vectors_of_low * lanes
            if k * ldb > STREAMED:
                kc = KC_STREAMED
        group = block + block_bytes
        passes, deepest, blocks, height, taller = 1, k, 1, m, 0  # what small products need not divide for
        if k > kc:
            passes = (k + kc - 1) // kc
            deepest = (k + passes - 1) // passes
        if m > high:
            blocks = (m + high - 1) // high
            height, taller = m // blocks, m % blocks  # split evenly, so that no block is nearly empty
        for j0 in range(0, n, nc):
            width = min(nc, n - j0)
            for p0 in range(0, k, deepest):
                depth = min(deepest, k - p0)
                first, final = p0 == 0, p0 + depth == k
                panels, panel_step, ldp = b + p0 * ldb + j0 * size, nr * size, ldb
                if pack_b:
                    b0 = b + j0 * ldb + p0 * size if transposed else panels
                    pack_block(depth, width, b0, ldb, transposed, block)
                    panels, panel_step, ldp = block, depth * nr * size, nr * size
                i, a_at, step = 0, a + p0 * csa, csa if across else rsa
                for strip in range(blocks):
                    h = height + (strip < taller)
                    if not pack_a:
                        a_at = a + p0 * csa + i * rsa
                    elif strip % GROUP == 0:
                        at, row = group, i
                        for packed in range(strip, min(strip + GROUP, blocks)):
                            rows = height + (packed < taller)
                            pack_rows(rows, m - row, depth, a + p0 * csa + row * rsa, rsa, csa, at)
                            at, row = at + rows * depth * size, row + rows
                        a_at = group
                    for j in range(0, width, wide):
                        c_at = c + i * ldc + (j0 + j) * size
                        start, start_row = c_at, ldc
                        if first:
                            start, start_row = init + i * ldi + (j0 + j) * size, ldi
                            if init == 0:
                                start, start_row = zeros, 0
                        b_at = panels + (j // nr * panel_step if pack_b else j * size)
                        product(
                            h, min(wide, width - j), across or pack_a, depth, a_at, h * size if pack_a else step, b_at,
                            ldp, c_at, ldc, start, start_row, floor if final else none,
                        )  # fmt: skip
                    i += h
                    a_at += h * depth * size
        if heap != 0:
            memory.free(heap)

    return function
