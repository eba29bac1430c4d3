"""Activations over a matrix: forward, and below it backward. One kernel each, so that only what is used is compiled.

In place has a loop of its own: LLVM's vector code is for arrays that do not overlap, and takes others one by one.
"""

import functools
from collections.abc import Callable
from typing import Any, Protocol

from kernels import activations, deferred
from kernels.activations import ACTIVATIONS
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import B, Matrix, O
from kernels.cpu.ir.maths import maths_of

errors = deferred.module("numba.core.errors")


class Activation(Protocol):
    """y = f(z), overwritten; y may be z."""

    def __call__(self, z: Matrix[B, O], y: Matrix[B, O]) -> None: ...


class ActivationBackward(Protocol):
    """dz = dy * f'(.), overwritten; dz may be dy. saved: what the slope reads, y or z."""

    def __call__(self, dy: Matrix[B, O], saved: Matrix[B, O], dz: Matrix[B, O]) -> None: ...


def _compiled(activation: activations.Activation, what: str, real: Any) -> Any:
    """One of its rules, "function" or "slope", by itself, so that an error is about that."""
    rule = maths_of(real).rule(getattr(activation, what))
    try:
        rule.dispatcher.compile((real,))
    except errors.NumbaError as error:
        raise activation.cannot_compile(what, error) from error
    return rule


@functools.cache
def forward(activation: activations.Activation) -> jit.Family:
    """The kernels of an activation."""

    @jit.kernel(like=Activation, name=activation.name, stamp=activation.stamp)
    def of_dtype(real: Any) -> Callable[..., Any]:
        f = _compiled(activation, "function", real)

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

    return of_dtype


@functools.cache
def backward(activation: activations.Activation) -> jit.Family:
    """The kernels of an activation's gradient."""

    @jit.kernel(like=ActivationBackward, name=f"{activation.name}_backward", stamp=activation.stamp)
    def of_dtype(real: Any) -> Callable[..., Any]:
        slope = _compiled(activation, "slope", real)

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

    return of_dtype


def declared() -> None:
    """Make the families of all that is known: callers that are loaded from the cache look for them by name."""
    for name in ACTIVATIONS:
        forward(ACTIVATIONS[name]), backward(ACTIVATIONS[name])


declared()
