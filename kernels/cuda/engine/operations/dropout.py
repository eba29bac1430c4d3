"""Dropout: elements of a layer's output become 0 in training, the others grow (Srivastava et al. 2014, inverted)."""

from typing import Any

import numpy as np

from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Offset, Real
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import drop_at, job_of, rows_of
from kernels.maths import random


@jit.kernel
def dropout(real: Any) -> Any:
    """The `Drop` at words[at] is done in work, what stays grows accordingly.

    By the bits of kernels.maths.random, so that a layer's gradient is dropped as its output was; target may be source.
    A thread takes the rows of a column that share a counter.
    """
    philox, zero, n_words, low, half = random.philox(jit.inline), real(0.0), random.WORDS, random.LOW, random.HALF

    @jit.inline
    def write(work, drop, row, rows, j, word, limit, scale):
        if row < rows:
            at = row * drop.row + j
            value = work[drop.source + at] * scale
            stays = np.uint32(word & low) >= limit
            work[drop.target + at] = value if stays else zero

    def function(work: Array[Real], words: Array[int], at: Offset) -> None:
        job, drop = job_of(words), drop_at(words, at)
        e, n, rows = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, drop.columns, rows_of(job)
        group, j, seed = e // n, e % n, np.uint64(job.seed)
        row = group * n_words
        if row < rows:
            w0, w1, w2, w3 = philox(
                np.uint64(j), np.uint64(group), np.uint64(job.first_step + job.step),
                np.uint64(drop.layer), seed & low, seed >> half,
            )  # fmt: skip
            limit = np.uint32(drop.limit)
            scale = real(4294967296.0) / real(4294967296 - drop.limit)
            write(work, drop, row, rows, j, w0, limit, scale)
            write(work, drop, row + 1, rows, j, w1, limit, scale)
            write(work, drop, row + 2, rows, j, w2, limit, scale)
            write(work, drop, row + 3, rows, j, w3, limit, scale)

    return function, tuning.THREADS
