"""Activations over a matrix: forward, and below it backward."""

from typing import Any

from kernels.activations import Activation
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.target import cuda
from kernels.cuda.ir.ptx import maths_of


@jit.kernel
def forward(real: Any, activation: Activation) -> Any:
    """z, y, rows, columns, ldz, ldy: y (rows, columns) = f(z), overwritten; y may be z. A thread per element."""
    f = maths_of(real).rule(activation.function)

    def function(z, y, rows, columns, ldz, ldy):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows:
            y[i * ldy + j] = f(z[i * ldz + j])

    return function, "R R i i i i", tuning.THREADS


@jit.kernel
def backward(real: Any, activation: Activation) -> Any:
    """dy, saved, dz, rows, columns, lddy, lds, lddz: dz = dy * f'(.), overwritten; dz may be dy.

    saved: what the slope reads, y or z.
    """
    slope = maths_of(real).rule(activation.slope)

    def function(dy, saved, dz, rows, columns, lddy, lds, lddz):
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows:
            dz[i * lddz + j] = dy[i * lddy + j] * slope(saved[i * lds + j])

    return function, "R R R i i i i i", tuning.THREADS
