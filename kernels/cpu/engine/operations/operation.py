"""What an operation is: a kernel that does one tile of a phase."""

from typing import Protocol

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Index
from kernels.cpu.engine.job import rows_of


class Operation(Protocol):
    """One tile of a phase, in a step of a job.

    address: the job's. at: the phase's. slot: the thread's number. times: its record of the clock, or 0.
    """

    def __call__(
        self, address: Address, at: Address, step: Index, tile: Index, slot: Index, times: Address
    ) -> None: ...


@jit.inline
def rows_of_tile(job, phase, step, tile):
    """(first row, rows) of a tile of whole rows, among those of the step's batch."""
    row = tile * phase.rows
    return row, min(phase.rows, rows_of(job, step) - row)
