"""The public kernels inside a user's own @njit code: the same names, on the calling thread, outputs given by the user.

Arrays need a unit stride along the last axis; `activation` must be a literal string. Wrong shapes raise ValueError
there too, with messages that compiled code can hold. Outputs must not overlap each other nor what is read, which
nothing checks: to compare the addresses takes too large a share of a call on a few numbers. `activate`,
`activate_backward`, `softmax` and the losses may write over z or dy itself.
"""

import functools
from typing import Any

from numba.extending import overload

from kernels import api
from kernels.cpu.compiler import calls
from kernels.cpu.product.linear import linear, linear_backward
from kernels.cpu.rowwise.elementwise import backward, forward
from kernels.cpu.rowwise.loss import output
from kernels.engine.codes import SOFTMAX
from kernels.losses import LOSSES
from kernels.nopython import stepping
from kernels.nopython.arguments import (
    at,
    check_array,
    check_given,
    check_written,
    declared,
    is_none,
    one_dtype,
    row_stride,
)
from kernels.nopython.losses import offer_loss
from kernels.optimizers import known as optimizers


@functools.cache
def register() -> None:
    """Make each public function callable from nopython code."""
    for name, implement in _TYPINGS.items():
        overload(getattr(api, name), strict=False, prefer_literal=True)(implement)
    LOSSES.follow(offer_loss)
    optimizers.follow(
        lambda name, _: overload(api.steps[name], strict=False, prefer_literal=True)(stepping.typing(name))
    )


def _linear(x, w, b=None, activation="identity", out=None, pre=None):
    for name, kind in (("x", x), ("w", w)):
        check_array(kind, name, 2, "linear")
    check_written(out, "out", 2, "linear")
    if not is_none(b):
        check_array(b, "b", 1, "linear")
    if not is_none(pre):
        check_written(pre, "pre", 2, "linear")
    real = one_dtype("linear", x=x, w=w, b=b, out=out, pre=pre)
    call, chosen = linear(real), declared(activation, "linear")
    has_b, has_pre = not is_none(b), not is_none(pre)
    separate = has_pre or chosen.floor is None
    fused = not separate and chosen.is_relu
    kernel = calls.address(forward(chosen)[str(real)])
    x_stride, w_stride = _strides("linear", "x", "w")
    out_stride, pre_row = _strides("linear", "out", "pre", written=True)

    def implementation(x, w, b=None, activation="identity", out=None, pre=None):
        m, k, n = x.shape[0], x.shape[1], w.shape[1]
        if w.shape[0] != k or out.shape[0] != m or out.shape[1] != n:
            raise ValueError("linear: x must be (B, I), w (I, O) and out (B, O)")
        b_at, pre_at, pre_stride, f = 0, 0, 0, 0
        if separate:
            f = kernel()
        if has_b:
            if b.shape[0] != n or (n > 1 and b.strides[0] != b.itemsize):
                raise ValueError("linear: b must be (O,) with a unit stride")
            b_at = at(b)
        if has_pre:
            if pre.shape[0] != m or pre.shape[1] != n:
                raise ValueError("linear: pre must be (B, O)")
            pre_at, pre_stride = at(pre), pre_row(pre)
        call(
            m, k, n, at(x), x_stride(x), at(w), w_stride(w), b_at, fused, f, pre_at, pre_stride, at(out),
            out_stride(out), 0,
        )  # fmt: skip
        return out

    return implementation


