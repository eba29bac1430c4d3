"""The product of gemm.py with factors that become bfloat16 numbers as they are packed; its sums stay float32.

Either each factor is rounded to one such number, or it is split into the three that add up to it, see bf16.py.
"""

from typing import Any

import numpy as np
from numba import types

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.ir.simd import calling, chosen, itemsize
from kernels.cpu.product.bf16 import (
    DEPTH,
    LINES,
    ROW,
    STEP,
    STRIP,
    SUMS_ROW,
    amx_block,
    configuration,
    dot_block,
    finished_block,
    finite_block,
    release_tiles,
    tile_writer,
    unit,
)
from kernels.cpu.product.gemm import Product, gemm


def product_for(precision: str, dtype: Any, inputs: int, outputs: int, rows: int) -> jit.Family:
    """The product for a layer on `rows` rows, of a batch or of all that go forward."""
    weights, narrowest = inputs * outputs, min(inputs, outputs)
    if precision == "bf16" and weights >= tuning.LEAST_ROUNDED and narrowest >= tuning.NARROWEST_ROUNDED:
        return gemm_amx if unit() == "amx" else gemm_dot
    padded = -(-inputs // STRIP) * -(-outputs // STRIP) * STRIP * STRIP
    pays = narrowest >= tuning.NARROWEST_SPLIT and 100 * padded <= tuning.PADDED_PERCENT * weights
    split = pays and weights * rows >= tuning.LEAST_SPLIT
    if precision == "float32" and dtype == np.float32 and split and unit() == "amx":
        return gemm_split
    return gemm


@jit.kernel(like=Product)
def gemm_amx(real: Any) -> Any:
    """The same as `gemm`, of rounded factors, by AMX."""
    return _product(real, amx_block(1), tiles=True)


@jit.kernel(like=Product)
def gemm_dot(real: Any) -> Any:
    """The same as `gemm`, of rounded factors, by AVX-512's dot products of bfloat16 pairs."""
    return _product(real, dot_block, tiles=False)


@jit.kernel(like=Product)
def gemm_split(real: Any) -> Any:
    """The same as `gemm`, of factors in three parts, by AMX."""
    return _product(real, amx_block(3), tiles=True, parts=3)


# How many products of bfloat16 numbers each product takes
PRODUCTS = {gemm_amx: 1, gemm_dot: 1, gemm_split: 6}


def _packer(real: Any, parts: int, transpose_along: bool) -> Any:
    """What makes a tile of an operand whose rows are along k or across it, and which is transposed in one case."""
    along, along_part = (tile_writer(real, True, transpose_along, masked, parts) for masked in (False, True))
    across, across_part = (tile_writer(real, False, not transpose_along, masked, parts) for masked in (False, True))

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
    elements, integers = memory.pointer(real), memory.pointer(types.int64)
    in_float32, configure = gemm(real), configuration()
    block, finite, finish = (
        calling(write_block, real, 4),
        calling(finite_block, real, 2),
        calling(finished_block, real, 7, 1),
    )
    none, zero, kc, mc = real(float("-inf")), real(0.0), tuning.BF16_KC, tuning.BF16_MC

    # a's tiles have its rows, b's its pairs of steps
    pack_a = _packer(real, parts, transpose_along=False)
    pack_b = _packer(real, parts, transpose_along=True)

    @jit.inline
    def replace_nonfinite(rows, columns, depth, a, rsa, csa, b, ldb, transposed, sums, others):
        """Replace the sums that are not finite by those of whole numbers: the parts of an infinity add up to NaN."""
        in_float32(rows, columns, depth, a, rsa, csa, b, ldb, others, SUMS_ROW, 0, 0, none, transposed, 0)
        for i in range(rows):
            sum_row, other_row = elements(sums + i * SUMS_ROW), elements(others + i * SUMS_ROW)
            for j in range(columns):
                if sum_row[j] - sum_row[j] != zero:
                    sum_row[j] = other_row[j]

    def function(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, lanes_exist):
        if lanes_exist:
            n = (n + lanes - 1) // lanes * lanes
        along_k = csa == size
        a_step, b_line, b_step = csa, ldb if transposed else size, size if transposed else ldb
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
        packed = panel + most * step_bytes
        if tiles:
            configure(sums)
        init_step = size
        if init == 0:
            init_step, init, ldi = 0, zeros, 0
            for j in range(STRIP):
                elements(zeros)[j] = zero
        for p0 in range(0, k, kc):  # 4th loop around the product of a block: KC columns of a, rows of b
            depth = min(kc, k - p0)
            steps = (depth + DEPTH - 1) // DEPTH
            for i0 in range(0, m, mc):  # 3rd loop: MC rows of a and c, packed
                rows = min(mc, m - i0)
                for i in range(0, (rows + STRIP - 1) // STRIP * STRIP, LINES):
                    at = packed + i // STRIP * steps * step_bytes + i % STRIP * ROW
                    source = a + (i0 + i) * rsa + p0 * a_step
                    for s in range(steps):
                        pack_a(
                            rows - i, depth - s * DEPTH, source + s * DEPTH * a_step, rsa if along_k else csa, along_k,
                            at + s * step_bytes,
                        )  # fmt: skip
                for j in range(0, n, STRIP):  # 2nd loop: a strip of b's and c's columns, packed
                    b_at = b + p0 * b_step + j * b_line
                    for half in range(0, STRIP, LINES):
                        for s in range(steps):
                            pack_b(
                                n - j - half, depth - s * DEPTH, b_at + half * b_line + s * DEPTH * b_step, ldb,
                                transposed, panel + s * step_bytes + half * ROW,
                            )  # fmt: skip
                    columns = min(STRIP, n - j)
                    for i in range(0, rows, STRIP):  # 1st loop: a strip of a's and c's rows
                        height = min(STRIP, rows - i)
                        block(steps, packed + i // STRIP * steps * step_bytes, panel, sums)
                        if parts > 1:
                            finite(sums, answer)
                            if integers(answer)[0] == 0:
                                a_at = a + (i0 + i) * rsa + p0 * a_step
                                replace_nonfinite(
                                    height, columns, depth, a_at, rsa, csa, b_at, ldb, transposed, sums, others
                                )
                        c_at = c + (i0 + i) * ldc + j * size
                        start, start_row = c_at, ldc
                        if p0 == 0:
                            start, start_row = init + (i0 + i) * ldi + j * init_step, ldi
                        finish(
                            height, columns, sums, c_at, ldc, start, start_row, floor if p0 + depth == k else none
                        )  # fmt: skip
        if tiles:
            release_tiles()
        memory.free(heap)

    return function
