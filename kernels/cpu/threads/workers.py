"""Worker threads that run compiled work together. They never leave compiled code, nor need the GIL.

Numba's own threading layers are not used: workqueue aborts the process when two Python threads enter it at once,
libgomp does not survive a fork, and a parallel region costs more than a small step. Here a worker spins for a moment
after work, then sleeps on a lock. The caller never waits for a worker to come. It starts at once and takes every tile
that nobody else has claimed (see scheduler.py), so a worker that is asleep or without a core costs nothing.

The threads and locks are those of CPython's C interface (pythread.h). A Python thread would have to take the GIL on
waking, which a caller of short kernels lets go for microseconds only: it would come late, at the interpreter's switch
interval, and every call until then would pay for the handing over.
"""

import ctypes
import os
import threading
import time
from typing import Any, Protocol

import numpy as np

from kernels.cpu import tuning
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.declaration import Address, Size
from kernels.cpu.compiler.records import Record, Shared, offset, record_at, record_class
from kernels.cpu.ir import memory
from kernels.cpu.measure import stamps
from kernels.layout import address, aligned_zeros
from kernels.process import forks
from kernels.process.apart import with_stack

OPEN = 1 << 32  # the gate: generation << 33 | open << 32 | how many workers are inside
MOST_WORKERS = 1023
STACK = 1 << 20  # bytes of a worker's; kernels take less than 32 KiB
NOT_STARTED = ctypes.c_ulong(-1).value

_python = ctypes.pythonapi
_python.PyThread_allocate_lock.restype = ctypes.c_void_p
_python.PyThread_acquire_lock.argtypes = [ctypes.c_void_p, ctypes.c_int]
_python.PyThread_release_lock.argtypes = [ctypes.c_void_p]
_python.PyThread_start_new_thread.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
_python.PyThread_start_new_thread.restype = ctypes.c_ulong


@record_class
class SharedState(Record):
    """What the caller and all workers read and write, each word on a cache line of its own."""

    gate: Shared  # see OPEN
    function: Shared  # the address of what is to be called
    argument: Shared
    quit: Shared  # workers are to end
    slots: Shared  # how many workers may enter
    alive: Shared  # workers that have not ended
    waited: Shared  # ticks of the clock in the last run for which threads waited
    ran: Shared  # ticks that the last run took


@record_class
class WorkerState(Record):
    """A worker's own."""

    asleep: Shared
    shared: Address  # of the SharedState
    lock: Address  # held while the worker sleeps


GATE, QUIT, ALIVE = (offset(SharedState, name) for name in ("gate", "quit", "alive"))
ASLEEP = offset(WorkerState, "asleep")
SHARED_BYTES, WORKER_BYTES = ctypes.sizeof(SharedState), ctypes.sizeof(WorkerState)
_shared_at, _worker_at = record_at(SharedState), record_at(WorkerState)


class Work(Protocol):
    """What workers run together: each calls it with the same address, that of a job."""

    def __call__(self, address: Address) -> None: ...


@jit.kernel
def worker(real: Any) -> Any:
    """A worker's life: joins each opened gate once, sleeps after IDLE_SPINS without work, returns when told to quit."""
    call = calls.by_address(Work, real)

    def function(own: Address) -> None:
        state = _worker_at(own)
        address, seen, spins = state.shared, -1, 0
        shared = _shared_at(address)
        while memory.load(address + QUIT) == 0:
            gate = memory.load(address + GATE)
            if gate & OPEN != 0 and gate >> 33 != seen and gate & (OPEN - 1) < shared.slots:
                # enter only if the gate is as it was read: then it cannot close before this worker is counted
                if memory.compare_and_swap(address + GATE, gate, gate + 1):
                    seen, spins = gate >> 33, 0
                    call(shared.function, shared.argument)
                    memory.fetch_add(address + GATE, -1)
            elif spins < tuning.IDLE_SPINS:
                memory.pause()
                spins += 1
            else:
                # whoever takes ASLEEP back decides: this worker, when the gate has moved meanwhile, or who wakes it
                memory.store(own + ASLEEP, 1)
                moved = memory.fetch_add(address + GATE, 0) != gate or memory.fetch_add(address + QUIT, 0) != 0
                if not (moved and memory.compare_and_swap(own + ASLEEP, 1, 0)):
                    memory.acquire(state.lock)
                spins = 0
        memory.fetch_add(address + ALIVE, -1)

    return function


