"""Gathering a batch: rows by index, out of an array of any number type, into the network's dtype."""

from typing import Any

import numpy as np

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.jit import cuda
from kernels.cuda.engine import job as fields

SOURCES = {  # by what an array's elements are, the type to read; see memory.place for bool and float16
    np.dtype(name): name
    for name in (
        "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    )
}  # fmt: skip


@jit.kernel
def gather(real: Any, source_type: str) -> Any:
    """source, order, work, job: the batch's rows (rows, X_COLUMNS), converted, into work.

    A thread takes an element.
    """

    def function(source, order, work, job):
        columns = job[fields.X_COLUMNS]
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < fields.rows_of(job):
            row = fields.row_of(job, order, i)
            work[job[fields.X] + i * job[fields.LDX] + j] = real(source[row * columns + j])

    return function, f"{source_type} I R I", jit.THREADS
