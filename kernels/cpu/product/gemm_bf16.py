"""The product of gemm.py with factors that become bfloat16 numbers as they are packed; its sums stay float32.

Either each factor is rounded to one such number, or it is split into the three that add up to it, see bf16.py.
"""

from typing import Any, NamedTuple

import numpy as np

from kernels import deferred
from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import bf16_unit, chosen, itemsize
from kernels.cpu.product.bf16_tiles import DEPTH, LINES, ROW, STEP, STRIP, SUMS_ROW
from kernels.cpu.product.gemm import Product, gemm
from kernels.deferred import types

bf16, simd = deferred.module("kernels.cpu.product.bf16"), deferred.module("kernels.cpu.ir.simd")


class TiledProduct(NamedTuple):
    """What is to be made, as `gemm` takes it, and where its tiles are: of a's rows, `packed`, of a strip of b, `panel`.

    init has an element in the place of each of c's, `init_step` bytes from column to column. sums: of a block of c;
    others: room for another such block; answer: for a number.
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
    packed: int
    panel: int
    sums: int
    others: int
    answer: int


def product_for(precision: str, dtype: Any, inputs: int, outputs: int, rows: int) -> jit.Family:
    """The product for a layer on `rows` rows, of a batch or of all that go forward."""
    weights, narrowest = inputs * outputs, min(inputs, outputs)
    if precision == "bf16" and weights >= tuning.LEAST_ROUNDED and narrowest >= tuning.NARROWEST_ROUNDED:
        return gemm_amx if bf16_unit() == "amx" else gemm_dot
    padded = -(-inputs // STRIP) * -(-outputs // STRIP) * STRIP * STRIP
    pays = narrowest >= tuning.NARROWEST_SPLIT and 100 * padded <= tuning.PADDED_PERCENT * weights
    split = pays and weights * rows >= tuning.LEAST_SPLIT
    if precision == "float32" and dtype == np.float32 and split and bf16_unit() == "amx":
        return gemm_split
    return gemm


@jit.kernel(like=Product)
def gemm_amx(real: Any) -> Any:
    """The same as `gemm`, of rounded factors, by AMX."""
    return _product(real, bf16.amx_block(1), tiles=True)


@jit.kernel(like=Product)
def gemm_dot(real: Any) -> Any:
    """The same as `gemm`, of rounded factors, by AVX-512's dot products of bfloat16 pairs."""
    return _product(real, bf16.dot_block, tiles=False)


@jit.kernel(like=Product)
def gemm_split(real: Any) -> Any:
    """The same as `gemm`, of factors in three parts, by AMX."""
    return _product(real, bf16.amx_block(3), tiles=True, parts=3)


# How many products of bfloat16 numbers each product takes
PRODUCTS = {gemm_amx: 1, gemm_dot: 1, gemm_split: 6}
# Those that a unit makes, see bf16_unit
OF_UNIT = {"amx": (gemm_amx, gemm_split), "avx512": (gemm_dot,), "": ()}


def _packer(real: Any, parts: int, transpose_along: bool) -> Any:
    """What makes a tile of an operand whose rows are along k or across it, and which is transposed in one case."""
    along, along_part = (bf16.tile_writer(real, True, transpose_along, masked, parts) for masked in (False, True))
    across, across_part = (
        bf16.tile_writer(real, False, not transpose_along, masked, parts) for masked in (False, True)
    )

    @jit.inline
    def pack(lines, depth, source, stride, along_k, target):
        """Make a tile of `lines` rows of a or columns of b and `depth` steps along k, of either as many as it has."""
        full = lines >= LINES and depth >= DEPTH
        if along_k and full:
            along(LINES, DEPTH, source, stride, target)
        elif along_k:
            along_part(max(lines, 0), depth, source, stride, target)
        elif full:
            across(LINES, DEPTH, source, stride, target)
        else:
            across_part(max(lines, 0), depth, source, stride, target)

    return pack


def _product(real: Any, write_block: Any, tiles: bool, parts: int = 1) -> Any:
    size, lanes, step_bytes = itemsize(real), chosen().lanes(itemsize(real)), parts * STEP
    elements, in_float32, configure = memory.pointer(real), gemm(real), bf16.configuration()
    zero, kc, mc = real(0.0), tuning.BF16_KC, tuning.BF16_MC
    packed = _packed(real, write_block, parts)

    def function(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, lanes_exist):
        if lanes_exist:
            n = (n + lanes - 1) // lanes * lanes
        most = (min(k, kc) + DEPTH - 1) // DEPTH
        strips = (min(m, mc) + STRIP - 1) // STRIP
        heap = memory.allocate((strips + 1) * most * step_bytes + 2 * STRIP * SUMS_ROW + 4 * ROW)
        if heap == 0:  # no memory: what needs none
            in_float32(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, 0)
            return
        sums = (heap + ROW - 1) // ROW * ROW
        others = sums + STRIP * SUMS_ROW
        zeros, answer = others + STRIP * SUMS_ROW, others + STRIP * SUMS_ROW + 2 * ROW
        panel = answer + ROW
        init_step = size
        if init == 0:
            init_step, init, ldi = 0, zeros, 0
            for j in range(STRIP):
                elements(zeros)[j] = zero
        if tiles:
            configure(sums)
        packed(
            TiledProduct(
                m, n, k, a, rsa, csa, b, ldb, transposed, c, ldc, init, ldi, init_step, floor,
                panel + most * step_bytes, panel, sums, others, answer,
            )
        )  # fmt: skip
        if tiles:
            bf16.release_tiles()
        memory.free(heap)

    return function


