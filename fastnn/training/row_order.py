"""The order in which the rows of a data set are learnt from."""

from typing import Any

import numpy as np

from kernels.engine.codes import ROW_NUMBER

# Rows that NumPy shuffles in one call, in half a second or less: Ctrl-C waits for it
AT_ONCE = 1 << 21


def numbered(n: int) -> np.ndarray:
    """The numbers of n rows, (n,). ValueError where they are too many to be numbered."""
    if n > np.iinfo(ROW_NUMBER).max:
        most = np.iinfo(ROW_NUMBER).max
        raise ValueError(f"X must have at most {most} rows, or shuffle=False and validation_split=0, got {n} rows")
    return np.arange(n, dtype=ROW_NUMBER)


def shuffle(random: np.random.Generator, order: np.ndarray) -> None:
    """Shuffle `order` (n,) in place; every order is as likely as any other.

    Many rows are dealt to buckets at random, and each bucket is shuffled (Rao 1961, Sandelius 1962).
    """
    if len(order) <= AT_ONCE:
        random.shuffle(order)
        return
    buckets = -(-2 * len(order) // AT_ONCE)  # half full on average, so that none overflows
    parts = [order[first : first + AT_ONCE] for first in range(0, len(order), AT_ONCE)]
    dealt_to = [random.integers(buckets, size=len(part), dtype=np.uint16) for part in parts]
    counts = [np.bincount(of_part, minlength=buckets) for of_part in dealt_to]
    sizes = np.sum(counts, axis=0)
    dealt = np.empty_like(order)
    free = np.cumsum(sizes) - sizes
    for part, of_part, count in zip(parts, dealt_to, counts, strict=True):
        rows = part[np.argsort(of_part, kind="stable")]
        for bucket, share in enumerate(np.split(rows, np.cumsum(count)[:-1])):
            dealt[free[bucket] : free[bucket] + len(share)] = share
        free += count
    for start, end in zip(free - sizes, free, strict=True):
        random.shuffle(dealt[start:end])
        order[start:end] = dealt[start:end]


class Orders:
    """The order of the rows in each epoch of a training.

    rows: the numbers of the rows, or None for all as they lie. shuffled: whether each epoch has an order of its own,
    which `random` draws, into the same array.
    """

    def __init__(self, random: np.random.Generator, rows: np.ndarray | None, shuffled: bool) -> None:
        self.random, self.rows, self.shuffled = random, rows, shuffled

    def next(self) -> np.ndarray | None:
        """The order of the next epoch."""
        if self.shuffled and self.rows is not None:
            shuffle(self.random, self.rows)
        return self.rows

    def hold_out(self, n: int) -> np.ndarray:
        """Draw n rows that are in no epoch from now on; their numbers, in the memory where those of the first n were.

        Both they and the others are in the order of their numbers.
        """
        assert self.rows is not None
        held_out, others = self.rows[:n], self.rows[n:]
        shuffle(self.random, self.rows)
        held_out.sort()
        others.sort()
        self.rows = others
        return held_out

    def state(self) -> Any:
        """What the orders to come depend on."""
        if not self.shuffled or self.rows is None:
            return None
        return self.rows.copy(), self.random.bit_generator.state

    def put_back(self, state: Any) -> None:
        """Give them the state that they had."""
        if state is not None and self.rows is not None:
            self.rows[...], self.random.bit_generator.state = state
