"""A team of threads that run compiled work together: threads that never leave compiled code, nor need the GIL.

Numba's own threading layers are not used: workqueue aborts the process when two Python threads enter it at once,
libgomp does not survive a fork, and a parallel region costs 90 us under workqueue. Here a helper spins for a moment
after work, then sleeps on a lock. The caller never waits for a helper to come: it starts at once and takes every tile
that nobody else has claimed (see network.py), so a helper that is asleep or without a core costs nothing.

The threads and locks are those of CPython's C interface (pythread.h). Helpers that were Python threads had to take the
GIL on waking, which a caller of short kernels lets go for microseconds only: they came 5 ms late, at the interpreter's
switch interval, and every call until then paid for the handing over.
"""

import ctypes
import threading
import time
from typing import Any, Protocol

import numpy as np
from numba import types
from numba.core import config

from kernels import forks
from kernels.apart import with_stack
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.declaration import Address, Size
from kernels.cpu.ir import memory
from kernels.cpu.measure import stamps
from kernels.layout import address

# Words of the team's state, each on a cache line of its own. WAITED, RAN: ticks of the clock in the last run
GATE, FUNCTION, ARGUMENT, QUIT, SEATS, ALIVE, WAITED, RAN, WORDS = 0, 8, 16, 24, 32, 40, 48, 56, 64
# Words of a helper's own state
TEAM, ASLEEP, LOCK, HELPER = 0, 1, 2, 8
OPEN = 1 << 32  # the gate: generation << 33 | open << 32 | how many helpers are inside
IDLE_SPINS = 2000  # 20 to 200 us: longer than the gap between two slices, shorter than anyone would notice
# Waking a helper takes 30 us of the caller's time (a virtual machine on an Intel Xeon): brief work is worth it only
# when calls follow each other, for then the helper stays awake: so many, each so many nanoseconds after the last one.
STREAK, SOON = 4, 200_000
# Multiply-adds of brief work, done before a sleeping helper has come. 2 threads against 1 in us, in a row of calls
# (helper awake) and on its own (helper asleep), on 2 cores of an Intel Xeon: 128 cubed 25 : 32 and 67 : 35, 192 cubed
# 55 : 85 and 110 : 89, 256 cubed 104 : 191 and 168 : 190.
BRIEF = 12 << 20
# Where another program has taken a helper's core, the helper may hold a tile for milliseconds, and all wait for it, or
# it has to be woken each time. When so many percent of so many nanoseconds in which helpers were asked for went that
# way, the caller works alone for a while, each time for twice as long, and then tries again. Time of 2 threads against
# 1 beside a process that keeps one of 2 cores busy, before and after: predicting 4 rows of 784-256-128-10 1.67 and
# 1.29, 32 rows 1.33 and 1.02; training 32-64x10-10 1.26 and 1.07, 784-256-128-10 0.91 and 0.97; on a quiet machine as
# before.
LOOK, DISTURBED_PERCENT = 100_000_000, 25
FIRST_PAUSE, MOST_PAUSE = 250_000_000, 4_000_000_000
MOST_HELPERS = 1023
STACK = 1 << 20  # bytes of a helper's; kernels take less than 32 KiB
NOT_STARTED = ctypes.c_ulong(-1).value

_python = ctypes.pythonapi
_python.PyThread_allocate_lock.restype = ctypes.c_void_p
_python.PyThread_acquire_lock.argtypes = [ctypes.c_void_p, ctypes.c_int]
_python.PyThread_release_lock.argtypes = [ctypes.c_void_p]
_python.PyThread_start_new_thread.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_python.PyThread_start_new_thread.restype = ctypes.c_ulong


class Work(Protocol):
    """What workers run together: each calls it with the same address, that of a job."""

    def __call__(self, address: Address) -> None: ...


@jit.kernel
def helper(real: Any) -> Any:
    """A helper's life: joins each opened gate once, sleeps after IDLE_SPINS without work, returns when told to quit."""
    words, call = memory.pointer(types.int64), calls.by_address(Work, real)

    def function(own: Address) -> None:
        team, seen, spins = words(own)[TEAM], -1, 0
        while memory.load(team + QUIT * 8) == 0:
            gate = memory.load(team + GATE * 8)
            if gate & OPEN != 0 and gate >> 33 != seen and gate & (OPEN - 1) < words(team)[SEATS]:
                # enter only if the gate is as it was read: then it cannot close before this helper is counted
                if memory.compare_and_swap(team + GATE * 8, gate, gate + 1):
                    seen, spins = gate >> 33, 0
                    call(words(team)[FUNCTION], words(team)[ARGUMENT])
                    memory.fetch_add(team + GATE * 8, -1)
            elif spins < IDLE_SPINS:
                memory.pause()
                spins += 1
            else:
                # whoever takes ASLEEP back decides: this helper, when the gate has moved meanwhile, or who wakes it
                memory.store(own + ASLEEP * 8, 1)
                moved = memory.fetch_add(team + GATE * 8, 0) != gate or memory.fetch_add(team + QUIT * 8, 0) != 0
                if not (moved and memory.compare_and_swap(own + ASLEEP * 8, 1, 0)):
                    memory.acquire(words(own)[LOCK])
                spins = 0
        memory.fetch_add(team + ALIVE * 8, -1)

    return function


