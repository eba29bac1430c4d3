"""Orders of more rows than NumPy shuffles at once: every one is as likely as any other."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

import fastnn
from fastnn.training import row_order
from kernels.engine.codes import ROW_NUMBER


def shuffled(n, seed=0):
    order = row_order.numbered(n)
    row_order.shuffle(np.random.default_rng(seed), order)
    return order


@pytest.mark.parametrize("n", [1, 7, 8, 9, 16, 1000])
def test_every_row_is_there_once(n, monkeypatch):
    monkeypatch.setattr(row_order, "AT_ONCE", 8)
    order = shuffled(n)
    assert order.dtype == ROW_NUMBER
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    assert n < 7 or not np.array_equal(order, np.arange(n))
    np.testing.assert_array_equal(order, shuffled(n))


def test_few_rows_are_shuffled_as_by_numpy():
    np.testing.assert_array_equal(shuffled(1000, seed=3), np.random.default_rng(3).permutation(1000))


def test_all_orders_are_as_likely(monkeypatch):
    """Chi-squared of the orders of four rows, each of which would be seen 500 times: 23 degrees of freedom."""
    monkeypatch.setattr(row_order, "AT_ONCE", 2)
    random, orders = np.random.default_rng(5), Counter()
    each, n = 500, 4
    for _ in range(each * math.factorial(n)):
        order = np.arange(n)
        row_order.shuffle(random, order)
        orders[tuple(order)] += 1
    assert set(orders) == set(itertools.permutations(range(n)))
    chi_squared = sum((count - each) ** 2 / each for count in orders.values())
    assert 7.5 < chi_squared < 53.7, "beyond 99.97 % either way"


def test_the_bound_holds_where_training_shuffles(monkeypatch):
    largest = 0

    class Watched(np.random.Generator):
        def shuffle(self, x, axis=0):
            nonlocal largest
            largest = max(largest, len(x))
            super().shuffle(x, axis)

    monkeypatch.setattr(row_order, "AT_ONCE", 50)
    net = fastnn.MLP([3, 2], seed=0)
    net.random = Watched(np.random.PCG64(0))
    X = np.random.default_rng(1).standard_normal((400, 3)).astype(np.float32)
    net.fit(X, (X[:, 0] > 0).astype(int), 2, 10, validation_split=0.25, progress=False)
    assert 0 < largest <= 50
