"""Checks of everything a person passes to a kernel, and every message they may read. The backends check nothing.

Each function takes what the public function of the same name takes and returns it ready for a backend: arrays with a
unit stride along the last axis, copied only where that was missing. Outputs that a backend cannot write directly
(another stride, memory shared with an input) are replaced by a fresh array; `Outputs.finish` copies the result over.
All arrays of a call lie in one place (kernels.backends); those on a GPU become numba-cuda's, over the same memory.
"""

import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels import arrays, scalar

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
OVERLAP_WORK: Any = 10_000  # solutions to look at, at most, when two arrays may share memory: see np.shares_memory


class Outputs:
    """The arrays that a call writes into: the caller's own, or stand-ins that are copied over at the end."""

    def __init__(self, inputs: list[Any]) -> None:
        self._inputs = inputs
        self._pending: list[tuple[Any, Any]] = []
        self._seen: list[tuple[str, Any]] = []
        self._given: list[tuple[Any, Any]] = []  # what is written to, and what the caller passed, where they differ

    def add(
        self, value: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, *, keep: bool = False, direct: bool = True
    ) -> Any:
        """`value` if it is None or can be written to directly, else a stand-in (holding its values with `keep`)."""
        if value is None:
            return None
        given = value
        if not isinstance(value, np.ndarray):
            if not arrays.on_cuda(value):
                raise TypeError(f"{name} must be a NumPy array to write into, got {type(value).__name__}")
            value = _foreign().adopted(value, name, writing=True)
        _check_shape(value, name, shape)
        if value.dtype != dtype:
            raise TypeError(f"{name} must have dtype {dtype}, as the inputs, got {value.dtype}")
        if value is given and not _addresses(value).flags.writeable:
            raise ValueError(f"{name} must be writable, got a read-only array")
        if _overlaps_itself(value):
            strides = f"shape {tuple(value.shape)} with strides {tuple(value.strides)}"
            raise ValueError(f"{name} must have strides that keep its elements apart, got {strides}")
        for other_name, other in self._seen:
            if _overlap(value, other):
                raise ValueError(f"{name} and {other_name} must not share memory")
        self._seen.append((name, value))
        target = value
        if not direct or not _unit_stride(value) or any(_overlap(value, array) for array in self._inputs):
            target = empty_like(value)
            if keep:
                _copy(target, value)
            self._pending.append((value, target))
        if target is not given:
            self._given.append((target, given))
        return target

    def finish(self) -> None:
        """Copy what was written to stand-ins to where it belongs."""
        for value, stand_in in self._pending:
            _copy(value, stand_in)

    def own(self, array: Any) -> Any:
        """The caller's array that this one stands for."""
        for target, given in self._given:
            if target is array:
                return given
        return array


def array(value: Any, name: str, ndim: int, dtype: np.dtype | None = None) -> Any:
    """A float32 or float64 array with `ndim` dimensions and a unit stride along the last."""
    result = _taken(value, name)
    if result.dtype not in DTYPES:
        raise TypeError(f"{name} must have dtype float32 or float64, got {result.dtype}")
    if dtype is not None and result.dtype != dtype:
        raise TypeError(f"{name} must have dtype {dtype}, as the first argument, got {result.dtype}")
    if result.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got shape {result.shape}")
    return result if _unit_stride(result) else _contiguous(result)


def activation_name(name: Any) -> str:
    """The canonical name of an activation."""
    if not isinstance(name, str) or scalar.canonical(name) not in scalar.ACTIVATIONS:
        known = ", ".join([*scalar.ACTIVATIONS, *scalar.ALIASES])
        raise ValueError(f"activation must be one of {known}, got {name!r}")
    return scalar.canonical(name)


def product_operands(x: Any, w: Any) -> tuple[np.ndarray, np.ndarray]:
    """x (B, I) and w (I, O) of one dtype."""
    x = array(x, "x", 2)
    w = array(w, "w", 2, x.dtype)
    if x.shape[1] != w.shape[0]:
        raise ValueError(f"w must have {x.shape[1]} rows, as x has columns, got shape {w.shape}")
    return x, w


