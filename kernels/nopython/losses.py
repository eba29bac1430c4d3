"""The functions of losses inside a user's own @njit code, see overloads.py."""

from typing import Any

from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from kernels import api
from kernels.cpu.compiler import jit
from kernels.cpu.rowwise.loss import losses
from kernels.engine.codes import IDENTITY, NO_METRIC
from kernels.losses import Loss, Parameter
from kernels.nopython.arguments import at, check_array, check_given, check_written, is_none, one_dtype, row_stride

_LOSS = """
def typing({signature}):
    _loss = _typed(z, target, weight, dz, {parameter})
    def {name}({signature}):
        return _loss(z, target, weight, dz, {parameter})
    return {name}
"""


def offer_loss(name: str, declared: Loss) -> None:
    """Make a loss's function callable from nopython code: Numba goes by the names of parameters."""
    parameter, scope = declared.parameter, {"_typed": _loss_of(declared)}
    text = {"name": name, "signature": declared.signature(compiled=True)}
    exec(_LOSS.format(**text, parameter=parameter.name if parameter else "0.0"), scope)
    overload(api.loss_function(declared), strict=False, prefer_literal=True)(scope["typing"])


def _loss_of(declared: Loss) -> Any:
    """What the overload of a loss makes of its arguments' types: a function (z, target, weight, dz, parameter)."""
    name, averaged, takes_labels = declared.name, declared.averaged, declared.targets.labels
    limits = declared.parameter or Parameter("", 0, 1, closed=True)
    least, most, closed = float(limits.least), float(limits.most), limits.closed
    wrong_parameter = f"{name}: {limits.name} must be a finite number in {limits.interval}"
    wrong_rows = f"{name}: dz must be like z, and target must have as many rows"

    def typed(z, target, weight, dz, parameter):
        if declared.parameter is not None:
            check_given(parameter, declared.parameter.name, name)
        check_array(z, "z", 2, name)
        check_written(dz, "dz", 2, name)
        flat = getattr(target, "ndim", 2) == 1
        labels = flat and takes_labels
        if labels and target.dtype != types.int64:
            hint = ": pass target.astype(np.int64)" if isinstance(target.dtype, types.Integer) else ""
            raise TypingError(f"{name}: target must be int64 labels (B,) or like z, got {target}{hint}")
        if not labels:
            check_array(target, "target", 1 if flat else 2, name)
        if not is_none(weight):
            check_array(weight, "weight", 1, name)
        real = one_dtype(name, z=z, weight=weight, dz=dz, **({} if labels else {"target": target}))
        call = losses[name](real)
        row_stride_of = _target_stride(name, takes_labels, labels, flat)
        mass_of, weight_at = _mass_of_all if is_none(weight) else _mass(name), _none if is_none(weight) else at
        z_stride, dz_stride = row_stride(name, "z"), row_stride(name, "dz", written=True)

        @jit.plain
        def loss(z, target, weight, dz, parameter):
            rows, columns = z.shape
            if not (least < parameter < most or (closed and parameter == least)):
                raise ValueError(wrong_parameter)
            if dz.shape != z.shape or target.shape[0] != rows:
                raise ValueError(wrong_rows)
            stride, mass = row_stride_of(target, columns), mass_of(weight, rows)
            scale = (1.0 / mass if mass > 0.0 else 0.0) if averaged else 1.0
            total = call(
                rows, columns, IDENTITY, at(z), z_stride(z), at(target), stride, labels, weight_at(weight), scale,
                at(dz), dz_stride(dz), NO_METRIC, 0, 0, parameter,
            )  # fmt: skip
            return (scale * total if scale != 0.0 and z.size > 0 else 0.0), dz

        return loss

    return typed


def _target_stride(name: str, takes_labels: bool, labels: bool, flat: bool) -> Any:
    """f(target, columns): bytes between its rows; raises for labels of no output, and for other shapes than z's."""
    wrong_target = f"{name}: target must be like z" + ("" if takes_labels else ", or (B,) where z is (B, 1)")
    wrong_labels = f"{name}: target must hold labels from 0 to O - 1"
    stride = row_stride(name, "target")

    @jit.plain
    def of_labels(target, columns):
        for label in target:
            if label < 0 or label >= columns:
                raise ValueError(wrong_labels)
        return target.strides[0]

    @jit.plain
    def of_vector(target, columns):
        if columns != 1:
            raise ValueError(wrong_target)
        return target.strides[0]

    @jit.plain
    def of_matrix(target, columns):
        if target.shape[-1] != columns:
            raise ValueError(wrong_target)
        return stride(target)

    return of_labels if labels else of_vector if flat else of_matrix


def _mass(name: str) -> Any:
    """f(weight, rows): the sum of the rows' weights."""
    wrong_weight = f"{name}: weight must be (B,) with a unit stride"

    @jit.plain
    def mass_of(weight, rows):
        if weight.shape[0] != rows or (rows > 1 and weight.strides[0] != weight.itemsize):
            raise ValueError(wrong_weight)
        mass = 0.0
        for w in weight:
            mass += w
        return mass

    return mass_of


@jit.plain
def _mass_of_all(weight, rows):
    """The same without weights."""
    return float(rows)


@jit.plain
def _none(weight):
    """The address of no weights."""
    return 0
