"""The team of threads: who comes to the work, and who leaves."""

import time

import numpy as np
import pytest
from numba import types

from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.measure import stamps
from kernels.cpu.threads import workers as teams
from kernels.cpu.threads.workers import ALIVE, RAN, WAITED, Team
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
def team():
    team = Team()
    yield team
    leave(team)


@pytest.fixture
def patient(team, monkeypatch):
    """A team that never works alone because helpers were late, as they are where others have the cores."""
    monkeypatch.setattr(team.recess, "report", lambda *run: None)
    return team


def leave(team):
    """Until all helpers have left: they look at the team's memory until then. At exit nobody waits so long."""
    end = time.monotonic() + PATIENCE
    while team._state[ALIVE] and time.monotonic() < end:
        team.stop()
    assert team._state[ALIVE] == 0


def test_a_lock_that_was_kept_by_an_interrupt_costs_no_helper(patient):
    """Ctrl-C may come between taking the lock and what would give it back."""
    came = np.zeros(1, np.int64)
    patient._lock.acquire()
    for _ in range(3):
        came[0] = 0
        patient.run(meet["float32"], came.ctypes.data, 2)
        assert came[0] == 2
    assert not patient._busy


def test_work_within_work_is_done_alone(team):
    """That of a signal handler, say."""
    came = np.zeros(1, np.int64)
    team._busy = True
    team.run(come["float32"], came.ctypes.data, 2)
    assert came[0] == 1
    assert team._busy


def test_brief_work_is_worth_helpers_in_a_row_of_calls(monkeypatch):
    team, now = Team(), [0]
    monkeypatch.setattr(teams.time, "perf_counter_ns", lambda: now[0])

    def worth(multiply_adds, later):
        now[0] += later
        return team.worth(multiply_adds)

    brief = teams.BRIEF - 1
    assert not worth(brief, 10 * teams.SOON)  # the first
    assert [worth(brief, teams.SOON - 1) for _ in range(teams.STREAK)] == [False] * (teams.STREAK - 1) + [True]
    assert not worth(brief, teams.SOON)
    assert worth(teams.BRIEF, teams.SOON)


@pytest.mark.parametrize("longest", [1e-3, 0.1])
def test_a_helper_comes_awake_asleep_or_falling_asleep(patient, longest):
    """Around 20 to 200 us after work a helper falls asleep: a call that comes just then must not be lost on it."""
    count = np.zeros(1, np.int64)
    for pause in np.linspace(0, longest, 300 if longest < 0.01 else 10):
        count[0] = 0
        patient.run(meet["float32"], count.ctypes.data, 2)
        assert count[0] == 2
        end = time.perf_counter() + pause
        while time.perf_counter() < end:
            pass  # a sleep would take longer than it is told to


def test_a_helper_that_cannot_be_started_is_not_waited_for(team, monkeypatch):
    count = np.zeros(1, np.int64)
    monkeypatch.setattr(teams._python, "PyThread_start_new_thread", lambda function, argument: teams.NOT_STARTED)
    for calls in (1, 2):
        team.run(come["float32"], count.ctypes.data, 3)
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
        for _ in range(10 * memory.PAUSES if came == 1 else 0):
            memory.pause()
        if came == 1:
            words(count)[1] = stamps.ticks() - since

    return function


def test_what_is_waited_for_is_counted(patient):
    count, end = np.zeros(2, np.int64), time.monotonic() + PATIENCE
    while not patient._state[WAITED] > count[1] / 2 > 0:  # the helper is the second, and nobody has the caller's core
        assert time.monotonic() < end, "the caller never waited for half of the time that the helper stayed"
        count[:] = 0
        patient.run(linger["float32"], count.ctypes.data, 2)
        assert 0 <= patient._state[WAITED] <= patient._state[RAN]


def test_a_caller_that_has_to_wait_too_much_works_alone_for_a_while(team, monkeypatch):
    now, count = 10**12, np.zeros(1, np.int64)
    monkeypatch.setattr(teams.time, "perf_counter_ns", lambda: now)

    def helpers_are_asked():
        asked = []
        with monkeypatch.context() as patch:
            patch.setattr(team.recess, "report", lambda *run: asked.append(run))
            team.run(come["float32"], count.ctypes.data, 2)
        return bool(asked)

    for waited in (0.0, 0.2):
        team.recess.report(teams.LOOK, waited)
        assert helpers_are_asked()
    team.recess.report(teams.LOOK // 2, 1.0)
    assert helpers_are_asked(), "too brief to tell"
    team.recess.report(teams.LOOK // 2, 0.0)
    pause = teams.FIRST_PAUSE
    for _ in range(10):
        assert not helpers_are_asked()
        now += pause - 1
        assert not helpers_are_asked()
        now += 1
        assert helpers_are_asked()
        team.recess.report(teams.LOOK, 0.5)
        pause = min(2 * pause, teams.MOST_PAUSE)
    now += 3 * teams.MOST_PAUSE
    team.recess.report(teams.LOOK, 0.5)
    now += teams.FIRST_PAUSE
    assert helpers_are_asked(), "after a long time without, it begins anew"


def test_helpers_leave_when_they_are_told_to(team):
    count = np.zeros(1, np.int64)
    team.run(meet["float32"], count.ctypes.data, 4)
    assert team._state[ALIVE] == 3
    leave(team)