@jit.kernel
def together(real: Any) -> Any:
    """Open the gate on function(argument) for so many helpers at once, take part, close it, wait till all have left."""
    words, call = memory.pointer(types.int64), calls.by_address(Work, real)

    def function(team: Address, work: Address, argument: Address, seats: Size) -> None:
        generation, began = (memory.load(team + GATE * 8) >> 33) + 1, stamps.ticks()
        words(team)[FUNCTION], words(team)[ARGUMENT], words(team)[SEATS] = work, argument, seats
        words(team)[WAITED], woken = 0, 0
        memory.store(team + GATE * 8, generation << 33 | OPEN)
        for n in range(seats):
            own = team + (WORDS + n * HELPER) * 8
            if memory.compare_and_swap(own + ASLEEP * 8, 1, 0):
                memory.release(words(own)[LOCK])
                woken = stamps.ticks() - began
        call(work, argument)
        memory.fetch_add(team + GATE * 8, -OPEN)
        spins, since = 0, stamps.ticks()
        while memory.load(team + GATE * 8) & (OPEN - 1) != 0:
            spins = memory.wait(spins)
        words(team)[WAITED] += woken + (stamps.ticks() - since if spins > memory.PAUSES else 0)
        words(team)[RAN] = stamps.ticks() - began + 1

    return function


class Recess:
    """When callers work alone: for a while after runs with helpers in which too much time was spent waiting."""

    def __init__(self) -> None:
        self._until, self._pause, self._ran, self._lost = 0, 0, 0, 0.0

    def lasts(self) -> bool:
        """Whether a caller should work alone now."""
        return time.perf_counter_ns() < self._until

    def report(self, nanoseconds: int, waited: float) -> None:
        """Be told how long a run with helpers took, and the share of that for which threads waited or were woken."""
        self._ran, self._lost = self._ran + nanoseconds, self._lost + waited * nanoseconds
        if self._ran < LOOK:
            return
        if 100 * self._lost >= DISTURBED_PERCENT * self._ran:
            now = time.perf_counter_ns()
            again = now < self._until + 2 * self._pause
            self._pause = min(2 * self._pause, MOST_PAUSE) if again else FIRST_PAUSE
            self._until = now + self._pause
        self._ran, self._lost = 0, 0.0


class Team:
    """The helpers of this process. They start with the first work that wants them."""

    def __init__(self) -> None:
        self._lock, self._busy = forks.lock(), False
        self._state = np.zeros(WORDS + HELPER * MOST_HELPERS, np.int64)
        self.waited_at = address(self._state) + WAITED * 8  # where work adds the ticks for which its threads wait
        self._helpers = self._state[WORDS:].reshape(MOST_HELPERS, HELPER)
        self._count = 0
        self._streak, self._last = 0, 0
        self.recess = Recess()

    def run(self, kernel: jit.Kernel, argument: int, threads: int) -> None:
        """Call a kernel `void f(int64)` from up to `threads` threads at once; returns when all have left it.

        Helpers that are still awake from wider work stay outside: a job has buffers for `threads` only. When another
        Python thread holds the team, the caller works alone: the result is the same.
        """
        if threads == 1 or self.recess.lasts() or not self._lock.acquire(blocking=False):
            kernel(argument)
            return
        # Ctrl-C may come before `try`: this thread can then have the lock again, and _busy says whether it is at work
        if self._busy:
            self._lock.release()
            kernel(argument)
            return
        try:
            self._busy = True
            start = time.perf_counter_ns()
            seats = min(threads - 1, MOST_HELPERS)
            while self._count < seats:
                self._start()
            together["float32"](address(self._state), kernel.address, argument, seats)
            waited = self._state[WAITED] / self._state[RAN]
            self.recess.report(time.perf_counter_ns() - start, waited)
        finally:
            self._busy = False
            self._lock.release()

    def worth(self, multiply_adds: int) -> bool:
        """Whether helpers are worth it for so much work: it is not brief, or one of a row of calls, so that they are
        awake, or will be from now on."""
        now = time.perf_counter_ns()
        self._streak = self._streak + 1 if now - self._last < SOON else 0
        self._last = now
        return multiply_adds >= BRIEF or self._streak >= STREAK

    def _start(self) -> None:
        """One helper more."""
        own = self._helpers[self._count]
        lock = _python.PyThread_allocate_lock()
        _python.PyThread_acquire_lock(lock, 1)  # held, so that who acquires it sleeps until it is released
        own[TEAM], own[ASLEEP], own[LOCK] = address(self._state), 0, lock
        self._count += 1
        self._state[ALIVE] += 1
        life, argument = helper["float32"].address, address(own)
        if with_stack(STACK, lambda: _python.PyThread_start_new_thread(life, argument)) == NOT_STARTED:
            self._state[ALIVE] -= 1  # its seat stays empty: nobody waits for it

    def stop(self) -> None:
        """End the helpers, at exit: they must not be in compiled code when the interpreter goes."""
        self._state[QUIT] = 1
        for own in self._helpers[: self._count]:
            _python.PyThread_release_lock(int(own[LOCK]))
        patience = time.monotonic() + 1.0
        while self._state[ALIVE] and time.monotonic() < patience:
            time.sleep(1e-4)


team = Team()


def load() -> None:
    """Compile what the team itself runs, or load it from the cache."""
    helper["float32"].load()
    together["float32"].load()


def _after_fork() -> None:
    global team
    team = Team()  # a child has the caller's thread alone


forks.in_child(_after_fork)
threading._register_atexit(lambda: team.stop())  # type: ignore[attr-defined]


def default_threads() -> int:
    """NUMBA_NUM_THREADS, by default the number of cores this process may use."""
    return int(config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
