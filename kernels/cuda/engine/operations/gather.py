"""Gathering a batch: rows by index, out of an array of any number type, into the network's dtype."""

from typing import Any

import numpy as np

from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Data, Index, Real
from kernels.cuda.compiler.target import cuda
from kernels.cuda.engine.job import job_of, row_of, rows_of

SOURCES = {  # by what an array's elements are, the type to read; see memory.place for bool and float16
    np.dtype(name): name
    for name in (
        "float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
    )
}  # fmt: skip


@jit.kernel
def gather(real: Any, source_type: str) -> Any:
    """The batch's rows (rows, x_columns) of source, converted, into work. A thread takes an element."""

    def function(source: Array[Data], order: Array[Index], work: Array[Real], words: Array[int]) -> None:
        job = job_of(words)
        columns = job.x_columns
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows_of(job):
            row = row_of(job, order, i)
            work[job.x + i * job.x_row + j] = real(source[row * columns + j])

    return function, tuning.THREADS, source_type
