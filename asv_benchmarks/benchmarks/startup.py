"""How long a new Python process takes to a first result, compiling the kernels or loading them from the cache."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from .common import sweep

PROGRAMS = {
    "fit": """
import numpy as np
import fastnn
X = np.random.default_rng(0).random((64, 4), np.float32)
fastnn.MLP([4, 8, 2], seed=0).fit(X, np.arange(64) % 2, progress=False)
""",
    "linear": """
import numpy as np
import kernels
kernels.linear(np.ones((4, 4), np.float32), np.ones((4, 4), np.float32))
""",
    "import": "import fastnn; fastnn.MLP",
}
WARM_STARTS = 5


class Startup:
    """Seconds from the start of the interpreter to its end: with an empty cache, and the median of five after that."""

    params = [sweep(*PROGRAMS)]
    param_names = ["program"]

    def setup_cache(self) -> dict[str, list[float]]:
        seconds = {}
        for program in self.params[0]:
            command = [sys.executable, "-c", PROGRAMS[program]]
            with tempfile.TemporaryDirectory() as folder:
                seconds[program] = [_seconds(command, NUMBA_CACHE_DIR=folder) for _ in range(1 + WARM_STARTS)]
        return seconds

    def track_cold(self, seconds: dict[str, list[float]], program: str) -> float:
        return seconds[program][0]

    def track_warm(self, seconds: dict[str, list[float]], program: str) -> float:
        return statistics.median(seconds[program][1:])

    setup_cache.timeout = 600  # type: ignore[attr-defined]
    unit = "s"


class Command:
    """Seconds that the command line takes to say what it can do."""

    unit = "s"

    def track_help(self) -> float:
        command = [sys.executable, "-m", "fastnn", "--help"]
        return statistics.median(_seconds(command) for _ in range(WARM_STARTS))


def _seconds(command: list[str], **environment: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start