@jit.kernel
def together(real: Any) -> Any:
    """Open the gate on function(argument) for `slots` workers at once, take part, close it, wait till all have left."""
    call = calls.by_address(Work, real)

    def function(address: Address, work: Address, argument: Address, slots: Size) -> None:
        shared = _shared_at(address)
        generation, began = (memory.load(address + GATE) >> 33) + 1, stamps.ticks()
        shared.function, shared.argument, shared.slots = work, argument, slots
        shared.waited, woken = 0, 0
        memory.store(address + GATE, generation << 33 | OPEN)
        for n in range(slots):
            own = address + SHARED_BYTES + n * WORKER_BYTES
            if memory.compare_and_swap(own + ASLEEP, 1, 0):
                memory.release(_worker_at(own).lock)
                woken = stamps.ticks() - began
        call(work, argument)
        memory.fetch_add(address + GATE, -OPEN)
        spins, since = 0, stamps.ticks()
        while memory.load(address + GATE) & (OPEN - 1) != 0:
            spins = memory.wait(spins)
        shared.waited += woken + (stamps.ticks() - since if spins > tuning.PAUSES else 0)
        shared.ran = stamps.ticks() - began + 1

    return function


class Backoff:
    """When callers work alone: for a while after runs with workers in which too much time was spent waiting."""

    def __init__(self) -> None:
        self._until, self._pause, self._ran, self._lost = 0, 0, 0, 0.0

    def in_effect(self) -> bool:
        """Whether a caller should work alone now."""
        return time.perf_counter_ns() < self._until

    def report(self, nanoseconds: int, waited: float) -> None:
        """Be told how long a run with workers took, and the fraction of that for which threads waited or were woken."""
        self._ran, self._lost = self._ran + nanoseconds, self._lost + waited * nanoseconds
        if self._ran < tuning.LOOK:
            return
        if 100 * self._lost >= tuning.DISTURBED_PERCENT * self._ran:
            now = time.perf_counter_ns()
            again = now < self._until + 2 * self._pause
            self._pause = min(2 * self._pause, tuning.MOST_PAUSE) if again else tuning.FIRST_PAUSE
            self._until = now + self._pause
        self._ran, self._lost = 0, 0.0


class Workers:
    """The worker threads of this process. They start with the first work that wants them."""

    def __init__(self) -> None:
        self._lock, self._busy = forks.lock(), False
        memory = aligned_zeros((SHARED_BYTES + WORKER_BYTES * MOST_WORKERS) // 8, np.int64)
        self._at = address(memory)
        self.state = SharedState.from_buffer(memory.data)
        self._workers = (WorkerState * MOST_WORKERS).from_buffer(memory.data, SHARED_BYTES)
        self.waited_at = self._at + offset(SharedState, "waited")  # where work adds the ticks for which threads wait
        self._count = 0
        self._streak, self._last = 0, 0
        self.backoff = Backoff()

    def run(self, kernel: jit.Kernel, argument: int, threads: int) -> None:
        """Call a kernel `void f(int64)` from up to `threads` threads at once; returns when all have left it.

        Workers that are still awake from wider work stay outside: a job has buffers for `threads` only. When another
        Python thread has the workers, the caller works alone: the result is the same.
        """
        if threads == 1 or self.backoff.in_effect() or not self._lock.acquire(blocking=False):
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
            slots = min(threads - 1, MOST_WORKERS)
            while self._count < slots:
                self._start()
            together["float32"](self._at, kernel.address, argument, slots)
            waited = self.state.waited / self.state.ran
            self.backoff.report(time.perf_counter_ns() - start, waited)
        finally:
            self._busy = False
            self._lock.release()

    def worth_waking(self, multiply_adds: int) -> bool:
        """Whether workers are worth it for this work: it is not brief, or it is one of a row of calls, so that they are
        awake, or will be from now on."""
        now = time.perf_counter_ns()
        self._streak = self._streak + 1 if now - self._last < tuning.SOON else 0
        self._last = now
        return multiply_adds >= tuning.BRIEF or self._streak >= tuning.STREAK

    def _start(self) -> None:
        """Start one more worker."""
        own = self._workers[self._count]
        lock = _python.PyThread_allocate_lock()
        _python.PyThread_acquire_lock(lock, 1)  # held, so that who acquires it sleeps until it is released
        own.shared, own.asleep, own.lock = self._at, 0, lock
        self._count += 1
        self.state.alive += 1
        life, argument = worker["float32"].address, ctypes.addressof(own)
        if with_stack(STACK, lambda: _python.PyThread_start_new_thread(life, argument)) == NOT_STARTED:
            self.state.alive -= 1  # its slot stays empty: nobody waits for it

    def stop(self) -> None:
        """End the workers, at exit: they must not be in compiled code when the interpreter goes."""
        self.state.quit = 1
        for own in self._workers[: self._count]:
            _python.PyThread_release_lock(own.lock)
        patience = time.monotonic() + 1.0
        while self.state.alive and time.monotonic() < patience:
            time.sleep(1e-4)


of_process = Workers()


def load() -> None:
    """Compile what workers themselves run, or load it from the cache."""
    worker["float32"].load()
    together["float32"].load()


def _after_fork() -> None:
    global of_process
    of_process = Workers()  # a child has the caller's thread alone


forks.in_child(_after_fork)
threading._register_atexit(lambda: of_process.stop())  # type: ignore[attr-defined]


def default_threads() -> int:
    """NUMBA_NUM_THREADS, by default the number of cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("NUMBA_NUM_THREADS") or cores)
