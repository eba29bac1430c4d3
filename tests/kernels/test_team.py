"""The team of threads: who comes to the work."""

import time

import numpy as np
import pytest

from kernels.cpu import jit, memory
from kernels.cpu.team import COMING, Team

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


def test_a_helper_that_wakes_before_there_is_work_stays_for_it(monkeypatch):
    """As when the helper wakes on the caller's core, and something else runs on the others."""
    team, count = Team(), np.zeros(1, np.int64)
    wake = team._wake

    def wake_and_lose_the_core(helpers):
        wake(helpers)
        time.sleep(0.1)

    monkeypatch.setattr(team, "_wake", wake_and_lose_the_core)
    for _ in range(3):
        count[0] = 0
        team.run(meet["float32"], count.ctypes.data, 2)
        assert count[0] >= 2  # more where the helper comes again before the caller has left
        time.sleep(0.1)  # the helper falls asleep
    team.stop()


def test_no_work_is_coming_after_an_interrupt(monkeypatch):
    team, count = Team(), np.zeros(1, np.int64)
    team.run(meet["float32"], count.ctypes.data, 2)
    wake = team._wake

    def wake_and_be_interrupted(helpers):
        wake(helpers)
        raise KeyboardInterrupt

    monkeypatch.setattr(team, "_wake", wake_and_be_interrupted)
    with pytest.raises(KeyboardInterrupt):
        team.run(meet["float32"], count.ctypes.data, 2)
    assert team._state[COMING] == 0
    team.stop()
