"""How numba-cuda's simulator runs the threads of a block: here it waits for them, where its own way is to poll."""

import random
import threading
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel

_order = random.Random(0)


class _Thread(kernel.BlockThread):
    """A thread that runs from one barrier to the next, or to its end, when it is told to."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.told, self.waits = threading.Lock(), threading.Lock()
        self.told.acquire()
        self.waits.acquire()
        self.ended = False

    def run(self) -> None:
        """Do what the kernel does; an exception is kept."""
        self.told.acquire()
        try:
            if not self.abort:
                super().run()
        finally:
            self.ended = True
            self.waits.release()

    def syncthreads(self) -> None:
        """Wait until all others have come to the barrier or to their end."""
        self.waits.release()
        self.told.acquire()
        if self.abort:
            raise RuntimeError("another thread of the block has failed")


def run_block(block: kernel.BlockManager, grid_point: tuple[int, ...], *args: Any) -> None:
    """Run the threads of a block, side by side and in any order; the first exception of one ends them all."""

    def work() -> None:
        block._f(*args)

    places = np.ndindex(*block._block_dim)
    threads = [_Thread(work, block, grid_point, place, block._debug) for place in places]
    for thread in threads:
        thread.start()
    going = threads
    while going:
        for thread in _order.sample(going, len(going)):
            thread.told.release()
        for thread in going:
            thread.waits.acquire()
        going = [thread for thread in going if not thread.ended]
        failures = [thread.exception for thread in threads if thread.exception]
        if failures:
            for thread in going:
                thread.abort = True
                thread.told.release()
            error, traceback = failures[0]
            raise error.with_traceback(traceback)
