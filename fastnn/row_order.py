"""The order in which the rows of a data set are learnt from."""

from collections.abc import Iterator

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
    dealt_to = np.empty(len(order), np.uint16)
    sizes = np.zeros(buckets, np.int64)
    for part in _parts(len(order)):
        dealt_to[part] = random.integers(buckets, size=part.stop - part.start, dtype=np.uint16)
        sizes += np.bincount(dealt_to[part], minlength=buckets)
    dealt = np.empty_like(order)
    free = np.cumsum(sizes) - sizes
    for part in _parts(len(order)):
        rows = order[part][np.argsort(dealt_to[part], kind="stable")]
        counts = np.bincount(dealt_to[part], minlength=buckets)
        for bucket, share in enumerate(np.split(rows, np.cumsum(counts)[:-1])):
            dealt[free[bucket] : free[bucket] + len(share)] = share
        free += counts
    for start, end in zip(free - sizes, free, strict=True):
        random.shuffle(dealt[start:end])
        order[start:end] = dealt[start:end]


def _parts(n: int) -> Iterator[slice]:
    """The slices that n rows are gone over in."""
    return (slice(first, min(first + AT_ONCE, n)) for first in range(0, n, AT_ONCE))
