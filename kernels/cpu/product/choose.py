"""Which way `gemm` makes a product: the algorithm, the sizes of its blocks, what is packed.

MR x NR is the register block, KC the depth of one pass along k, NC the columns of b and MC the rows of a that are
packed at once (Van Zee & van de Geijn 2015, BLIS).
"""

from typing import Any, NamedTuple

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.ir.instruction_sets import WIDEST, chosen, itemsize

# The algorithms, see gemm.py
ONE_ROW, IN_PLACE, PACKED = range(3)


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
    isa, size = chosen(), itemsize(real)
    return tuning.KC * (tuning.NC_BYTES // size + isa.nv * isa.lanes(size)) * size


def least_bytes(real: Any) -> int:
    """Bytes of the panel of b for which the stack has room."""
    return tuning.KC_ON_STACK * chosen().nv * chosen().register_bytes


def chooser(real: Any) -> Any:
    """A function for use inside kernels: choose(m, n, k, rsa, csa, ldb, transposed), as for `gemm`; a ProductPlan."""
    isa, size = chosen(), itemsize(real)
    lanes, mr = isa.lanes(size), isa.mr
    nr, nc = isa.nv * lanes, tuning.NC_BYTES // size
    low, vectors_of_low = isa.low
    low_columns, one_row_columns = vectors_of_low * lanes, WIDEST * lanes
    panel_bytes = tuning.KC_FEW_ROWS * nr * size + 64
    packed_bytes = block_bytes(real) + (tuning.KC * tuning.MC_STRIPS * mr + nr) * size + 64

    @jit.plain
    def choose(m, n, k, rsa, csa, ldb, transposed):
        pack_a, pack_b = _a_is_scattered(n, rsa, csa, size, nr), True
        if not transposed:
            streamed, in_l1 = k * ldb > tuning.STREAMED_BYTES, k * ldb <= tuning.L1_BYTES
            if m == 1 and csa == size and streamed:
                return ProductPlan(ONE_ROW, 1, n, tuning.KC_ONE_ROW, n, False, False, 0)
            if not pack_a and (m <= low or (low > 2 and in_l1 and _fits_low_blocks(n, nr, lanes, vectors_of_low))):
                columns, depth = one_row_columns if m == 1 else low_columns, tuning.KC_STREAMED if streamed else k
                return ProductPlan(IN_PLACE, low, columns, depth, n, False, False, 0)
            pack_b = m >= (tuning.PACK_ROWS_IN_L1 if in_l1 else tuning.PACK_ROWS)
        if m > tuning.FEW_ROWS or pack_a:
            return ProductPlan(PACKED, mr, nr, tuning.KC, nc, pack_a, pack_b, packed_bytes)
        depth = tuning.KC_FEW_ROWS
        if not pack_b:
            return ProductPlan(IN_PLACE, mr, nr, depth, nr, False, False, 0)
        return ProductPlan(PACKED, mr, nr, depth, nr, False, True, panel_bytes if k > tuning.KC_ON_STACK else 0)

    return choose


@jit.plain
def _a_is_scattered(n, rsa, csa, size, nr):
    """Whether a, in place, would not stay in L1."""
    return rsa % tuning.PAGE_BYTES == 0 and n > 2 * nr if csa == size else csa >= tuning.FAR_COLUMNS_BYTES


@jit.plain
def _fits_low_blocks(n, nr, lanes, vectors_of_low):
    """Whether low blocks have enough sums: one of a last vector alone has not."""
    return n > nr and (n + lanes - 1) // lanes % vectors_of_low != 1


@jit.plain
def without_workspace(plan):
    """The plan where there is no memory: panels for which the stack has room."""
    return ProductPlan(PACKED, plan.mr, plan.nr, tuning.KC_ON_STACK, plan.nr, False, plan.pack_b, 0)
