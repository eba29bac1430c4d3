"""The number of threads that makes steps soonest is found, and found again when that changes."""

import numpy as np
import pytest

from fastnn import MLP, Adam
from kernels.cpu import tuning
from kernels.cpu.threads import thread_choice
from kernels.cpu.threads.thread_choice import ThreadChoice
from kernels.cpu.tuning import FIRST_WAIT, MOST_WAIT, TRIAL_MULTIPLY_ADDS, TRIALS
from tests.oracle import random_arrays, random_labels

STEP = TRIAL_MULTIPLY_ADDS // 10  # the work of a step of which a trial has ten


class Machine:
    """One on which a step takes seconds[threads] seconds; notes what is run."""

    def __init__(self, monkeypatch, **seconds):
        self.seconds = {int(name[1:]): value for name, value in seconds.items()}
        self.now, self.parts = 100.0, []
        monkeypatch.setattr(thread_choice.time, "perf_counter", lambda: self.now)

    def run(self, choice, steps):
        """The number of threads of most of `steps` steps."""
        self.parts = []
        for threads, first, last in choice.parts(steps, 1):
            self.parts.append((threads, first, last))
            self.now += self.seconds[threads] * (last - first)
            choice.made(last - first)
        assert [first for _, first, _ in self.parts] == [0, *(last for _, _, last in self.parts[:-1])]
        assert self.parts[-1][2] == steps
        return max(self.parts, key=lambda part: part[2] - part[1])[0]


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({"t1": 2e-5, "t2": 1.2e-5, "t4": 1e-5}, 4),
        ({"t1": 2e-5, "t2": 1.2e-5, "t4": 3e-5}, 2),
        ({"t1": 2e-5, "t2": 4e-5, "t4": 8e-5}, 1),
        ({"t1": 2e-5, "t2": 1.99e-5, "t4": 1.98e-5}, 1),  # more threads that save next to nothing
    ],
)
def test_the_fastest_number_is_found(monkeypatch, seconds, best):
    machine, choice = Machine(monkeypatch, **seconds), ThreadChoice([1, 2, 4], STEP)
    assert machine.run(choice, 1000) == best
    assert [part[0] for part in machine.parts] == [4] * TRIALS + [2] * TRIALS + [1] * TRIALS + [best]
    assert [part[2] - part[1] for part in machine.parts[:-1]] == [10] * 3 * TRIALS
    assert choice.threads == best
    assert choice.settled


@pytest.mark.parametrize(("best", "seconds"), [(1, {"t1": 1e-5, "t2": 2e-5}), (2, {"t1": 2e-5, "t2": 1e-5})])
@pytest.mark.parametrize("steps", [1, 4, 10])
def test_a_trial_goes_on_in_the_next_call(monkeypatch, best, seconds, steps):
    machine, choice = Machine(monkeypatch, **seconds), ThreadChoice([1, 2], STEP)
    done, tried = 0, {1: 0, 2: 0}
    while not choice.settled:
        machine.run(choice, steps)
        machine.now += 1e-3  # what is between calls does not count
        done += steps
        for threads, first, last in machine.parts:
            tried[threads] += last - first
    assert done < 2 * TRIALS * 10 + steps
    assert min(tried.values()) >= TRIALS * 10
    assert machine.run(choice, 1) == best


def test_a_small_last_batch_counts_for_its_rows(monkeypatch):
    """Four rows a step but in every fifth, which has one."""
    machine, choice = Machine(monkeypatch, t1=2e-5, t2=1e-5), ThreadChoice([1, 2], STEP)
    rows = [4, 4, 4, 4, 1] * 100

    for threads, first, last in choice.parts(len(rows), 4):
        made = sum(rows[first:last])
        machine.now += machine.seconds[threads] * made
        machine.parts.append((threads, made))
        choice.made(made)
    assert {threads: round(seconds / 1e-5, 6) for threads, seconds in choice._best.items()} == {1: 2, 2: 1}
    assert all(made <= 13 for _, made in machine.parts[:-1])
    assert choice.threads == 2


def test_steps_of_changing_size_are_tried():
    engine = MLP([64, 64, 64, 10], threads=2, seed=0).engine()
    assert engine.thread_choice(64) is engine.thread_choice(100) is engine.thread_choice(127)
    assert engine.thread_choice(64) is not engine.thread_choice(63)
    assert engine.thread_choice(100).choices == [1, 2]


def test_one_number_is_not_tried(monkeypatch):
    machine, choice = Machine(monkeypatch, t3=1e-3), ThreadChoice([3], STEP)
    for _ in range(3):
        machine.now += 2 * MOST_WAIT
        assert machine.run(choice, 1000) == 3
        assert len(machine.parts) == 1


def test_it_is_asked_again_after_a_while(monkeypatch):
    machine, choice = Machine(monkeypatch, t1=2e-5, t2=1e-5), ThreadChoice([1, 2], STEP)
    assert machine.run(choice, 1000) == 2
    machine.seconds = {1: 1e-5, 2: 1.1e-5}  # not so much slower that it would be noticed
    assert machine.run(choice, 1000) == 2
    machine.now += MOST_WAIT
    machine.run(choice, 10)
    assert machine.run(choice, 1000) == 1


def test_it_is_asked_again_when_steps_become_slow(monkeypatch):
    machine, choice = Machine(monkeypatch, t1=2e-5, t2=1e-5), ThreadChoice([1, 2], STEP)
    machine.run(choice, 1000)
    machine.now += FIRST_WAIT
    machine.seconds[2] = 4e-5
    machine.run(choice, 1000)
    assert machine.run(choice, 1000) == 1


def test_the_wait_grows_while_the_answer_stays(monkeypatch):
    machine, choice = Machine(monkeypatch, t1=2e-5, t2=1e-5), ThreadChoice([1, 2], STEP)
    decided, ages = machine.now, []
    for _ in range(20_000):
        if not choice.settled and machine.run(choice, 1000) and choice.settled:
            ages.append(machine.now - decided)
            decided = machine.now
        machine.run(choice, 1000)
    assert len(ages) > 8
    assert np.all(np.diff(np.round(ages, 3)) >= 0)
    assert 0.9 * MOST_WAIT < ages[-1] < 1.1 * MOST_WAIT


def test_who_stays_asks_no_more(monkeypatch):
    machine, choice = Machine(monkeypatch, t1=2e-5, t2=1e-5), ThreadChoice([1, 2], STEP)
    machine.run(choice, 1000)
    choice.stay()
    machine.now += 2 * MOST_WAIT
    for _ in range(2):
        machine.run(choice, 1000)
        assert [part[0] for part in machine.parts] == [2]


@pytest.mark.parametrize("widths", [[30, 60, 40, 5], [64, 64, 64, 10]], ids=str)
def test_trials_change_no_bit(monkeypatch, widths):
    """Steps with dropout and clipping, in parts of one or two."""
    X, y = random_arrays(0, (700, widths[0]), dtype="float32")[0], random_labels(1, 700, widths[-1])
    results = []
    for threads, work in ((1, TRIAL_MULTIPLY_ADDS), (3, 2 * 64 * 64 * 100 * 3)):
        monkeypatch.setattr(tuning, "TRIAL_MULTIPLY_ADDS", work)
        model = MLP(widths, threads=threads, dropout=0.2, seed=0)
        history = model.fit(X, y, 4, 100, Adam(1e-3, clip_norm=0.5), l2=1e-3, progress=False)
        assert history.threads == threads
        results.append([model.parameters, history.loss, history.accuracy])
    for one, same in zip(*results, strict=True):
        np.testing.assert_array_equal(one, same)
