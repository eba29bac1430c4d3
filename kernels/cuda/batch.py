"""Gathering a batch: rows by index, out of an array of any number type, into the network's dtype."""

from typing import Any

import numpy as np

from . import jit
from .jit import cuda
from .job import BATCH, LDX, X, X_COLUMNS, row_of, rows_of

SOURCES = {  # by what an array's elements are: the element type to read. float16 is converted on the way to the device
    np.dtype(name): name
    for name in (
        "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    )
}  # fmt: skip


@jit.kernel
def gather(real: Any, source_type: str) -> Any:
    """source, order, work, job, step: the batch's rows (rows, X_COLUMNS), converted, into work. A thread per element."""

    def function(source, order, work, job, step):
        columns = job[X_COLUMNS]
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows_of(job, step):
            row = row_of(job, order, step * job[BATCH] + i)
            work[job[X] + i * job[LDX] + j] = real(source[row * columns + j])

    return function, f"{source_type} I R I i", jit.THREADS
