"""The loops around the micro-kernel: x @ w, x.T @ dz and dz @ w.T are one product with other strides.

Names as in the literature (Van Zee & van de Geijn 2015, BLIS): the micro-kernel computes MR x NR, KC is the depth of
one pass over k, MC the rows that share a packed panel of B.
"""

from typing import Any

from . import jit, memory, simd

# KC x NR elements of B are packed at once: 256 x 32 x 4 bytes = 32 KiB, so that the panel stays in L1 beside the
# streams of A. MC x KC elements of A: 240 KiB (float64: 480), in L2. Both lie on the stack.
KC = 256
MC = 240
# A panel is packed when at least this many rows of A will use it (copying costs about one row's arithmetic).
PACK_ROWS = 48
# A block of A is packed when at least this many columns of B will use it, or when its rows are columns in memory, or
# would map onto the same cache sets. A packed block saves the address arithmetic, 5 % of the loop on Intel (Sapphire
# Rapids and later); the transposing costs 4 % at 256 columns.
PACK_COLUMNS = 1 << 40


@jit.kernel("v 12i r 2i")
def gemm(real: Any) -> Any:
    """c (m, n) = max(init + a (m, k) @ b (k, n), floor), overwritten; strides in bytes.

    a: rows `rsa` apart, steps along k `csa` apart, one of them one element (so x.T is x with the two exchanged), or m
    1. b: rows `ldb` apart, unit stride along n; or, with `transposed`, b.T is in memory: rows of n, `ldb` apart, unit
    stride along k. c: rows `ldc` apart. init: rows `ldi` apart: a bias with ldi 0, or c itself; address 0 for zeros.
    `lanes_exist`: b, c and init may be read and written up to a whole vector past column n, so n is rounded up.
    """
    isa = simd.chosen()
    size, lanes = simd.itemsize(real), isa.lanes(simd.itemsize(real))
    mr, nr = isa.mr, isa.nv * lanes
    product = simd.block_product(real)
    pack = simd.copy_panel(real)
    transpose = simd.transpose_square(real)
    elements = memory.pointer(real)
    none = real(float("-inf"))
    panel_bytes = KC * nr * size
    row_bytes = nr * size
    block_bytes = (MC * KC + isa.nv * lanes) * size

    @jit.inline
    def pack_transposed(k, n, b, ldb, panel):
        """panel (k, NR) = b.T of b (n, k), padded with zeros."""
        for j in range(0, nr, lanes):
            for p in range(0, k, lanes):
                if j + lanes <= n and p + lanes <= k:
                    transpose(b + j * ldb + p * size, ldb, panel + (p * nr + j) * size, nr * size)
                else:
                    for jj in range(j, j + lanes):
                        for pp in range(p, min(p + lanes, k)):
                            target = elements(panel + (pp * nr + jj) * size)
                            if jj < n:
                                target[0] = elements(b + jj * ldb + pp * size)[0]
                            else:
                                target[0] = real(0.0)

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

    def function(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, lanes_exist):
        panel, slab, zeros = memory.stack(panel_bytes), memory.stack(block_bytes), memory.stack(row_bytes)
        for j in range(nr):
            elements(zeros)[j] = real(0.0)
        if lanes_exist:
            n = (n + lanes - 1) // lanes * lanes
        pack_b = transposed or m >= PACK_ROWS
        pack_a = csa != size or n >= PACK_COLUMNS or (n > 2 * nr and rsa % 1024 == 0)
        for i0 in range(0, m, MC):
            rows = min(MC, m - i0)
            blocks = (rows + mr - 1) // mr
            height, taller = rows // blocks, rows % blocks  # split evenly, so that no block is nearly empty
            for p0 in range(0, k, KC):
                depth = min(KC, k - p0)
                first, final = p0 == 0, p0 + depth == k
                a0 = a + i0 * rsa + p0 * csa
                if pack_a:
                    i = 0
                    for block in range(blocks):
                        h = height + (block < taller)
                        pack_rows(h, m - i0 - i, depth, a0 + i * rsa, rsa, csa, slab + i * depth * size)
                        i += h
                for j0 in range(0, n, nr):
                    columns = min(nr, n - j0)
                    b_at, b_stride = b + p0 * ldb + j0 * size, ldb
                    if pack_b:
                        if transposed:
                            pack_transposed(depth, columns, b + j0 * ldb + p0 * size, ldb, panel)
                        else:
                            pack(depth, columns, b_at, ldb, panel, nr * size)
                        b_at, b_stride = panel, nr * size
                    i = 0
                    for block in range(blocks):
                        h = height + (block < taller)
                        a_at = slab + i * depth * size if pack_a else a0 + i * rsa
                        c_at = c + (i0 + i) * ldc + j0 * size
                        start, start_row = c_at, ldc
                        if first:
                            start, start_row = init + (i0 + i) * ldi + j0 * size, ldi
                            if init == 0:
                                start, start_row = zeros, 0
                        product(
                            h, columns, pack_a, depth, a_at, rsa, b_at, b_stride, c_at, ldc, start, start_row,
                            floor if final else none,
                        )  # fmt: skip
                        i += h

    return function
