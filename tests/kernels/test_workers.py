"""The worker threads: who comes to the work, and who leaves."""

import time

import numpy as np
import pytest
from numba import types

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.measure import stamps
from kernels.cpu.threads import workers
from tests.programs import PATIENCE

TURNS = 1 << 28  # of a spin loop, minutes: a test that passes does not wait so long


@jit.kernel
def meet(real):
    """Counts who comes, and waits for the second."""

    def function(count: int) -> None:
        memory.fetch_add(count, 1)
        spins = 0
        while memory.load(count) < 2 and spins < TURNS:
            spins = memory.wait(spins)

    return function


@jit.kernel
def come(real):
    """Counts who comes."""

    def function(count: int) -> None:
        memory.fetch_add(count, 1)

    return function


@pytest.fixture
def crew():
    crew = workers.Workers()
    yield crew
    leave(crew)


@pytest.fixture
def patient(crew, monkeypatch):
    """Workers whose caller never works alone because they were late, as they are where others have the cores."""
    monkeypatch.setattr(crew.backoff, "report", lambda *run: None)
    return crew


def leave(crew):
    """Until all workers have left: they look at their shared memory until then. At exit nobody waits so long."""
    end = time.monotonic() + PATIENCE
    while crew.state.alive and time.monotonic() < end:
        crew.stop()
    assert crew.state.alive == 0


def test_a_lock_that_was_kept_by_an_interrupt_costs_no_worker(patient):
    """Ctrl-C may come between taking the lock and what would give it back."""
    came = np.zeros(1, np.int64)
    patient._lock.acquire()
    for _ in range(3):
        came[0] = 0
        patient.run(meet["float32"], came.ctypes.data, 2)
        assert came[0] == 2
    assert not patient._busy


def test_work_within_work_is_done_alone(crew):
    """That of a signal handler, say."""
    came = np.zeros(1, np.int64)
    crew._busy = True
    crew.run(come["float32"], came.ctypes.data, 2)
    assert came[0] == 1
    assert crew._busy


def test_brief_work_is_worth_workers_in_a_row_of_calls(monkeypatch):
    crew, now = workers.Workers(), [0]
    monkeypatch.setattr(workers.time, "perf_counter_ns", lambda: now[0])

    def worth(multiply_adds, later):
        now[0] += later
        return crew.worth_waking(multiply_adds)

    brief = tuning.BRIEF - 1
    assert not worth(brief, 10 * tuning.SOON)  # the first
    assert [worth(brief, tuning.SOON - 1) for _ in range(tuning.STREAK)] == [False] * (tuning.STREAK - 1) + [True]
    assert not worth(brief, tuning.SOON)
    assert worth(tuning.BRIEF, tuning.SOON)


@pytest.mark.parametrize("longest", [1e-3, 0.1])
def test_a_worker_comes_awake_asleep_or_falling_asleep(patient, longest):
    """Around 20 to 200 us after work a worker falls asleep: a call that comes just then must not be lost on it."""
    count = np.zeros(1, np.int64)
    for pause in np.linspace(0, longest, 300 if longest < 0.01 else 10):
        count[0] = 0
        patient.run(meet["float32"], count.ctypes.data, 2)
        assert count[0] == 2
        end = time.perf_counter() + pause
        while time.perf_counter() < end:
            pass  # a sleep would take longer than it is told to


def test_a_worker_that_cannot_be_started_is_not_waited_for(crew, monkeypatch):
    count = np.zeros(1, np.int64)
    monkeypatch.setattr(workers._python, "PyThread_start_new_thread", lambda function, argument: workers.NOT_STARTED)
    for calls in (1, 2):
        crew.run(come["float32"], count.ctypes.data, 3)
        assert count[0] == calls


@jit.kernel
def linger(real):
    """The second to come stays for some milliseconds after the first has left, and says for how many ticks."""
    words = memory.pointer(types.int64)

    def function(count: int) -> None:
        came, spins = memory.fetch_add(count, 1), 0
        while came == 0 and spins < TURNS and memory.load(count) < 2:
            spins = memory.wait(spins)
        since = stamps.ticks()
        for _ in range(10 * tuning.PAUSES if came == 1 else 0):
            memory.pause()
        if came == 1:
            words(count)[1] = stamps.ticks() - since

    return function


def test_what_is_waited_for_is_counted(patient):
    count, end = np.zeros(2, np.int64), time.monotonic() + PATIENCE
    while not patient.state.waited > count[1] / 2 > 0:  # the worker is the second, and nobody has the caller's core
        assert time.monotonic() < end, "the caller never waited for half of the time that the worker stayed"
        count[:] = 0
        patient.run(linger["float32"], count.ctypes.data, 2)
        assert 0 <= patient.state.waited <= patient.state.ran


def test_a_caller_that_has_to_wait_too_much_works_alone_for_a_while(crew, monkeypatch):
    now, count = 10**12, np.zeros(1, np.int64)
    monkeypatch.setattr(workers.time, "perf_counter_ns", lambda: now)

    def workers_are_asked():
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(crew.backoff, "report", lambda *run: asked.append(run))
            crew.run(come["float32"], count.ctypes.data, 2)
        return bool(asked)

    for waited in (0.0, 0.2):
        crew.backoff.report(tuning.LOOK, waited)
        assert workers_are_asked()
    crew.backoff.report(tuning.LOOK // 2, 1.0)
    assert workers_are_asked(), "too brief to tell"
    crew.backoff.report(tuning.LOOK // 2, 0.0)
    pause = tuning.FIRST_PAUSE
    for _ in range(10):
        assert not workers_are_asked()
        now += pause - 1
        assert not workers_are_asked()
        now += 1
        assert workers_are_asked()
        crew.backoff.report(tuning.LOOK, 0.5)
        pause = min(2 * pause, tuning.MOST_PAUSE)
    now += 3 * tuning.MOST_PAUSE
    crew.backoff.report(tuning.LOOK, 0.5)
    now += tuning.FIRST_PAUSE
    assert workers_are_asked(), "after a long time without, it begins anew"


def test_workers_leave_when_they_are_told_to(crew):
    count = np.zeros(1, np.int64)
    crew.run(meet["float32"], count.ctypes.data, 4)
    assert crew.state.alive == 3
    leave(crew)