def _packed(real: Any, write_block: Any, parts: int) -> Any:
    """a by blocks of MC rows and b by strips of columns, KC deep, both packed into tiles."""
    step_bytes, kc, mc = parts * STEP, tuning.BF16_KC, tuning.BF16_MC
    pack_rows, pack_strip = _rows_packer(real, parts), _strip_packer(real, parts)
    block_of_c = _block_of_c(real, write_block, parts)

    @jit.inline
    def packed(p):
        for p0 in range(0, p.k, kc):  # 4th loop around the product of a block: KC columns of a, rows of b
            depth = min(kc, p.k - p0)
            for i0 in range(0, p.m, mc):  # 3rd loop: MC rows of a and c, packed
                rows = min(mc, p.m - i0)
                pack_rows(p, p0, depth, i0, rows)
                for j in range(0, p.n, STRIP):  # 2nd loop: a strip of b's and c's columns, packed
                    pack_strip(p, p0, depth, j)
                    strip_bytes, a_at = (depth + DEPTH - 1) // DEPTH * step_bytes, p.packed
                    for i in range(0, rows, STRIP):  # 1st loop: a strip of a's and c's rows
                        block_of_c(p, p0, depth, i0 + i, min(STRIP, rows - i), j, a_at)
                        a_at += strip_bytes

    return packed


def _rows_packer(real: Any, parts: int) -> Any:
    """A function: the tiles of `rows` rows of a from i0 on, `depth` steps along k from p0 on."""
    size, step_bytes = itemsize(real), parts * STEP
    pack = _packer(real, parts, transpose_along=False)  # a's tiles have its rows

    @jit.inline
    def pack_rows(p, p0, depth, i0, rows):
        along_k, steps = p.csa == size, (depth + DEPTH - 1) // DEPTH
        stride = p.rsa if along_k else p.csa
        for i in range(0, (rows + STRIP - 1) // STRIP * STRIP, LINES):
            at = p.packed + i // STRIP * steps * step_bytes + i % STRIP * ROW
            source = p.a + (i0 + i) * p.rsa + p0 * p.csa
            for s in range(steps):
                pack(
                    rows - i, depth - s * DEPTH, source + s * DEPTH * p.csa, stride, along_k, at + s * step_bytes
                )  # fmt: skip

    return pack_rows


def _strip_packer(real: Any, parts: int) -> Any:
    """A function: the tiles of a strip of b's columns from j on, `depth` steps along k from p0 on."""
    size, step_bytes = itemsize(real), parts * STEP
    pack = _packer(real, parts, transpose_along=True)  # b's tiles have its pairs of steps

    @jit.inline
    def pack_strip(p, p0, depth, j):
        line, step = (p.ldb, size) if p.transposed else (size, p.ldb)
        for half in range(0, STRIP, LINES):
            source, at = p.b + p0 * step + (j + half) * line, p.panel + half * ROW
            for s in range((depth + DEPTH - 1) // DEPTH):
                pack(
                    p.n - j - half, depth - s * DEPTH, source + s * DEPTH * step, p.ldb, p.transposed,
                    at + s * step_bytes,
                )  # fmt: skip

    return pack_strip


def _block_of_c(real: Any, write_block: Any, parts: int) -> Any:
    """A function: c from row i and column j on, out of the tiles of a at a_at and those of b."""
    size, elements, integers = itemsize(real), memory.pointer(real), memory.pointer(types.int64)
    block, finite = simd.calling(write_block, real, 4), simd.calling(bf16.finite_block, real, 2)
    finish, in_float32 = simd.calling(bf16.finished_block, real, 7, 1), gemm(real)
    none, zero = real(float("-inf")), real(0.0)

    @jit.inline
    def replace_nonfinite(p, p0, depth, i, height, j, width):
        """Replace the sums that are not finite by those of whole numbers: the parts of an infinity add up to NaN."""
        a_at, b_at = (
            p.a + i * p.rsa + p0 * p.csa,
            p.b + (p0 * size + j * p.ldb if p.transposed else p0 * p.ldb + j * size),
        )
        in_float32(
            height, width, depth, a_at, p.rsa, p.csa, b_at, p.ldb, p.others, SUMS_ROW, 0, 0, none, p.transposed, 0
        )
        for r in range(height):
            sum_row, other_row = elements(p.sums + r * SUMS_ROW), elements(p.others + r * SUMS_ROW)
            for column in range(width):
                if sum_row[column] - sum_row[column] != zero:
                    sum_row[column] = other_row[column]

    @jit.inline
    def block_of_c(p, p0, depth, i, height, j, a_at):
        width = min(STRIP, p.n - j)
        block((depth + DEPTH - 1) // DEPTH, a_at, p.panel, p.sums)
        if parts > 1:
            finite(p.sums, p.answer)
            if integers(p.answer)[0] == 0:
                replace_nonfinite(p, p0, depth, i, height, j, width)
        c_at = p.c + i * p.ldc + j * size
        start, start_row = c_at, p.ldc
        if p0 == 0:
            start, start_row = p.init + i * p.ldi + j * p.init_step, p.ldi
        finish(height, width, p.sums, c_at, p.ldc, start, start_row, p.floor if p0 + depth == p.k else none)

    return block_of_c
