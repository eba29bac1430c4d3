"""The scheduler: a whole network in compiled code, run by any number of threads.

A call is described by a job (see job.py), so that one specialisation per dtype serves every architecture. The job is a
list of phases. The first come once, the others in every step. A phase is a number of tiles, which may be done in any
order and by any thread. `schedule` says which phases there are. A phase has the address of the operation that does its
tiles.

Threads claim tiles from one atomic word (phase << 32 | next tile). Whoever finishes a phase's last tile opens the next
phase. A thread is waited for only while it holds a tile, so one that comes late, or never, costs nothing.

No result depends on who does what. A row's results do not depend on its chunk. Each element of dw is one sum over the
batch in order, or over gradient groups that depend on the sizes alone, added in order. Losses are summed in the order
of rows.

A job that is told to stop is given up: threads look at that word whenever they have claimed a tile, and between any two
parts of a product above tuning.PART_BYTES. What a tile was to compute is then missing, and so no tile of
weights is updated any more. Those of the same step that came before have been: each by its whole gradient.

Subnormal numbers count as zero in training. Where a gradient vanishes or a unit is dead, Adam's running means decay
into them, and an operation on a subnormal number takes many times as long.
"""

from collections.abc import Callable
from typing import Any

from kernels.cpu import tuning
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.records import record_address
from kernels.cpu.engine.job import DONE, PHASE_BYTES, SLOTS, TICKET, job_at, phase_at, rows_of, stopped
from kernels.cpu.engine.operations.operation import Operation
from kernels.cpu.ir import floats, memory
from kernels.cpu.ir.floats import FLUSH_SUBNORMALS
from kernels.cpu.measure import stamps
from kernels.cpu.threads.workers import Work

LOW = (1 << 32) - 1  # of the ticket: phase << 32 | next tile


@jit.kernel(like=Work)
def run_job(real: Any) -> Callable[..., Any]:
    """Run a job, with whoever else runs it; returns when no tile is left to claim."""
    run = calls.by_address(Operation, real)

    @jit.inline
    def tiles_of(job, phase, step):
        rows = rows_of(job, step)
        if rows <= phase.rows or phase.rows == 0:
            return phase.across
        return (rows + phase.rows - 1) // phase.rows * phase.across

    def function(address):
        job = job_at(address)
        last, alone = job.once + job.each_step, job.alone != 0
        mode = floats.mode()
        if job.flush != 0:
            floats.set_mode(mode | FLUSH_SUBNORMALS)
        slot = memory.fetch_add(address + SLOTS, 1)
        times = job.times
        if times != 0:
            times += slot * (stamps.HEAD + stamps.WORDS * job.n_layers) * 8
        opened, step, n, phase, tiles, tile = -1, job.begin, -1, phase_at(job.phases), 0, -1
        waited = 0
        while True:
            if alone:
                tile += 1
                now = opened if tile < tiles else opened + 1
                tile = tile if tile < tiles else 0
            else:
                ticket = memory.fetch_add(address + TICKET, 1)
                now, tile = ticket >> 32, ticket & LOW
            if stopped(job):  # after the claim: all that this tile reads was whole just now
                break
            if now != opened:
                n += now - opened  # in the list of phases, which begins anew with every step
                opened = now
                while n >= last and step < job.end:
                    n -= job.each_step
                    step += 1
                if step == job.end:
                    break
                phase = phase_at(job.phases + n * PHASE_BYTES)
                tiles = tiles_of(job, phase, step)
            if tile >= tiles:  # all taken: wait for the phase to end
                spins, since = 0, stamps.ticks()
                while not alone and memory.load(address + TICKET) >> 32 == opened and not stopped(job):
                    spins = memory.wait(spins)
                if spins > tuning.PAUSES:
                    waited += stamps.ticks() - since
                continue
            stamps.stamp(times, 0, stamps.CLAIMED)
            run(phase.operation, address, record_address(phase), step, tile, slot, times)
            if not alone and memory.fetch_add(address + DONE, 1) == tiles - 1:
                memory.store(address + DONE, 0)
                memory.store(address + TICKET, (opened + 1) << 32)
        floats.set_mode(mode)
        if waited > 0:
            memory.fetch_add(job.waited, waited)

    return function
