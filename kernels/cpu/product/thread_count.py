"""How many threads a product uses."""

from kernels.cpu import tuning
from kernels.cpu.threads import workers


def threads_for(multiply_adds: int) -> int:
    """How many threads a product of this size uses."""
    threads = max(1, min(workers.default_threads(), multiply_adds // tuning.MULTIPLY_ADDS_PER_THREAD))
    return threads if threads == 1 or workers.of_process.worth_waking(multiply_adds) else 1
