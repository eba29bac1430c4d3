"""Tiles of bfloat16 numbers, and strips of them.

A tile holds 16 rows of a, or 16 columns of b, along 32 steps of k, rounded to bfloat16 (to nearest, ties to even):
16 x 16 pairs of steps i and i + 16, 4 bytes each. In a's tiles a row of 64 bytes is one of a's, in b's it is one pair:
so AMX multiplies them (TDPBF16PS in the Intel 64 and IA-32 Architectures Software Developer's Manual), and so AVX-512's
VDPBF16PS reads them too. Two tiles that lie one after the other, 32 rows or columns, are a step of a strip.
"""

LINES, DEPTH = 16, 32  # of a tile
ROW = 64  # bytes
TILE = LINES * ROW
STRIP = 2 * LINES  # rows, or columns, of a block's product
STEP = 2 * TILE  # bytes of one step of a strip
SUMS_ROW = 4 * STRIP  # bytes from one row of a block's sums to the next
