"""How many threads a product uses."""

from kernels.cpu import tuning
from kernels.cpu.threads import workers as teams


def threads_for(multiply_adds: int) -> int:
    """How many threads a product of this size uses."""
    threads = max(1, min(teams.default_threads(), multiply_adds // tuning.MULTIPLY_ADDS_PER_THREAD))
    return threads if threads == 1 or teams.team.worth(multiply_adds) else 1
