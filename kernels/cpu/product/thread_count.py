"""How many threads a product uses."""

from kernels.cpu.threads import workers as teams

# Multiply-adds below which a thread more brings nothing: see team.BRIEF
WORK_PER_THREAD = 1 << 19


def threads_for(multiply_adds: int) -> int:
    """How many threads a product of so many multiply-adds uses."""
    threads = max(1, min(teams.default_threads(), multiply_adds // WORK_PER_THREAD))
    return threads if threads == 1 or teams.team.worth(multiply_adds) else 1
