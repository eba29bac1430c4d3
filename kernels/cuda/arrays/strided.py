"""What is done once with arrays of any strides that come from elsewhere: copied in C order, looked through."""

from typing import Any

from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Data, Offset, Real, Size, Stride
from kernels.cuda.compiler.target import cuda
from kernels.cuda.rowwise.reduce import over_block


@jit.kernel
def copy(target_type: Any, source_type: str) -> Any:
    """target (rows, columns) = source, converted, overwritten. A thread takes an element.

    Of each: where its first element is, and the steps down to the next row and across to the next column.
    """

    def function(
        source: Array[Data], target: Array[Real], rows: Size, columns: Size,
        first: Offset, down: Stride, across: Stride, t_first: Offset, t_down: Stride, t_across: Stride,
    ) -> None:  # fmt: skip
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows:
            target[t_first + i * t_down + j * t_across] = target_type(source[first + i * down + j * across])

    return function, tuning.THREADS, source_type


@jit.kernel
def extremes(number: Any, threads: int) -> Any:
    """The smallest and the largest of each block's part of source (rows, columns), into parts; strides as for `copy`.

    parts (2 * EXTREMES_PARTS,), in pairs, of as many blocks, whatever the size. A NaN is both the smallest and the
    largest.
    """

    @jit.inline
    def smaller(a, b):
        return b if b < a or b != b else a

    @jit.inline
    def larger(a, b):
        return b if b > a or b != b else a

    least, most, blocks = over_block(threads, smaller), over_block(threads, larger), tuning.EXTREMES_PARTS

    def function(
        source: Array[Real], parts: Array[Real], rows: Size, columns: Size, first: Offset, down: Stride, across: Stride
    ) -> None:
        shared = cuda.shared.array(threads, number)
        block, thread = cuda.blockIdx.x, cuda.threadIdx.x
        low = high = source[first]
        for e in range(block * threads + thread, rows * columns, blocks * threads):
            value = source[first + e // columns * down + e % columns * across]
            low, high = smaller(low, value), larger(high, value)
        low, high = least(shared, low), most(shared, high)
        if thread == 0:
            parts[2 * block] = low
            parts[2 * block + 1] = high

    return function, threads
