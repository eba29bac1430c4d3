"""What is done once with arrays of any strides that come from elsewhere: copied in C order, looked through."""

from typing import Any

from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.target import cuda
from kernels.cuda.rowwise.reduce import over_block


@jit.kernel
def copy(target_type: Any, source_type: str) -> Any:
    """source, target, rows, columns, source's first element and its steps down and across, target's: overwritten.

    A thread takes an element.
    """

    def function(source, target, rows, columns, first, down, across, t_first, t_down, t_across):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows:
            target[t_first + i * t_down + j * t_across] = target_type(source[first + i * down + j * across])

    return function, f"{source_type} R i i i i i i i i", tuning.THREADS


@jit.kernel
def extremes(number: Any, threads: int) -> Any:
    """source, parts, rows, columns, first, down, across: the smallest and largest of each block's part, into parts.

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

    def function(source, parts, rows, columns, first, down, across):
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

    return function, "R R i i i i i", threads
