"""How long a new Python process takes to a first result, compiling the kernels or loading them from the cache."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from .common import import_or_skip, sweep

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
# What somebody would write to train on digits in a file, in fastnn and in other libraries
DIGITS = {
    "fastnn": """
import numpy as np
import fastnn
data = np.load("digits.npz")
fastnn.MLP([64, 100, 10], seed=0).fit(data["X"], data["y"], 20, 200, progress=False)
""",
    "scikit-learn": """
import warnings
import numpy as np
from sklearn.neural_network import MLPClassifier
warnings.simplefilter("ignore")  # it has not converged
data = np.load("digits.npz")
MLPClassifier(100, batch_size=200, max_iter=20, tol=0, n_iter_no_change=20, random_state=0).fit(data["X"], data["y"])
""",
    "PyTorch": """
import numpy as np
import torch
data = np.load("digits.npz")
X, y = torch.from_numpy(data["X"]), torch.from_numpy(data["y"])
net = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
optimizer = torch.optim.Adam(net.parameters())
for epoch in range(20):
    order = torch.randperm(len(X))
    for rows in order.split(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(X[rows]), y[rows]).backward()
        optimizer.step()
""",
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


class Script:
    """Seconds from the start of the interpreter to a network trained on 1797 digits from a file, caches warm."""

    params = [sweep(*DIGITS)]
    param_names = ["library"]
    timeout = 600
    unit = "s"

    def setup(self, library: str) -> None:
        import_or_skip({"fastnn": "fastnn", "scikit-learn": "sklearn", "PyTorch": "torch"}[library])
        random = np.random.default_rng(0)
        X, y = random.random((1797, 64), np.float32), random.integers(0, 10, 1797)
        np.savez("digits.npz", X=X, y=y)  # asv runs this in a folder of its own
        self.command = [sys.executable, "-c", DIGITS[library]]
        _seconds(self.command)

    def track_script(self, library: str) -> float:
        return statistics.median(_seconds(self.command) for _ in range(WARM_STARTS))


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
