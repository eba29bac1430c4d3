"""Activations over a matrix: forward, and below it backward."""

from typing import Any

from kernels.activations import Activation
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Array, Real, Size, Stride
from kernels.cuda.compiler.target import cuda
from kernels.cuda.ir.ptx import maths_of


@jit.kernel
def forward(real: Any, activation: Activation) -> Any:
    """y (rows, columns) = f(z), overwritten; y may be z. A thread per element."""
    f = maths_of(real).rule(activation.function)

    def function(z: Array[Real], y: Array[Real], rows: Size, columns: Size, ldz: Stride, ldy: Stride) -> None:
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows:
            y[i * ldy + j] = f(z[i * ldz + j])

    return function, tuning.THREADS


@jit.kernel
def backward(real: Any, activation: Activation) -> Any:
    """dz (rows, columns) = dy * f'(.), overwritten; dz may be dy. saved: what the slope reads, y or z."""
    slope = maths_of(real).rule(activation.slope)

    def function(
        dy: Array[Real], saved: Array[Real], dz: Array[Real], rows: Size, columns: Size,
        lddy: Stride, lds: Stride, lddz: Stride,
    ) -> None:  # fmt: skip
        e = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        i, j = e // columns, e % columns
        if i < rows:
            dz[i * lddz + j] = dy[i * lddy + j] * slope(saved[i * lds + j])

    return function, tuning.THREADS
