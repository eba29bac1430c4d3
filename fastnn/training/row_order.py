"""The order in which the rows of a data set are learnt from."""

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
