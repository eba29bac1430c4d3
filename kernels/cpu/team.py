"""A team of threads that run compiled work together: Python threads that sit in compiled code without the GIL.

Numba's own threading layers are not used: workqueue aborts the process when two Python threads enter it at once,
libgomp does not survive a fork, and a parallel region costs 90 us under workqueue. Here a helper spins for a moment
after work, then sleeps on a lock. The caller never waits for a helper to come: it starts at once and takes every tile
that nobody else has claimed (see network.py), so a helper that is asleep or without a core costs nothing.
"""

import os
import threading
from typing import Any

import numpy as np
from numba import types
from numba.core import config

from . import jit, memory

# Words of the team's state, each on a cache line of its own
GATE, FUNCTION, ARGUMENT, QUIT, SEATS, COMING = 0, 8, 16, 24, 32, 40
OPEN = 1 << 32  # the gate: generation << 33 | open << 32 | how many helpers are inside
IDLE_SPINS = 2000  # 20 to 200 us: longer than the gap between two slices, shorter than anyone would notice


@jit.kernel("v i")
def helper(real: Any) -> Any:
    """A helper's waiting: joins each opened gate once; returns after IDLE_SPINS without work, or when told to quit.

    While work is COMING it stays: the caller, whose core it may have been given on waking, has yet to open the gate.
    """
    words, call = memory.pointer(types.int64), jit.caller_of_address("v i", real)

    def function(team):
        seen, spins = -1, 0
        while words(team)[QUIT] == 0:
            coming, gate = memory.load(team + COMING * 8), memory.load(team + GATE * 8)
            if gate & OPEN != 0 and gate >> 33 != seen and gate & (OPEN - 1) < words(team)[SEATS]:
                # enter only if the gate is as it was read: then it cannot close before this helper is counted
                if memory.compare_and_swap(team + GATE * 8, gate, gate + 1):
                    seen, spins = gate >> 33, 0
                    call(words(team)[FUNCTION], words(team)[ARGUMENT])
                    memory.fetch_add(team + GATE * 8, -1)
            elif spins < IDLE_SPINS:
                memory.pause()
                spins += 1
            elif coming != 0:
                memory.yield_core()
            else:
                break

    return function


@jit.kernel("v 4i")
def together(real: Any) -> Any:
    """Open the gate on function(argument) for so many helpers at once, take part, close it, wait till all have left."""
    words, call = memory.pointer(types.int64), jit.caller_of_address("v i", real)

    def function(team, work, argument, seats):
        generation = (memory.load(team + GATE * 8) >> 33) + 1
        words(team)[FUNCTION], words(team)[ARGUMENT], words(team)[SEATS] = work, argument, seats
        memory.store(team + GATE * 8, generation << 33 | OPEN)
        memory.store(team + COMING * 8, 0)
        call(work, argument)
        memory.fetch_add(team + GATE * 8, -OPEN)
        spins = 0
        while memory.load(team + GATE * 8) & (OPEN - 1) != 0:
            spins = memory.wait(spins)

    return function


class Team:
    """The helpers of this process. They start with the first work that wants them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._state = np.zeros(48, np.int64)
        self._bells: list[threading.Lock] = []
        self._threads: list[threading.Thread] = []

    def run(self, kernel: jit.Kernel, argument: int, threads: int) -> None:
        """Call a kernel `void f(int64)` from up to `threads` threads at once; returns when all have left it.

        Helpers that are still awake from wider work stay outside: a job has buffers for `threads` only. When another
        Python thread holds the team, the caller works alone: the result is the same.
        """
        if threads > 1 and self._lock.acquire(blocking=False):
            try:
                self._state[COMING] = 1
                self._wake(threads - 1)
                together["float32"](self._state.ctypes.data, kernel.address, argument, threads - 1)
            finally:
                self._state[COMING] = 0
                self._lock.release()
        else:
            kernel(argument)

    def _wake(self, helpers: int) -> None:
        while len(self._threads) < helpers:
            bell = threading.Lock()
            thread = threading.Thread(target=self._live, args=(bell,), name="fastnn helper", daemon=True)
            self._bells.append(bell)
            self._threads.append(thread)
            thread.start()
        for bell in self._bells[:helpers]:
            if bell.locked():
                bell.release()

    def _live(self, bell: threading.Lock) -> None:
        wait, state = helper["float32"], self._state
        while not state[QUIT]:
            wait(state.ctypes.data)
            bell.acquire()

    def stop(self) -> None:
        """End the helpers, at exit: they must not be in compiled code when the interpreter goes."""
        self._state[QUIT] = 1
        for bell in self._bells:
            if bell.locked():
                bell.release()
        for thread in self._threads:
            thread.join(timeout=1.0)


team = Team()


def load() -> None:
    """Compile what the team itself runs, or load it from the cache."""
    helper["float32"].load()
    together["float32"].load()


def _after_fork() -> None:
    global team
    team = Team()  # a child has the caller's thread alone


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
threading._register_atexit(lambda: team.stop())  # type: ignore[attr-defined]


def default_threads() -> int:
    """NUMBA_NUM_THREADS, by default the number of cores this process may use."""
    return int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
