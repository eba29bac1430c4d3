"""A clock inside kernels: how long each phase of each layer takes each thread, in ticks of a counter of the core."""

from typing import Any

import numpy as np

from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.deferred import cgutils, intrinsic, ir, types

# What a step does, in order. `derivative` is dz = dy * f'(.) of an activation, which `activation` is the forward of;
# `sum` adds up the dw of gradient groups, `clip` is done to the whole gradient and counts as layer 0's
PHASES = ("gather", "forward", "activation", "loss", "dx", "derivative", "dw", "sum", "clip", "update", "transpose")
GATHER, FORWARD, ACTIVATION, LOSS, DX, DERIVATIVE, DW, SUM, CLIP, UPDATE, TRANSPOSE = range(len(PHASES))
CLAIMED = 15  # stamped when a tile is claimed: what was before is no phase's
# A thread's record: the tick of its last stamp, HEAD words long; then WORDS words for each layer
HEAD, WORDS = 8, 16

integers = memory.pointer("int64")


def read_counter(builder: Any) -> Any:
    """Write the code that reads LLVM's cycle counter: the time-stamp counter on x86, the virtual timer on Arm."""
    fnty = ir.FunctionType(ir.IntType(64), [])
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, "llvm.readcyclecounter"), [])


@intrinsic
def ticks(typingctx: Any) -> Any:
    """A counter that runs at a constant rate."""
    return types.int64(), lambda context, builder, sig, args: read_counter(builder)


@jit.inline
def stamp(record, layer, phase):
    """What has passed since the thread's last stamp belongs to this phase; without a record, nothing happens."""
    if record != 0:
        words, now = integers(record), ticks()
        words[HEAD + WORDS * layer + phase] += now - words[0]
        words[0] = now


@jit.kernel
def now(real: Any) -> Any:
    """The counter."""

    def function() -> int:
        return ticks()

    return function


def record_words(n_layers: int) -> int:
    """The length of one thread's record."""
    return HEAD + WORDS * n_layers


def by_layer(records: np.ndarray, n_layers: int) -> np.ndarray:
    """Ticks (n_layers, phases) of all threads together."""
    table = records.reshape(-1, record_words(n_layers))[:, HEAD:].sum(0)
    return table.reshape(n_layers, WORDS)[:, : len(PHASES)]
