"""On how many threads a network's jobs run, from their sizes."""

from collections.abc import Sequence
from itertools import pairwise

from kernels.cpu.engine.schedule import STREAMED, streamed
from kernels.cpu.threads import workers
from kernels.cpu.threads.thread_choice import ThreadChoice

# The least float32 multiply-adds of each thread; with fewer a call runs on fewer threads. float64 ones count twice
GRADIENTS = 1 << 20
# Those of a forward pass, and of one in which each thread reads a part of the weights (see schedule.STREAMED). Of
# 784-256-128-10, 3 rows without that take 1.15 to 1.2 times as long on 2 threads as on one, 4 and 6 rows 0.85 to 1.1.
FORWARD, FORWARD_STREAMED = 3 << 17, STREAMED // 2
FROM_MEMORY = 16  # fewer rows take about as long as these: what counts is reading the weights
# Training steps are tried on several threads where each has TRIED to do, and from SURE on made by all without trial
TRIED, SURE = 1 << 17, 1 << 22


class ThreadCounts:
    """How many of at most `threads` threads a network's jobs use, by their rows."""

    def __init__(self, widths: Sequence[int], itemsize: int, threads: int) -> None:
        self._row = sum(a * b for a, b in pairwise(widths)) * itemsize // 4  # multiply-adds forward, in float32
        self._forward = FORWARD_STREAMED if streamed(widths, 1, threads, itemsize) else FORWARD
        self._choices: dict[tuple[int, int], ThreadChoice] = {}  # by rows, and the threads there may be

    def for_gradients(self, rows: int, threads: int) -> int:
        """How many threads the gradients of `rows` rows are made on."""
        return max(1, min(threads, self._multiply_adds(rows) // GRADIENTS))

    def for_outputs(self, rows: int, threads: int) -> int:
        """How many threads a forward pass on `rows` rows uses."""
        threads = min(threads, rows * self._row // self._forward)
        worth = threads > 1 and workers.of_process.worth_waking(max(rows, FROM_MEMORY) * self._row)
        return threads if worth else 1

    def for_steps(self, rows: int, threads: int) -> ThreadChoice:
        """How training steps on `rows` rows, or up to twice as many, get their threads."""
        rows = 1 << rows.bit_length() - 1  # or sizes that change all the time would never have been tried
        key = rows, threads
        if key not in self._choices:
            multiply_adds = self._multiply_adds(rows)
            most = max(1, min(threads, multiply_adds // TRIED))
            least = most if multiply_adds >= SURE * most else 1
            choices = [*(1 << n for n in range(most.bit_length()) if least <= 1 << n < most), most]
            self._choices[key] = ThreadChoice(choices, self._multiply_adds(1))
        return self._choices[key]

    def _multiply_adds(self, rows: int) -> int:
        """Those of a step on `rows` rows, those of float64 twice."""
        return 3 * rows * self._row
