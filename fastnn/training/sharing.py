"""Trainings that run at once in one process share its threads, so that no core has more than one."""

from typing import Any

from kernels.process import forks

_running: set["ThreadShare"] = set()


class ThreadShare:
    """One training's part of the threads; a context manager around it.

    Its engine gets as many threads as it was made for, divided by the number of trainings that run at the time of
    `take`. The results are the same bits with any number. In the child of a fork those count that go on there.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine

    def __enter__(self) -> "ThreadShare":
        self.take()
        return self

    def take(self) -> None:
        """Adjust to the trainings that have begun or ended since; called between slices of steps."""
        _running.add(self)
        self.engine.threads = max(1, self.engine.most_threads // len(_running))

    def __exit__(self, *error: Any) -> None:
        _running.discard(self)
        self.engine.threads = self.engine.most_threads


forks.in_child(_running.clear)
