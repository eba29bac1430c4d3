"""Which way `gemm` makes a product: the algorithm, the sizes of its blocks, what is packed.

MR x NR is the register block, KC the depth of one pass along k, NC the columns of b and MC the rows of a that are
packed at once (Van Zee & van de Geijn 2015, BLIS).
"""

from typing import Any, NamedTuple

from kernels.cpu.compiler import jit
from kernels.cpu.ir import simd

# The algorithms, see gemm.py
ONE_ROW, IN_PLACE, PACKED = range(3)

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


class ProductPlan(NamedTuple):
    """How a product is made. mr, nr, kc and nc are the most that a block has, in elements."""

    algorithm: int
    mr: int
    nr: int
    kc: int
    nc: int
    pack_a: bool
    pack_b: bool
    workspace: int  # bytes to be allocated


def block_bytes(real: Any) -> int:
    """Bytes of a packed block of b, KC x NC, and of a panel past its end."""
    isa, size = simd.chosen(), simd.itemsize(real)
    return KC * (NC_BYTES // size + isa.nv * isa.lanes(size)) * size


def least_bytes(real: Any) -> int:
    """Bytes of the panel of b for which the stack has room."""
    return KC_LEAST * simd.chosen().nv * simd.chosen().register_bytes


def chooser(real: Any) -> Any:
    """A function for use inside kernels: choose(m, n, k, rsa, csa, ldb, transposed), as for `gemm`; a ProductPlan."""
    isa, size = simd.chosen(), simd.itemsize(real)
    lanes, mr = isa.lanes(size), isa.mr
    nr, nc = isa.nv * lanes, NC_BYTES // size
    low, vectors_of_low = isa.low
    low_columns, one_row_columns = vectors_of_low * lanes, simd.WIDEST * lanes
    panel_bytes = KC_FEW_ROWS * nr * size + 64
    packed_bytes = block_bytes(real) + (KC * GROUP * mr + nr) * size + 64

    @jit.inline
    def choose(m, n, k, rsa, csa, ldb, transposed):
        a_along_k = csa == size
        streamed, in_l1 = k * ldb > STREAMED and not transposed, k * ldb <= L1 and not transposed
        if m == 1 and a_along_k and streamed:
            return ProductPlan(ONE_ROW, 1, n, AT_ONCE, n, False, False, 0)
        pack_a = rsa % PAGE == 0 and n > 2 * nr if a_along_k else csa >= FAR_COLUMNS
        # blocks of a last vector alone would have too few sums
        suits_low_blocks = low > 2 and in_l1 and n > nr and (n + lanes - 1) // lanes % vectors_of_low != 1
        if (m <= low or suits_low_blocks) and not pack_a and not transposed:
            columns, depth = one_row_columns if m == 1 else low_columns, KC_STREAMED if streamed else k
            return ProductPlan(IN_PLACE, low, columns, depth, n, False, False, 0)
        pack_b = transposed != 0 or m >= (PACK_ROWS_IN_L1 if in_l1 else PACK_ROWS)
        if m > FEW_ROWS or pack_a:
            return ProductPlan(PACKED, mr, nr, KC, nc, pack_a, pack_b, packed_bytes)
        if not pack_b:
            return ProductPlan(IN_PLACE, mr, nr, KC_FEW_ROWS, nr, False, False, 0)
        return ProductPlan(PACKED, mr, nr, KC_FEW_ROWS, nr, False, True, panel_bytes if k > KC_LEAST else 0)

    return choose


@jit.inline
def without_workspace(plan):
    """The plan where there is no memory: panels for which the stack has room."""
    return ProductPlan(PACKED, plan.mr, plan.nr, KC_LEAST, plan.nr, False, plan.pack_b, 0)
