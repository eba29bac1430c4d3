"""Activations over a matrix: forward, and below it backward. One kernel each, so that only what is used is compiled.

In place has a loop of its own: LLVM's vector code is for arrays that do not overlap, and takes others one by one.
"""

from collections.abc import Callable
from typing import Any, Protocol

from kernels import scalar
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import B, Matrix, O
from kernels.cpu.ir.maths import maths_of


class Activation(Protocol):
    """y = f(z), overwritten; y may be z."""

    def __call__(self, z: Matrix[B, O], y: Matrix[B, O]) -> None: ...


class ActivationBackward(Protocol):
    """dz = dy * f'(.), overwritten; dz may be dy. saved: y, or z for NEEDS_PRE."""

    def __call__(self, dy: Matrix[B, O], saved: Matrix[B, O], dz: Matrix[B, O]) -> None: ...


def _forward(name: str) -> jit.Family:
    @jit.kernel(like=Activation, name=name)
    def activation(real: Any) -> Callable[..., Any]:
        f = maths_of(real).rule(getattr(scalar, name))

        def function(z, y):
            for r in range(z.rows):
                source, target = z[r], y[r]
                if z.address == y.address:
                    for j in range(z.columns):
                        target[j] = f(target[j])
                else:
                    for j in range(z.columns):
                        target[j] = f(source[j])

        return function

    return activation


def _backward(name: str) -> jit.Family:
    @jit.kernel(like=ActivationBackward, name=f"{name}_backward")
    def activation(real: Any) -> Callable[..., Any]:
        slope = maths_of(real).rule(getattr(scalar, f"{name}_slope"))

        def function(dy, saved, dz):
            for r in range(dy.rows):
                upstream, at, target = dy[r], saved[r], dz[r]
                if dy.address == dz.address:
                    for j in range(dy.columns):
                        target[j] = target[j] * slope(at[j])
                else:
                    for j in range(dy.columns):
                        target[j] = upstream[j] * slope(at[j])

        return function

    return activation


forward = {name: _forward(name) for name in scalar.ACTIVATIONS}
backward = {name: _backward(name) for name in scalar.ACTIVATIONS}
