"""What the benchmark modules share: preparing once, threads, sampling, values of parameters."""

import functools
import importlib
import os
import time
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numba

# How long the calls of one sample take together: less than the scheduler's time slice, so that where other programs
# run, most samples are still undisturbed and their median is right.
SAMPLE_SECONDS = 0.002


class Sampled:
    """How a benchmark of this package is sampled.

    A process has a speed of its own (where its arrays lie, what else runs), so there are several: asv starts one per
    round, and with --interleave-rounds takes the rounds of two commits in turn. Each takes 50 samples, or as many as
    there is time for in 0.3 s, but at least 2.
    """

    rounds = 4
    repeat = (2, 50, 0.3)
    warmup_time = 0.1
    timeout = 600


def once(setup: Callable[..., Callable[[], Any]]) -> Callable[..., None]:
    """Make asv's `setup` of a method that prepares everything and returns the call to time.

    asv (asv_runner 0.3) runs `setup` before every timed call. Here the first one alone does something: it prepares,
    leaves the call in `self.call`, makes it once, which compiles, and sets how many calls are one sample.
    """

    @functools.wraps(setup)
    def prepare(self: Any, *params: Any) -> None:
        if hasattr(self, "call"):
            return
        call = setup(self, *params)
        call()
        start = time.perf_counter()
        call()
        self.number = max(1, int(SAMPLE_SECONDS / (time.perf_counter() - start)))
        self.call = call

    return prepare


def sweep(*values: Any) -> Sequence[Any]:
    """The values of a benchmark's parameter; with FASTNN_BENCHMARKS=first in the environment the first alone."""
    return values[:1] if os.environ.get("FASTNN_BENCHMARKS") == "first" else values


def use_threads(threads: int) -> None:
    """Let `kernels` use `threads` threads; skip the benchmark where this process has fewer cores."""
    cores = len(os.sched_getaffinity(0))
    if threads > cores:
        raise NotImplementedError(f"{threads} threads on {cores} cores")
    numba.config.NUMBA_NUM_THREADS = threads


def import_or_skip(name: str) -> ModuleType:
    """Import and return the module `name`; where it is missing, skip the benchmark whose `setup` calls this.

    asv counts a benchmark as skipped, not as failed, when its `setup` raises NotImplementedError.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotImplementedError(f"{name} is not installed") from error
