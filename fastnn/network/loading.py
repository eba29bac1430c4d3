"""Loading what an engine runs."""

import time
from collections.abc import Callable
from typing import Any

from kernels.engine.requests import Needs
from kernels.process import announcing, forks

_compiling = forks.lock()  # a signal handler may use a model, too


def load_kernels(engine: Any, say: Callable[[str], None], needs: Needs) -> float:
    """Load what the engine runs, and `say` so where it has to be compiled. Returns the seconds that compiling took."""
    announced = False

    def tell() -> None:
        nonlocal announced
        if not announced:
            announced = True
            say("compiling kernels once ...")

    with _compiling:
        start = time.perf_counter()
        with announcing.announced_to(tell):
            engine.load(needs)
    if not announced:
        return 0.0
    seconds = time.perf_counter() - start
    say(f"compiled in {seconds:.1f} s, and cached for later programs")
    return seconds
