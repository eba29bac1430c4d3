"""An engine that also says how long each phase of its training steps takes: the same code, with a clock in it."""

import time
from typing import Any

import numpy as np

from kernels.cpu.compiler import jit
from kernels.cpu.engine.engine import Engine
from kernels.cpu.engine.schedule import StepSchedule
from kernels.cpu.measure import stamps
from kernels.layout import address, aligned_zeros


class TimedEngine(Engine):
    """Trains as an engine does. seconds: what its jobs have taken so far."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seconds = 0.0
        n_words = self.threads * stamps.record_words(len(self.memory.layers))
        self._records = aligned_zeros(n_words, np.int64)
        self._job.times = address(self._records)

    def _run(self, threads: int, first: int, last: int, cost: int, flush: bool) -> None:
        start = time.perf_counter()
        super()._run(threads, first, last, cost, flush)
        self.seconds += time.perf_counter() - start

    @property
    def ticks(self) -> np.ndarray:
        """Ticks of the clock (layers, phases) so far, of all threads together; see `stamps.PHASES`."""
        return stamps.by_layer(self._records, len(self.memory.layers))

    @property
    def schedule(self) -> StepSchedule:
        """The schedule of the last step."""
        assert self.memory.schedule is not None
        return self.memory.schedule

    @property
    def gathers_x(self) -> bool:
        """Whether the last step copied its rows of X, instead of reading them in place."""
        return bool(self._job.x_gather)

    def activates(self, layer: int) -> bool:
        """Whether a layer's activation is not a part of its product."""
        return bool(self.memory.layers[layer].activate)

    def product(self, layer: int) -> jit.Family | None:
        """What multiplied in a layer in the last step; None in one that is no product."""
        if layer not in self.memory.products:
            return None
        return self.memory.product(layer, self.schedule.rows).family

    @property
    def touched_bytes(self) -> int:
        """Bytes of what steps so far have read and written, the data and the optimiser's state left out."""
        memory = self.memory
        transposed = [array for _, array in memory.transposed.values()]
        arrays = self.parameters, *transposed, *memory.buffers, memory.scratch, memory.group_gradients
        return sum(array.nbytes for array in arrays)
