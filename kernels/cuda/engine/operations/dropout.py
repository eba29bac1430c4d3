"""Dropout: elements of a layer's output become 0 in training, the others grow (Srivastava et al. 2014, inverted)."""

from typing import Any

import numpy as np

from kernels import random
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine import job as fields


@jit.kernel
def dropout(real: Any) -> Any:
    """work, job, record's number: c (rows, n) = a, 0 where layer K drops by LIMIT, the rest grown accordingly.

    By the bits of kernels.random, so that a layer's gradient is dropped as its output was; c may be a. A thread takes
    the rows of a column that share a counter.
    """
    philox, zero, n_words, low, half = random.philox(jit.inline), real(0.0), random.WORDS, random.LOW, random.HALF

    @jit.inline
    def write(work, job, at, row, rows, j, word, limit, scale):
        if row < rows:
            value = work[job[at + fields.A] + row * job[at + fields.LDA] + j] * scale
            stays = np.uint32(word & low) >= limit
            work[job[at + fields.C] + row * job[at + fields.LDC] + j] = value if stays else zero

    def function(work, job, number):
        at, rows = fields.HEADER + number * fields.RECORD, fields.rows_of(job)
        e, n = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x, job[at + fields.N]
        group, j, seed = e // n, e % n, np.uint64(job[fields.SEED])
        row = group * n_words
        if row < rows:
            w0, w1, w2, w3 = philox(
                np.uint64(j), np.uint64(group), np.uint64(job[fields.FIRST_STEP] + job[fields.STEP]),
                np.uint64(job[at + fields.K]), seed & low, seed >> half,
            )  # fmt: skip
            limit = np.uint32(job[at + fields.LIMIT])
            scale = real(4294967296.0) / real(4294967296 - job[at + fields.LIMIT])
            write(work, job, at, row, rows, j, w0, limit, scale)
            write(work, job, at, row + 1, rows, j, w1, limit, scale)
            write(work, job, at, row + 2, rows, j, w2, limit, scale)
            write(work, job, at, row + 3, rows, j, w3, limit, scale)

    return function, "R I i", jit.THREADS
