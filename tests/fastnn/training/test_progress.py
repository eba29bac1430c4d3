"""What fit says: nothing, lines on stderr, or a bar."""

import builtins
import os
import pty
import re
import subprocess
import sys
import termios
import textwrap

import numpy as np
import pytest

from fastnn import MLP
from fastnn.training import progress
from fastnn.training.observers import Epoch
from fastnn.training.progress import Progress
from tests.programs import PATIENCE, environment

X, Y = np.ones((8, 3), np.float32), np.arange(8) % 2


class Clock:
    """Time that passes when it is told to."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_full_disk_ends_no_training(monkeypatch):
    with open("/dev/full", "w", buffering=1) as full, open(os.devnull, "w") as nothing:
        monkeypatch.setattr(sys, "stderr", full)
        history = MLP([3, 2]).fit(X, Y, 3)
        os.dup2(nothing.fileno(), full.fileno())  # what is still in the buffer can be written now
    assert history.epochs == 3


def test_silence(capsys):
    MLP([3, 2]).fit(X, Y, 3, progress=False)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("asked", [{}, {"progress": None}])
def test_lines_where_nobody_sees_a_bar(capsys, asked):
    MLP([3, 2], init="zeros", seed=0).fit(X, Y, 3, 4, "sgd", validation_data=(X, Y), **asked)
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("compil")]
    number = r"[01](\.\d{1,4})?"
    assert re.fullmatch(
        f"epoch 1/3: loss {number}, accuracy {number}, val_loss {number}, val_accuracy {number}", lines[0]
    )
    assert lines[-1].startswith("epoch 3/3: ")


def test_a_line_a_second_and_the_last(capsys, clock):
    with Progress(None, 10, 1) as report:
        for epoch in range(10):
            report.epoch_ended(Epoch(epoch, {"loss": epoch / 3}))
            clock.now += 0.4
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/10: loss 0", "epoch 4/10: loss 1", "epoch 7/10: loss 2", "epoch 10/10: loss 3",
    ]  # fmt: skip


def test_the_last_line_is_said_when_training_ends_early(capsys, clock):
    report = Progress(None, 10, 1)
    report.epoch_ended(Epoch(0, {"loss": 1.0}))
    report.epoch_ended(Epoch(1, {"loss": 2.0}))
    report.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert capsys.readouterr().err.splitlines() == ["epoch 1/10: loss 1", "epoch 2/10: loss 2"]


def test_lines_without_the_library_of_the_bar(capsys, monkeypatch):
    real = builtins.__import__

    def without_tqdm(name, *args, **options):
        if name.startswith("tqdm"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    MLP([3, 2]).fit(X, Y, 1, progress=True)
    assert capsys.readouterr().err.startswith("epoch 1/1: loss ")


def test_a_bar_on_request(capsys):
    MLP([3, 2], init="zeros", seed=0).fit(X, Y, 2, 4, progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch 2/2: 100%" in err
    assert "4/4" in err  # steps
    assert "loss 0." in err


def test_without_stderr(monkeypatch):
    """As under pythonw on Windows."""
    monkeypatch.setattr(sys, "stderr", None)
    assert MLP([3, 2]).fit(X, Y).epochs == 1


PROGRAM = textwrap.dedent("""
    import numpy as np, fastnn
    X = np.ones((64, 3), np.float32)
    fastnn.MLP([3, 2]).fit(X, np.arange(64) % 2, 4, 8, {asked})
    print("done")
""")


def in_a_terminal(program):
    """What a program writes to its pseudo-terminal, and to stdout, which is none."""
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 120))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        stderr=end,
        stdout=subprocess.PIPE,
        env=environment(TERM="xterm"),
    )
    os.close(end)
    seen = b""
    while True:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # Linux: the other end is closed
            break
    os.close(terminal)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, seen.decode()
    return seen.decode(), out.decode()


def test_a_bar_in_a_terminal():
    seen, out = in_a_terminal(PROGRAM.format(asked=""))
    assert out == "done\n"
    assert "\r" in seen
    assert "epoch 4/4: 100%" in seen
    assert "32/32" in seen


def test_silence_in_a_terminal():
    assert in_a_terminal(PROGRAM.format(asked="progress=False")) == ("", "done\n")
