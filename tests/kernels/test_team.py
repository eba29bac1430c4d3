"""The team of threads: who comes to the work, and who leaves."""

import time

import numpy as np
import pytest

from kernels.cpu import jit, memory
from kernels.cpu import team as teams
from kernels.cpu.team import ALIVE, Team

PATIENCE = 1 << 20  # turns of a spin loop, about a second; a test that passes does not wait so long


@jit.kernel("v i")
def meet(real):
    """Counts who comes, and waits for the second."""

    def function(count):
        memory.fetch_add(count, 1)
        spins = 0
        while memory.load(count) < 2 and spins < PATIENCE:
            spins = memory.wait(spins)

    return function


@jit.kernel("v i")
def come(real):
    """Counts who comes."""

    def function(count):
        memory.fetch_add(count, 1)

    return function


@pytest.fixture
def team():
    team = Team()
    yield team
    team.stop()
    assert team._state[ALIVE] == 0


@pytest.mark.parametrize("longest", [1e-3, 0.1])
def test_a_helper_comes_awake_asleep_or_falling_asleep(team, longest):
    """Around 20 to 200 us after work a helper falls asleep: a call that comes just then must not be lost on it."""
    count = np.zeros(1, np.int64)
    for pause in np.linspace(0, longest, 300 if longest < 0.01 else 10):
        count[0] = 0
        team.run(meet["float32"], count.ctypes.data, 2)
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


def test_helpers_leave_when_they_are_told_to(team):
    count = np.zeros(1, np.int64)
    team.run(meet["float32"], count.ctypes.data, 4)
    assert team._state[ALIVE] == 3
    team.stop()
    assert team._state[ALIVE] == 0
