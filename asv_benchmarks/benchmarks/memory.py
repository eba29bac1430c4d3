"""The most memory that a process has held: interpreter, imports and data included."""

import subprocess
import sys

import numpy as np

import fastnn

from .common import sweep
from .startup import PROGRAMS
from .workloads import WORKLOADS


class Memory:
    """Peaks on 2 threads. `import` and `data` are what the others stand on: fit and predict add their own to `data`.

    The compiler's memory is not in them: setup lets another process fill the cache.
    """

    timeout = 600
    params = [sweep("mnist", "wide"), sweep("float32", "uint8")]
    param_names = ["workload", "dtype"]

    def setup(self, name: str, dtype: str) -> None:
        subprocess.run([sys.executable, "-c", PROGRAMS["fit"]], check=True)
        workload = self.workload = WORKLOADS[name]
        self.rows = 16 * workload.batch_size  # the same arrays in both dtypes, made without a larger one on the way
        self.X = np.zeros((self.rows, workload.layers[0]), dtype)
        self.X += np.random.default_rng(0).integers(0, 2, self.X.shape, np.uint8)
        self.y = np.arange(self.rows) % workload.layers[-1]

    def peakmem_data(self, name: str, dtype: str) -> None:
        pass

    def peakmem_fit(self, name: str, dtype: str) -> None:
        w = self.workload
        w.model(threads=2).fit(self.X, self.y, 1, w.batch_size, w.optimizer, progress=False)

    def peakmem_predict(self, name: str, dtype: str) -> None:
        self.workload.model(threads=2).predict(self.X)


def peakmem_import() -> None:
    """What a process holds that has imported fastnn, the benchmarks and what they import."""
    assert fastnn.MLP
