"""The tiles of a product that threads share."""

from itertools import pairwise

from kernels.cpu import tuning
from kernels.cpu.ir.instruction_sets import chosen


def tile_grid(m: int, n: int, threads: int, itemsize: int) -> tuple[int, int, int]:
    """(tiles down, tiles across, columns of one) of an (m, n) product.

    By columns first, so that each packs its own b; and so wide that each reads long rows of it, where none packs.
    """
    nr = chosen().nv * chosen().lanes(itemsize)
    columns = min(tuning.TILE_COLUMNS if m >= tuning.PACK_ROWS else n, max(nr, -(-n // threads // nr) * nr))
    across = -(-n // columns)
    down = max(
        -(-m // tuning.TILE_ROWS), 1 if across >= threads else min(-(-threads // across), -(-m // tuning.PACK_ROWS))
    )
    return down, across, columns


def tiles(m: int, n: int, k: int, threads: int, itemsize: int) -> list[tuple[int, int, int, int]]:
    """(i, rows, j, columns) of the tiles of an (m, n) product with sums over k; none where that is empty."""
    if m == 0 or n == 0:
        return []
    down, _, columns = tile_grid(m, n, threads, itemsize)
    if m * n * k > tuning.LONG_PRODUCT:
        most, edge = tuning.TILE_MULTIPLY_ADDS, tuning.TILE_EDGE
        columns = min(columns, max(edge, most // (k * -(-m // down)) // edge * edge))
        down = max(down, -(-m // max(edge, most // (k * columns))))
    edges = [m * i // down for i in range(down + 1)]
    return [(i0, i1 - i0, j, min(columns, n - j)) for i0, i1 in pairwise(edges) for j in range(0, n, columns)]
