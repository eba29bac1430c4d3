"""Dropout: elements of a layer's output become 0 in training, the others grow (Srivastava et al. 2014, inverted)."""

from typing import Any, Protocol

import numpy as np

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Flag, Index, Size, Stride
from kernels.cpu.engine.job import job_at, layer_of
from kernels.cpu.ir import floats, memory
from kernels.deferred import types
from kernels.maths import random


class Dropout(Protocol):
    """target (rows, columns) = source, with 0 where layer `n` drops, and divided by the share that stays; overwritten.

    Both have rows `ld` bytes apart, and target may be source. job: its address. first, column: of
    the first element, among those of the step's batch and of the layer. drawn 0: what is dropped is 0 already, and
    target is source.
    """

    def __call__(
        self, job: Address, n: Index, step: Index, first: Index, rows: Size, column: Index, columns: Size,
        source: Address, target: Address, ld: Stride, drawn: Flag,
    ) -> None: ...  # fmt: skip


@jit.kernel(like=Dropout)
def dropout(real: Any) -> Any:
    """By the bits of kernels.maths.random: the same for source and target, a layer's output or its gradient."""
    philox, select = random.philox(jit.plain), floats.bits(real).select
    elements, numbers = memory.pointer(real), memory.pointer(types.uint32)
    zero, low, half = real(0.0), random.LOW, random.HALF
    n_words, block = random.WORDS, tuning.DROPOUT_COLUMNS

    def function(job, n, step, first, rows, column, columns, source, target, ld, drawn):
        record = job_at(job)
        layer = layer_of(record, n)
        limit = np.uint32(layer.drop_limit)
        scale = real(4294967296.0) / real(4294967296 - layer.drop_limit)
        if drawn == 0:
            for r in range(rows):
                y = elements(target + r * ld)
                for j in range(columns):
                    y[j] = y[j] * scale
            return
        words = memory.stack(4096)
        w0, w1, w2, w3 = (
            numbers(words), numbers(words + block * 4), numbers(words + 2 * block * 4), numbers(words + 3 * block * 4),
        )  # fmt: skip
        key0, key1 = np.uint64(record.seed) & low, np.uint64(record.seed) >> half
        number = np.uint64(record.first_step + step)
        for group in range(first // n_words, (first + rows + n_words - 1) // n_words):
            for j0 in range(0, columns, block):
                width = min(block, columns - j0)
                for j in range(width):
                    c0, c1, c2, c3 = philox(
                        np.uint64(column + j0 + j), np.uint64(group), number, np.uint64(n), key0, key1
                    )  # fmt: skip
                    w0[j], w1[j], w2[j], w3[j] = np.uint32(c0), np.uint32(c1), np.uint32(c2), np.uint32(c3)
                for row in range(max(first, group * n_words), min(first + rows, (group + 1) * n_words)):
                    at = (row - first) * ld
                    x, y, w = elements(source + at), elements(target + at), numbers(words + row % n_words * block * 4)
                    if source == target:  # in place has a loop of its own, see elementwise
                        for j in range(width):
                            y[j0 + j] = select(w[j] >= limit, y[j0 + j] * scale, zero)
                    else:
                        for j in range(width):
                            y[j0 + j] = select(w[j] >= limit, x[j0 + j] * scale, zero)

    return function
