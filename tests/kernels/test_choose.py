"""How a product is made: the plan that is chosen from its sizes and strides. Nothing is compiled."""

import itertools

import pytest
from numba import types

from kernels.cpu import tuning
from kernels.cpu.ir import instruction_sets
from kernels.cpu.product import choose
from kernels.cpu.product.choose import IN_PLACE, ONE_ROW, PACKED
from kernels.cpu.product.micro_kernel import blocks_of

SIZE = 4
LANES = instruction_sets.chosen().lanes(SIZE)


@pytest.fixture
def plan(monkeypatch):
    """plan(m, n, k) of rows that lie one after the other, as Python would choose it."""
    for name in ("_a_is_scattered", "_fits_low_blocks"):
        monkeypatch.setattr(choose, name, getattr(choose, name).function)
    function = choose.chooser(types.float32).function

    def of_sizes(m, n, k, *, a_columns=None, transposed=0, a_gap=0):
        rsa, csa = (SIZE * (k + a_gap), SIZE) if a_columns is None else (SIZE, a_columns)
        return function(m, n, k, rsa, csa, SIZE * (k if transposed else n), transposed)

    return of_sizes


def test_every_block_of_a_plan_has_a_micro_kernel(plan):
    blocks = set(blocks_of(instruction_sets.chosen()))
    sizes = 1, 2, 3, 7, 16, 33, 64, 200, 1000
    for m, n, k, transposed in itertools.product(sizes, sizes, sizes, (0, 1)):
        found = plan(m, n, k, transposed=transposed)
        if found.algorithm != ONE_ROW:
            rows, vectors = min(m, found.mr), -(-min(n, found.nr) // LANES)
            assert blocks >= set(itertools.product(range(1, rows + 1), range(1, vectors + 1))), (m, n, k, found)
            assert found.kc > 0
            assert found.nc >= min(n, found.nr)


def test_one_row_by_weights_from_beyond_l2(plan):
    k = tuning.STREAMED_BYTES // (SIZE * 100)
    assert plan(1, 100, k + 1).algorithm == ONE_ROW
    assert plan(1, 100, k).algorithm == IN_PLACE
    assert plan(1, 100, k + 1, transposed=1).algorithm == PACKED
    assert plan(1, 100, k + 1, a_columns=2 * SIZE).algorithm == IN_PLACE


def test_few_rows_read_weights_from_beyond_l2_some_at_a_time(plan):
    k = tuning.STREAMED_BYTES // (SIZE * 100) + 1
    assert plan(2, 100, k).kc == tuning.KC_STREAMED
    assert plan(2, 100, 50).kc == 50


def test_enough_rows_pack_b(plan, monkeypatch):
    n = k = 200  # beyond L1
    assert plan(tuning.PACK_ROWS - 1, n, k).algorithm == IN_PLACE
    assert plan(tuning.PACK_ROWS, n, k).pack_b
    monkeypatch.setattr(tuning, "PACK_ROWS", 7)
    assert plan(7, n, k).pack_b
    assert plan(3, n, k, transposed=1).pack_b


def test_few_rows_take_panels_and_many_blocks(plan):
    few, many = plan(tuning.FEW_ROWS, 1000, 1000), plan(tuning.FEW_ROWS + 1, 1000, 1000)
    assert (few.nc, few.kc) == (few.nr, tuning.KC_FEW_ROWS)
    assert (many.nc, many.kc) == (tuning.NC_BYTES // SIZE, tuning.KC)
    assert 0 < few.workspace < many.workspace
    assert plan(tuning.FEW_ROWS, 1000, tuning.KC_ON_STACK).workspace == 0


def test_what_would_not_stay_in_l1_is_packed(plan):
    page = tuning.PAGE_BYTES // SIZE
    assert plan(100, 1000, page).pack_a
    assert not plan(100, 1000, page, a_gap=1).pack_a
    assert plan(100, 50, 200, a_columns=tuning.FAR_COLUMNS_BYTES).pack_a
    assert not plan(100, 50, 200, a_columns=tuning.FAR_COLUMNS_BYTES - SIZE).pack_a