def _linear_backward(dy, x, w, y=None, activation="identity", pre=None, dx=None, dw=None, db=None, dz=None):
    function = "linear_backward"
    for name, kind in (("dy", dy), ("x", x), ("w", w)):
        check_array(kind, name, 2, function)
    chosen = declared(activation, function)
    plain, from_pre = chosen.is_identity, chosen.slope_reads == "z"
    for name, kind, ndim in (("dx", dx, 2), ("dw", dw, 2), ("db", db, 1)):
        check_written(kind, name, ndim, function)
    if not plain or not is_none(dz):
        check_written(dz, "dz", 2, function)
    real = one_dtype(function, dy=dy, x=x, w=w, y=y, pre=pre, dx=dx, dw=dw, db=db, dz=dz)
    call, kernel = linear_backward(real), calls.address(backward(chosen)[str(real)])
    saved = pre if from_pre else (dy if plain else y)
    check_given(saved, "pre" if from_pre else "y", function)
    check_array(saved, "pre" if from_pre else "y", 2, function)
    has_dz = not is_none(dz)
    dy_stride, saved_stride, x_stride, w_stride = _strides(function, "dy", "pre" if from_pre else "y", "x", "w")
    dx_stride, dw_stride, dz_row = _strides(function, "dx", "dw", "dz", written=True)

    def implementation(dy, x, w, y=None, activation="identity", pre=None, dx=None, dw=None, db=None, dz=None):
        m, k, n = x.shape[0], x.shape[1], w.shape[1]
        saved = pre if from_pre else (dy if plain else y)
        if w.shape[0] != k or dy.shape[0] != m or dy.shape[1] != n or saved.shape != dy.shape:
            raise ValueError("linear_backward: x must be (B, I), w (I, O), dy and y (or pre) (B, O)")
        if dx.shape != x.shape or dw.shape != w.shape or db.shape[0] != n or (n > 1 and db.strides[0] != db.itemsize):
            raise ValueError("linear_backward: dx must be like x, dw like w and db (O,) with a unit stride")
        dz_at, dz_stride, f = 0, 0, 0
        if has_dz:
            f = kernel()
            if dz.shape != dy.shape:
                raise ValueError("linear_backward: dz must be like dy")
            dz_at, dz_stride = at(dz), dz_row(dz)
        call(
            m, n, k, at(dy), dy_stride(dy), at(saved), saved_stride(saved), f, at(x), x_stride(x), at(w),
            w_stride(w), dz_at, dz_stride, at(dx), dx_stride(dx), at(dw), dw_stride(dw), at(db),
        )  # fmt: skip
        return dx, dw, db

    return implementation


def _activate(z, activation="identity", out=None):
    check_array(z, "z", 2, "activate")
    check_written(out, "out", 2, "activate")
    call = forward(declared(activation, "activate"))(one_dtype("activate", z=z, out=out))
    (z_stride,), (out_stride,) = _strides("activate", "z"), _strides("activate", "out", written=True)

    def implementation(z, activation="identity", out=None):
        if out.shape != z.shape:
            raise ValueError("activate: out must be like z")
        call(z.shape[0], z.shape[1], at(z), z_stride(z), at(out), out_stride(out))
        return out

    return implementation


def _activate_backward(dy, y=None, activation="identity", pre=None, out=None):
    function = "activate_backward"
    check_array(dy, "dy", 2, function)
    check_written(out, "out", 2, function)
    chosen = declared(activation, function)
    plain, from_pre = chosen.is_identity, chosen.slope_reads == "z"
    saved = pre if from_pre else (dy if plain else y)
    check_given(saved, "pre" if from_pre else "y", function)
    check_array(saved, "pre" if from_pre else "y", 2, function)
    call = backward(chosen)(one_dtype(function, dy=dy, y=y, pre=pre, out=out))
    dy_stride, saved_stride = _strides(function, "dy", "pre" if from_pre else "y")
    (out_stride,) = _strides(function, "out", written=True)

    def implementation(dy, y=None, activation="identity", pre=None, out=None):
        saved = pre if from_pre else (dy if plain else y)
        if out.shape != dy.shape or saved.shape != dy.shape:
            raise ValueError("activate_backward: y (or pre) and out must be like dy")
        call(
            dy.shape[0], dy.shape[1], at(dy), dy_stride(dy), at(saved), saved_stride(saved), at(out),
            out_stride(out),
        )  # fmt: skip
        return out

    return implementation


def _softmax(z, out=None):
    check_array(z, "z", 2, "softmax")
    check_written(out, "out", 2, "softmax")
    call = output(one_dtype("softmax", z=z, out=out))
    (z_stride,), (out_stride,) = _strides("softmax", "z"), _strides("softmax", "out", written=True)

    def implementation(z, out=None):
        if out.shape != z.shape:
            raise ValueError("softmax: out must be like z")
        call(SOFTMAX, z.shape[0], z.shape[1], at(z), z_stride(z), at(out), out_stride(out))
        return out

    return implementation


def _strides(function: str, *names: str, written: bool = False) -> list[Any]:
    return [row_stride(function, name, written) for name in names]


_TYPINGS: dict[str, Any] = {
    "linear": _linear,
    "linear_backward": _linear_backward,
    "activate": _activate,
    "activate_backward": _activate_backward,
    "softmax": _softmax,
}
