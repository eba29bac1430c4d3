"""The product of gemm.py with factors that become bfloat16 numbers as they are packed; its sums stay float32.

Either each factor is rounded to one such number, or it is split into the three that add up to it, see bf16.py.
"""

from typing import Any

import numpy as np
from numba import types

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

# A block of a, MC x KC, lies in L2, 512 KiB or in three parts 1.5 MiB, under one strip of b at a time, KC x 32. Time of
# 1024-2048-2048-1024-10 on one thread of an Intel Xeon, against these: rounded KC 1024 1.06, 2048 1.14, and MC 256 1.2;
# split KC 256 1.0, MC 256 1.05.
KC = MC = 512
# Layers with fewer weights are multiplied as float32 numbers, which packs less. In epochs of SGD on one layer and a
# small one, time against float32's on 1 and 2 threads of an Intel Xeon: split 784 x 256 with 128 rows 0.90 and 1.01,
# with 1024 0.85 and 0.88; 512 x 512 with 32 rows 1.05 and 1.03, with 128 0.88 and 0.94, with 1024 0.78 and 0.84;
# 256 x 256 with 256 0.92 and 1.02; 30-128-128-10 with 2048 0.82 and 0.92. Rounded, on one thread, 64 x 64 with 16 rows
# 1.08, with 512 0.70; 400 x 25 with 64 0.70.
LEAST_ROUNDED, LEAST_SPLIT = 1 << 12, 1 << 25  # weights; weights times rows
# Nor do narrow layers pay, of which a strip is mostly padding, nor those with much of it: rounded 4096 x 1 1.25; split
# 784 x 64 with 2048 rows 1.08 and 1.10, 2048 x 8 1.80 and 1.68, 129 x 130 1.21; but 1024 x 129, of which 124 % are
# multiplied, 0.78 to 0.96, and 161 and 193 columns as well.
NARROWEST_ROUNDED, NARROWEST_SPLIT, PADDED_PERCENT = 8, 128, 125


def product_for(precision: str, dtype: Any, inputs: int, outputs: int, rows: int) -> jit.Family:
    """The product for a layer on so many rows, of a batch or of all that go forward."""
    weights, narrowest = inputs * outputs, min(inputs, outputs)
    if precision == "bf16" and weights >= LEAST_ROUNDED and narrowest >= NARROWEST_ROUNDED:
        return gemm_amx if unit() == "amx" else gemm_dot
    padded = -(-inputs // STRIP) * -(-outputs // STRIP) * STRIP * STRIP
    pays = narrowest >= NARROWEST_SPLIT and 100 * padded <= PADDED_PERCENT * weights
    split = pays and weights * rows >= LEAST_SPLIT
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


def _packer(real: Any, parts: int, turn_along: bool) -> Any:
    """What makes a tile of an operand that lies along k or across it, and is turned in one of these cases."""
    along, along_part = (tile_writer(real, True, turn_along, masked, parts) for masked in (False, True))
    across, across_part = (tile_writer(real, False, not turn_along, masked, parts) for masked in (False, True))

    @jit.inline
    def pack(lines, depth, source, stride, along_k, target):
        """`lines` rows of a or columns of b, at most LINES of which count, and so `depth` steps along k."""
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
    none, zero = real(float("-inf")), real(0.0)

    # a's tiles have its rows, b's its pairs of steps
    pack_a = _packer(real, parts, turn_along=False)
    pack_b = _packer(real, parts, turn_along=True)

    @jit.inline
    def mend(rows, columns, depth, a, rsa, csa, b, ldb, transposed, sums, others):
        """Where sums are not finite, those of the numbers themselves: infinity's parts, say, add up to NaN."""
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
        most = (min(k, KC) + DEPTH - 1) // DEPTH
        strips = (min(m, MC) + STRIP - 1) // STRIP
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
        for p0 in range(0, k, KC):
            depth = min(KC, k - p0)
            steps = (depth + DEPTH - 1) // DEPTH
            for i0 in range(0, m, MC):
                rows = min(MC, m - i0)
                for i in range(0, (rows + STRIP - 1) // STRIP * STRIP, LINES):
                    at = packed + i // STRIP * steps * step_bytes + i % STRIP * ROW
                    source = a + (i0 + i) * rsa + p0 * a_step
                    for s in range(steps):
                        pack_a(
                            rows - i, depth - s * DEPTH, source + s * DEPTH * a_step, rsa if along_k else csa, along_k,
                            at + s * step_bytes,
                        )  # fmt: skip
                for j in range(0, n, STRIP):
                    b_at = b + p0 * b_step + j * b_line
                    for half in range(0, STRIP, LINES):
                        for s in range(steps):
                            pack_b(
                                n - j - half, depth - s * DEPTH, b_at + half * b_line + s * DEPTH * b_step, ldb,
                                transposed, panel + s * step_bytes + half * ROW,
                            )  # fmt: skip
                    columns = min(STRIP, n - j)
                    for i in range(0, rows, STRIP):
                        height = min(STRIP, rows - i)
                        block(steps, packed + i // STRIP * steps * step_bytes, panel, sums)
                        if parts > 1:
                            finite(sums, answer)
                            if integers(answer)[0] == 0:
                                a_at = a + (i0 + i) * rsa + p0 * a_step
                                mend(height, columns, depth, a_at, rsa, csa, b_at, ldb, transposed, sums, others)
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
