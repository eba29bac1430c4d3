"""Activations over a matrix: forward, and below it backward. One loop per activation, each vector code."""

from typing import Any

from .. import scalar
from . import jit, memory


@jit.kernel("v 7i")
def activate(real: Any) -> Any:
    """y (rows, columns) = f(z), overwritten; y may be z. `code` as in scalar.ACTIVATIONS, row strides in bytes."""
    f = scalar.functions(real, jit.inline, memory.float_bits(real))
    leaky_relu, tanh = _map(real, f.leaky_relu), _map(real, f.tanh)
    relu, identity, sigmoid = _map(real, f.relu), _map(real, f.identity), _map(real, f.sigmoid)
    silu, gelu = _map(real, f.silu), _map(real, f.gelu)

    def function(code, rows, columns, z, ldz, y, ldy):
        if code == 0:
            identity(rows, columns, z, ldz, y, ldy)
        elif code == 1:
            relu(rows, columns, z, ldz, y, ldy)
        elif code == 2:
            leaky_relu(rows, columns, z, ldz, y, ldy)
        elif code == 3:
            sigmoid(rows, columns, z, ldz, y, ldy)
        elif code == 4:
            tanh(rows, columns, z, ldz, y, ldy)
        elif code == 5:
            silu(rows, columns, z, ldz, y, ldy)
        elif code == 6:
            gelu(rows, columns, z, ldz, y, ldy)

    return function


@jit.kernel("v 9i")
def activate_backward(real: Any) -> Any:
    """dz (rows, columns) = dy * f'(.), overwritten; dz may be dy. `saved` is y, or z for scalar.NEEDS_PRE."""
    f = scalar.functions(real, jit.inline, memory.float_bits(real))
    identity, relu, leaky_relu = (_scale(real, g) for g in (f.identity_slope, f.relu_slope, f.leaky_relu_slope))
    sigmoid, tanh, silu, gelu = (_scale(real, g) for g in (f.sigmoid_slope, f.tanh_slope, f.silu_slope, f.gelu_slope))

    def function(code, rows, columns, dy, lddy, saved, lds, dz, lddz):
        if code == 0:
            identity(rows, columns, dy, lddy, dy, lddy, dz, lddz)
        elif code == 1:
            relu(rows, columns, dy, lddy, saved, lds, dz, lddz)
        elif code == 2:
            leaky_relu(rows, columns, dy, lddy, saved, lds, dz, lddz)
        elif code == 3:
            sigmoid(rows, columns, dy, lddy, saved, lds, dz, lddz)
        elif code == 4:
            tanh(rows, columns, dy, lddy, saved, lds, dz, lddz)
        elif code == 5:
            silu(rows, columns, dy, lddy, saved, lds, dz, lddz)
        elif code == 6:
            gelu(rows, columns, dy, lddy, saved, lds, dz, lddz)

    return function


def _map(real: Any, f: Any) -> Any:
    elements = memory.pointer(real)

    @jit.inline
    def loop(rows, columns, z, ldz, y, ldy):
        for r in range(rows):
            source, target = elements(z + r * ldz), elements(y + r * ldy)
            for j in range(columns):
                target[j] = f(source[j])

    return loop


def _scale(real: Any, slope: Any) -> Any:
    elements = memory.pointer(real)

    @jit.inline
    def loop(rows, columns, dy, lddy, saved, lds, dz, lddz):
        for r in range(rows):
            upstream, at, target = elements(dy + r * lddy), elements(saved + r * lds), elements(dz + r * lddz)
            for j in range(columns):
                target[j] = upstream[j] * slope(at[j])

    return loop
