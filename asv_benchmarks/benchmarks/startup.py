"""How long a new Python process takes to a first result, compiling the kernels or loading them from the cache."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

from .common import import_or_skip, sweep

# ./check runs the first: the one that shows a cold start and compiles least
PROGRAMS = {
    "linear": """
import numpy as np
import kernels
kernels.linear(np.ones((4, 4), np.float32), np.ones((4, 4), np.float32))
""",
    "fit": """
import numpy as np
import fastnn
X = np.random.default_rng(0).random((64, 4), np.float32)
fastnn.MLP([4, 8, 2], seed=0).fit(X, np.arange(64) % 2, progress=False)
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
    "JAX": """
import numpy as np
import jax
import jax.numpy as jnp
data = np.load("digits.npz")
X, y = jnp.asarray(data["X"]), jnp.asarray(data["y"])
keys = jax.random.split(jax.random.key(0), 22)
sizes = (64, 100, 10)
layers = [(jax.random.normal(k, (a, b)) * (2 / a) ** 0.5, jnp.zeros(b)) for k, a, b in zip(keys, sizes, sizes[1:])]
def loss(layers, X, y):
    (w1, b1), (w2, b2) = layers
    log_p = jax.nn.log_softmax(jax.nn.relu(X @ w1 + b1) @ w2 + b2)
    return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], 1))
def step(state, rows):
    layers, m, v, t = state
    gradient, t = jax.grad(loss)(layers, X[rows], y[rows]), t + 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradient)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradient)
    rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    return (jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), layers, m, v), m, v, t), None
@jax.jit
def epoch(state, key):
    return jax.lax.scan(step, state, jax.random.permutation(key, len(X))[:1600].reshape(-1, 200))[0]
zeros = jax.tree.map(jnp.zeros_like, layers)
state = layers, zeros, zeros, jnp.zeros(())
for key in keys[2:]:
    state = epoch(state, key)
jax.block_until_ready(state)
""",
}
# What the process itself has held at most, in KiB: what getrusage says of it counts the process that it was forked from
PEAK = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
WARM_STARTS = len(sweep(*range(5)))


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
    """A process that trains a network on 1797 digits from a file, caches warm: its seconds, and its memory."""

    params = [sweep(*DIGITS)]
    param_names = ["library"]
    timeout = 600

    def setup(self, library: str) -> None:
        import_or_skip({"fastnn": "fastnn", "scikit-learn": "sklearn", "PyTorch": "torch", "JAX": "jax"}[library])
        random = np.random.default_rng(0)
        X, y = random.random((1797, 64), np.float32), random.integers(0, 10, 1797)
        np.savez("digits.npz", X=X, y=y)  # asv runs this in a folder of its own
        self.command = [sys.executable, "-c", DIGITS[library]]
        _seconds(self.command)

    def track_script(self, library: str) -> float:
        return statistics.median(_seconds(self.command) for _ in range(WARM_STARTS))

    def track_memory(self, library: str) -> float:
        command = [*self.command[:-1], self.command[-1] + PEAK]
        return 1024 * int(subprocess.run(command, check=True, capture_output=True).stdout)

    track_script.unit = "s"  # type: ignore[attr-defined]
    track_memory.unit = "bytes at most"  # type: ignore[attr-defined]


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
