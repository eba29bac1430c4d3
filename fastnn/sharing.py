"""Trainings that run at once in one process share its threads, so that no core has more than one."""

import os
import threading
from typing import Any

_lock = threading.RLock()
_running = 0


class Share:
    """One training's part of the threads; a context manager around it.

    Its engine gets as many threads as it was made for, divided by the number of trainings that run at the time of
    `take`. The results are the same bits with any number.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __enter__(self) -> "Share":
        _count(1)
        self.take()
        return self

    def take(self) -> None:
        """Adjust to the trainings that have begun or ended since; called between slices of steps."""
        self.engine.threads = max(1, self.engine.most_threads // _running)

    def __exit__(self, *error: Any) -> None:
        _count(-1)
        self.engine.threads = self.engine.most_threads


def _count(change: int) -> None:
    global _running
    with _lock:
        _running += change


def _after_fork() -> None:
    global _lock, _running
    _lock, _running = threading.RLock(), 0  # a child has the caller's thread alone


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
