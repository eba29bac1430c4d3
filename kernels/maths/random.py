"""Random bits that are a function of where they are used: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers:
as easy as 1, 2, 3").

Nothing is kept between two draws, so they are the same in whatever order, and by however many threads, they are made.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

# Dropout. Whether the element (row, column) of a layer's output stays in a step is said by word row % WORDS of the
# counter (column, row // WORDS, step, layer), under the seed as the key: columns side by side are counters side by
# side, which is how vectors are made. It stays if the word is at least rate * 2^32.
WORDS = 4

LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
MULTIPLIER_0, MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)  # of the golden ratio and of sqrt(3)


def philox(compiled: Callable[..., Any]) -> Any:
    """f(c0, c1, c2, c3, k0, k1): the four words of a counter under a key.

    All are uint64 of which the low halves count, results too: that is how vector units multiply 32 by 32 bits. (LLVM
    makes vectors of a loop over counters.) compiled: makes a function callable from the backend's kernels.
    """

    @compiled
    def round_(c0, c1, c2, c3, k0, k1):
        p0, p1 = (c0 & LOW) * MULTIPLIER_0, (c2 & LOW) * MULTIPLIER_1
        return (p1 >> HALF) ^ c1 ^ k0, p1, (p0 >> HALF) ^ c3 ^ k1, p0, k0 + WEYL_0, k1 + WEYL_1

    @compiled
    def words(c0, c1, c2, c3, k0, k1):
        for _ in range(10):
            c0, c1, c2, c3, k0, k1 = round_(c0, c1, c2, c3, k0, k1)
        return c0, c1, c2, c3

    return words


def limit(rate: float) -> int:
    """What a word must reach for its element to stay, at this rate of dropping."""
    return min(round(rate * 2**32), 2**32 - 1)
