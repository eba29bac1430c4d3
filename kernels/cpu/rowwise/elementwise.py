"""Activations over a matrix: forward, and below it backward. One kernel each, so that only what is used is compiled.

In place has a loop of its own: LLVM's vector code is for arrays that do not overlap, and takes others one by one (relu
backward 0.45 ns an element in place of 0.1, Intel Xeon with AVX-512).
"""

from collections.abc import Callable
from typing import Any, Protocol

from kernels import scalar
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Size, Stride
from kernels.cpu.ir import floats, memory


class Activation(Protocol):
    """y (rows, columns) = f(z), overwritten; y may be z."""

    def __call__(self, rows: Size, columns: Size, z: Address, ldz: Stride, y: Address, ldy: Stride) -> None: ...


class ActivationBackward(Protocol):
    """dz (rows, columns) = dy * f'(.), overwritten; dz may be dy. saved: y, or z for NEEDS_PRE."""

    def __call__(
        self, rows: Size, columns: Size, dy: Address, lddy: Stride, saved: Address, lds: Stride, dz: Address,
        lddz: Stride,
    ) -> None: ...  # fmt: skip


def _forward(name: str) -> jit.Family:
    @jit.kernel(like=Activation, name=name)
    def activation(real: Any) -> Callable[..., Any]:
        f = getattr(scalar.functions(real, jit.plain, floats.bits(real)), name)
        elements = memory.pointer(real)

        def function(rows, columns, z, ldz, y, ldy):
            for r in range(rows):
                source, target = elements(z + r * ldz), elements(y + r * ldy)
                if z == y:
                    for j in range(columns):
                        target[j] = f(target[j])
                else:
                    for j in range(columns):
                        target[j] = f(source[j])

        return function

    return activation


def _backward(name: str) -> jit.Family:
    @jit.kernel(like=ActivationBackward, name=f"{name}_backward")
    def activation(real: Any) -> Callable[..., Any]:
        slope = getattr(scalar.functions(real, jit.plain, floats.bits(real)), f"{name}_slope")
        elements = memory.pointer(real)

        def function(rows, columns, dy, lddy, saved, lds, dz, lddz):
            for r in range(rows):
                upstream, at, target = elements(dy + r * lddy), elements(saved + r * lds), elements(dz + r * lddz)
                if dy == dz:
                    for j in range(columns):
                        target[j] = target[j] * slope(at[j])
                else:
                    for j in range(columns):
                        target[j] = upstream[j] * slope(at[j])

        return function

    return activation


forward = {name: _forward(name) for name in scalar.ACTIVATIONS}
backward = {name: _backward(name) for name in scalar.ACTIVATIONS}