def like(value: Any, name: str, other: np.ndarray, other_name: str) -> np.ndarray:
    """An array of the shape and dtype of another."""
    result = array(value, name, other.ndim, other.dtype)
    if result.shape != other.shape:
        raise ValueError(f"{name} must have shape {other.shape}, as {other_name}, got {result.shape}")
    return result


def shaped(value: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array of this shape and dtype."""
    result = array(value, name, len(shape), dtype)
    _check_shape(result, name, shape)
    return result


def saved(y: Any, pre: Any, activation: str, dy: np.ndarray) -> tuple[Any, Any]:
    """What the derivative of an activation is taken from, y or the pre-activation, shaped like dy."""
    if activation in scalar.NEEDS_PRE:
        if pre is None:
            raise ValueError(
                f"pre must be given for {activation}, whose derivative cannot be had from y: pass linear(..., pre=z)"
            )
        return None, like(pre, "pre", dy, "dy")
    if activation == "identity":
        return None, None
    if y is None:
        raise ValueError(f"y must be given for {activation}, whose derivative is taken from it")
    return like(y, "y", dy, "dy"), None


def loss_target(target: Any, z: np.ndarray, loss: str) -> np.ndarray:
    """The target of a loss on z (B, O): int64 labels (B,) for softmax cross-entropy, or an array like z."""
    target = _taken(target, "target")
    if target.ndim == 1 and loss == "softmax_cross_entropy":
        if target.dtype.kind not in "biu":
            raise TypeError(f"target must hold integer labels or have shape {z.shape}, got dtype {target.dtype}")
        if target.shape != z.shape[:1]:
            raise ValueError(f"target must have {len(z)} labels, one for each row of z, got shape {target.shape}")
        if got := _outside(target, 0, z.shape[1] - 1):
            raise ValueError(f"target must hold labels from 0 to {z.shape[1] - 1}, got {got}")
        return _contiguous(target, np.int64)
    if target.ndim == 1 and z.shape[1] == 1:
        target = _contiguous(target).reshape(-1, 1)
    target = like(target, "target", z, "z")
    low, high = _bounds(target)
    if loss.endswith("cross_entropy") and not (low >= 0 and high <= 1):
        raise ValueError(f"target must lie in [0, 1], got values from {low} to {high}")
    if loss == "poisson" and not low >= 0:
        raise ValueError(f"target must be >= 0, got values from {low}")
    return target


def row_weight(weight: Any, z: np.ndarray) -> np.ndarray | None:
    """One weight >= 0 per row of z, or None."""
    if weight is None:
        return None
    weight = shaped(weight, "weight", z.shape[:1], z.dtype)
    if got := _outside(weight, 0, np.finfo(weight.dtype).max):
        raise ValueError(f"weight must be finite and >= 0, got {got}")
    return weight


def numbers_in(ranges: Mapping[str, tuple[Any, float, float]]) -> None:
    """Each name: (value, low, high) must be a finite real number in [low, high]."""
    for name, (value, low, high) in ranges.items():
        if not isinstance(value, numbers.Real) or not low <= float(value) <= high or float(value) == np.inf:
            raise ValueError(f"{name} must be a finite number from {low} to {high}, got {value!r}")


def number_between(name: str, value: Any, low: float, high: float) -> None:
    """A finite real number in (low, high)."""
    if not isinstance(value, numbers.Real) or not low < float(value) < high:
        raise ValueError(f"{name} must be a finite number in ({low}, {high}), got {value!r}")


def count(name: str, value: Any) -> None:
    """An integer from 1 on."""
    if not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}")


def update_arrays(arrays: Mapping[str, Any]) -> tuple[list[Any], Outputs]:
    """w, dw and state arrays of one shape, as matrices; all but dw are written into."""
    first = _taken(arrays["w"], "w")
    if first.dtype not in DTYPES:
        raise TypeError(f"w must have dtype float32 or float64, got {first.dtype}")
    gradient = _taken(arrays["dw"], "dw")
    _check_shape(gradient, "dw", first.shape)
    if gradient.dtype != first.dtype:
        raise TypeError(f"dw must have dtype {first.dtype}, as w, got {gradient.dtype}")
    outputs = Outputs([gradient])
    written = {name: value for name, value in arrays.items() if name != "dw" and value is not None}
    # the backend takes matrices whose rows are all the same distance apart; anything else goes through copies
    there = [_taken(v, name) for name, v in written.items()]
    alike = first.ndim == 2 and all(_unit_stride(v) and v.strides == first.strides for v in there)
    flat = all(_addresses(v).flags.c_contiguous for v in there)
    direct = (alike or flat) and not any(_overlap(gradient, v) for v in there)
    result: list[Any] = []
    for name, value in arrays.items():
        if name == "dw":
            value = gradient if alike and _unit_stride(gradient) else _contiguous(gradient)
        else:
            value = outputs.add(value, name, first.shape, first.dtype, keep=True, direct=direct)
        result.append(None if value is None else value if value.ndim == 2 else value.reshape(1, -1))
    return result, outputs


def _taken(value: Any, name: str) -> Any:
    if isinstance(value, np.ndarray):
        return value
    if arrays.on_cuda(value):
        return _foreign().adopted(value, name)
    if not hasattr(value, "__array__") and hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    result = np.asarray(value)
    if result.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got {type(value).__name__}")
    return result


def _foreign() -> Any:
    from kernels.cuda.arrays import foreign

    return foreign


def _addresses(value: Any) -> np.ndarray:
    """A NumPy array with the strides and addresses of one that may lie on a GPU."""
    return value if isinstance(value, np.ndarray) else _foreign().shadow(value)


def _contiguous(value: Any, dtype: Any = None) -> Any:
    return np.ascontiguousarray(value, dtype) if isinstance(value, np.ndarray) else _foreign().contiguous(value, dtype)


def empty_like(value: Any) -> Any:
    """A new array of this shape and dtype in C order, in the same place."""
    if isinstance(value, np.ndarray):
        return np.empty(value.shape, value.dtype)
    return _foreign().empty(tuple(value.shape), value.dtype, value)


def _copy(into: Any, source: Any) -> None:
    if isinstance(into, np.ndarray):
        into[...] = source
    else:
        _foreign().copied(into, source)


def _bounds(value: Any) -> tuple[Any, Any]:
    """The smallest and the largest element, NaN where there is one; of none infinity and minus infinity."""
    if value.size == 0:
        return np.inf, -np.inf
    return (value.min(), value.max()) if isinstance(value, np.ndarray) else _foreign().bounds(value)


def _outside(value: Any, least: float, most: float) -> str:
    """What there is outside of [least, most], if anything, of an array (n,)."""
    low, high = _bounds(value)
    if low >= least and high <= most:
        return ""
    if not isinstance(value, np.ndarray):
        return f"values from {low} to {high}"
    wrong = np.flatnonzero(~((value >= least) & (value <= most)))[0]
    return f"{value[wrong]} at [{wrong}]"


def _unit_stride(value: Any) -> bool:
    if not isinstance(value, np.ndarray):
        value = _addresses(value)
        if any(stride < 0 or stride % value.itemsize for stride in value.strides):  # which elements cannot count
            return False
    along_rows = value.ndim == 0 or value.strides[-1] == value.itemsize or value.shape[-1] == 1
    return value.flags.aligned and along_rows


def _overlap(a: Any, b: Any) -> bool:
    """Whether two arrays share memory, or may where finding out would take long."""
    if not isinstance(b, np.ndarray):
        a, b = _addresses(a), _addresses(b)
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_WORK)
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(value: Any) -> bool:
    """Whether an element may lie where another one does, as along a stride of 0."""
    if _addresses(value).flags.c_contiguous:  # as empty arrays are
        return False
    reach = value.dtype.itemsize  # the bytes from the first to the last of the axes so far
    for stride, n in sorted((abs(stride), n) for stride, n in zip(value.strides, value.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False


def _check_shape(value: Any, name: str, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
