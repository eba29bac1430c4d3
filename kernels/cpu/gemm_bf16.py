"""The product of gemm.py on factors that are rounded to bfloat16 as they are packed; its sums stay float32."""

from typing import Any

from numba import types

from . import jit, memory
from .bf16 import (
    DEPTH,
    LINES,
    ROW,
    STEP,
    STRIP,
    SUMS_ROW,
    amx_block,
    configure_tiles,
    dot_block,
    finished_block,
    release_tiles,
    tile_writer,
    unit,
)  # fmt: skip
from .gemm import SIGNATURE, gemm
from .simd import calling, chosen, itemsize

# A block of a, KC x MC, lies in L2 (512 KiB), under one strip of b at a time, KC x 32, in L1 (32 KiB).
KC = MC = 512
# Layers with fewer weights are multiplied in float32, which rounds nothing and packs less.
LEAST = 64 * 64


def product_for(precision: str, inputs: int, outputs: int) -> jit.Family:
    """The product for a layer, whatever its batch: a row's result does not depend on how many there are."""
    if precision == "float32" or inputs * outputs < LEAST:
        return gemm
    return gemm_amx if unit() == "amx" else gemm_dot


@jit.kernel(SIGNATURE)
def gemm_amx(real: Any) -> Any:
    """The same as `gemm`, of rounded factors, by AMX."""
    return _product(real, amx_block, tiles=True)


@jit.kernel(SIGNATURE)
def gemm_dot(real: Any) -> Any:
    """The same as `gemm`, of rounded factors, by AVX-512's dot products of bfloat16 pairs."""
    return _product(real, dot_block, tiles=False)


@jit.kernel("v 4i")
def peak_amx(real: Any) -> Any:
    """`rounds` products of one strip by one: (rounds, a, b, sums), PEAK_STEPS steps each, which stay in L1."""
    return _rounds(real, amx_block, tiles=True)


@jit.kernel("v 4i")
def peak_dot(real: Any) -> Any:
    """The same by AVX-512's dot products."""
    return _rounds(real, dot_block, tiles=False)


PEAK_STEPS = 8


def _rounds(real: Any, write_block: Any, tiles: bool) -> Any:
    block, configure = calling(write_block, real, 4), _configuration()

    def function(rounds, a, b, sums):
        if tiles:
            configure(sums)
        for _ in range(rounds):
            block(PEAK_STEPS, a, b, sums)
        if tiles:
            release_tiles()

    return function


def _configuration() -> Any:
    integers, octets = memory.pointer(types.int64), memory.pointer(types.uint8)

    @jit.inline
    def configure(at):
        """Palette 1; eight tiles of 64 bytes a row and 16 rows, as the manual lays that out in 64 bytes."""
        for n in range(8):
            integers(at)[n] = 0
        octets(at)[0] = 1
        for n in range(8):
            octets(at)[16 + 2 * n], octets(at)[48 + n] = ROW, LINES
        configure_tiles(at)

    return configure


def _product(real: Any, write_block: Any, tiles: bool) -> Any:
    size, lanes = itemsize(real), chosen().lanes(itemsize(real))
    elements, in_float32, configure = memory.pointer(real), gemm(real), _configuration()
    along, along_part = tile_writer(real, True, False, False), tile_writer(real, True, False, True)
    along_turned, along_turned_part = tile_writer(real, True, True, False), tile_writer(real, True, True, True)
    over, over_part = tile_writer(real, False, False, False), tile_writer(real, False, False, True)
    over_turned, over_turned_part = tile_writer(real, False, True, False), tile_writer(real, False, True, True)
    block, finish = calling(write_block, real, 4), calling(finished_block, real, 7, 1)
    none = real(float("-inf"))

    @jit.inline
    def pack_a(lines, depth, a, stride, across, target):
        """One tile of a: `lines` of its rows, `depth` steps along k."""
        full = lines >= LINES and depth >= DEPTH
        if across:
            if full:
                over_turned(LINES, DEPTH, a, stride, target)
            else:
                over_turned_part(lines, depth, a, stride, target)
        elif full:
            along(LINES, DEPTH, a, stride, target)
        else:
            along_part(lines, depth, a, stride, target)

    @jit.inline
    def pack_b(lines, depth, b, stride, transposed, target):
        """One tile of b: `lines` of its columns, `depth` steps along k."""
        full = lines >= LINES and depth >= DEPTH
        if transposed:
            if full:
                along_turned(LINES, DEPTH, b, stride, target)
            else:
                along_turned_part(lines, depth, b, stride, target)
        elif full:
            over(LINES, DEPTH, b, stride, target)
        else:
            over_part(lines, depth, b, stride, target)

    def function(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, lanes_exist):
        if lanes_exist:
            n = (n + lanes - 1) // lanes * lanes
        across = csa != size
        a_step, b_line, b_step = csa if across else size, ldb if transposed else size, size if transposed else ldb
        most = (min(k, KC) + DEPTH - 1) // DEPTH
        strips = (min(m, MC) + STRIP - 1) // STRIP
        heap = memory.allocate((strips + 1) * most * STEP + STRIP * SUMS_ROW + 3 * ROW)
        if heap == 0:  # no memory: what needs none
            in_float32(m, n, k, a, rsa, csa, b, ldb, c, ldc, init, ldi, floor, transposed, 0)
            return
        sums = (heap + ROW - 1) // ROW * ROW
        zeros, panel = sums + STRIP * SUMS_ROW, sums + STRIP * SUMS_ROW + 2 * ROW
        packed = panel + most * STEP
        if tiles:
            configure(sums)
        init_step = size
        if init == 0:
            init_step, init, ldi = 0, zeros, 0
            for j in range(STRIP):
                elements(zeros)[j] = real(0.0)
        for p0 in range(0, k, KC):
            depth = min(KC, k - p0)
            steps = (depth + DEPTH - 1) // DEPTH
            for i0 in range(0, m, MC):
                rows = min(MC, m - i0)
                for i in range(0, rows, LINES):
                    at = packed + i // STRIP * steps * STEP + i % STRIP * ROW
                    source = a + (i0 + i) * rsa + p0 * a_step
                    for s in range(steps):
                        pack_a(
                            rows - i, depth - s * DEPTH, source + s * DEPTH * a_step, csa if across else rsa, across,
                            at + s * STEP,
                        )  # fmt: skip
                for j in range(0, n, STRIP):
                    for half in range(0, min(STRIP, n - j), LINES):
                        source = b + p0 * b_step + (j + half) * b_line
                        for s in range(steps):
                            pack_b(
                                n - j - half, depth - s * DEPTH, source + s * DEPTH * b_step, ldb, transposed,
                                panel + s * STEP + half * ROW,
                            )  # fmt: skip
                    for i in range(0, rows, STRIP):
                        block(steps, packed + i // STRIP * steps * STEP, panel, sums)
                        c_at = c + (i0 + i) * ldc + j * size
                        start, start_row = c_at, ldc
                        if p0 == 0:
                            start, start_row = init + (i0 + i) * ldi + j * init_step, ldi
                        finish(
                            min(STRIP, rows - i), min(STRIP, n - j), sums, c_at, ldc, start, start_row,
                            floor if p0 + depth == k else none,
                        )  # fmt: skip
        if tiles:
            release_tiles()
        memory.free(heap)

    return function
