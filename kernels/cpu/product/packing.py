"""Packing: b by panels of NR columns and a by strips of MR rows, as the micro-kernel reads them along k."""

from typing import Any

from kernels import deferred
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import chosen, itemsize

simd = deferred.module("kernels.cpu.ir.simd")


def panel_packer(real: Any) -> Any:
    """A function for use inside kernels: pack_panel(k, columns, b, ldb, transposed, panel)."""
    isa = chosen()
    size, lanes = itemsize(real), isa.lanes(itemsize(real))
    nr = isa.nv * lanes
    pack = simd.copy_panel(real)
    transpose, part = simd.transpose_square(real), simd.transpose_part(real)

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
    def pack_panel(k, columns, b, ldb, transposed, panel):
        """panel (k, NR) = b (k, columns), or b.T of b (columns, k)."""
        if transposed:
            pack_transposed(k, columns, b, ldb, panel)
        else:
            pack(k, columns, b, ldb, panel, nr * size)

    return pack_panel


def rows_packer(real: Any) -> Any:
    """A function for use inside kernels: pack_rows(height, left, k, a, rsa, csa, target)."""
    size, lanes = itemsize(real), chosen().lanes(itemsize(real))
    pack, transpose, elements = simd.copy_panel(real), simd.transpose_square(real), memory.pointer(real)

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

    return pack_rows
