"""The tiles of a product that threads share."""

from itertools import pairwise

from kernels.cpu.ir.simd import chosen
from kernels.cpu.product.choose import PACK_ROWS

# The largest product that one thread claims at once. 480 rows: 4 % slower at 1024 and 2048 cubed, as each packs its b
TILE_ROWS, TILE_COLUMNS = 1024, 512
# A product of more multiply-adds than LONG runs apart, in tiles of at most TILE_WORK: Ctrl-C waits for those begun
LONG, TILE_WORK, LEAST = 1 << 33, 1 << 31, 64


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
