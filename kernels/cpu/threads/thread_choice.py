"""On how many threads steps are made: on as many as have made them soonest of late.

What a thread more brings depends on how long it takes to hand a cache line from core to core, which no constant tells:
virtual cores move about the chip, and at times two of them are one core, with one core's multiply-adds. So it is tried,
again and again.
"""

import time
from collections.abc import Iterator, Sequence

from kernels.cpu import tuning


class ThreadChoice:
    """The number of threads that makes steps soonest, for steps on about as many rows each.

    choices: the numbers to try, ascending. threads: the one that counts now. multiply_adds: those of a row.
    """

    def __init__(self, choices: Sequence[int], multiply_adds: int) -> None:
        self.choices, self.threads = choices, choices[-1]
        self._trial_rows = max(1, tuning.TRIAL_MULTIPLY_ADDS // multiply_adds)
        self._rows, self._seconds = 0, 0.0  # of steps since the last judgement, and what they took
        self._wait, self._decided = tuning.FIRST_WAIT, 0.0
        self._left: list[int] = []  # the numbers still to try, the next one last
        self._best: dict[int, float] = {}  # seconds of a row
        if len(choices) > 1:
            self._try_again()

    def parts(self, steps: int, rows: int) -> Iterator[tuple[int, int, int]]:
        """(threads, first, last): which of the steps are to be made next, on how many threads; one part or more.

        rows: of a step, at most. Whoever makes a part says by `made` how many rows it had, and asks for the next one
        when it is done. A trial may go on in the next call.
        """
        first = 0
        while first < steps:
            threads, last = self.threads, steps
            if not self.settled:
                threads, last = self._left[-1], min(steps, first - (self._rows - self._trial_rows) // rows)
            start = time.perf_counter()
            yield threads, first, last
            end = time.perf_counter()
            self._seconds, first = self._seconds + end - start, last
            if self._rows >= self._trial_rows:
                self._judge(self._seconds / self._rows, end)
                self._rows, self._seconds = 0, 0.0

    def made(self, rows: int) -> None:
        """Count the rows of a part."""
        self._rows += rows

    @property
    def settled(self) -> bool:
        """Whether the answer is in, until it is asked for again."""
        return not self._left

    def stay(self) -> None:
        """Ask no more."""
        self.choices, self._left = [self.threads], []

    def _judge(self, seconds: float, now: float) -> None:
        """Go by what a row has taken of late."""
        if not self.settled:
            threads = self._left.pop()
            self._best[threads] = min(self._best[threads], seconds)
            if self.settled:
                self._decide(now)
        elif len(self.choices) > 1:
            slow, age = seconds > tuning.SLOWER * self._best[self.threads], now - self._decided
            if age > (tuning.FIRST_WAIT if slow else self._wait):
                self._try_again()

    def _try_again(self) -> None:
        self._left = sorted([*self.choices] * tuning.TRIALS)
        self._best = dict.fromkeys(self.choices, float("inf"))

    def _decide(self, now: float) -> None:
        before, self.threads = self.threads, self.choices[0]
        for threads in self.choices[1:]:
            if self._best[threads] < tuning.GAIN * self._best[self.threads]:
                self.threads = threads
        self._wait = min(2 * self._wait, tuning.MOST_WAIT) if self.threads == before else tuning.FIRST_WAIT
        self._decided = now
