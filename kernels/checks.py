"""Checks of everything a person passes to a kernel, and every message they may read. The backends check nothing.

`Checks` takes what a public function takes and returns it ready for a backend: arrays with a unit stride along the last
axis, copied only where that was missing. Outputs that a backend cannot write directly (another stride, memory shared
with an input) are replaced by a fresh array; `Outputs.finish` copies the result over. All arrays of a call lie in one
place (kernels.backends), and each backend has the `Checks` of its memory.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kernels.activations import ACTIVATIONS
from kernels.arrays import Arrays
from kernels.losses import Loss, Targets

DTYPES = (np.dtype(np.float32), np.dtype(np.float64))
OVERLAP_WORK: Any = 10_000  # solutions to look at, at most, when two arrays may share memory: see np.shares_memory


class Outputs:
    """The arrays that a call writes into: the caller's own, or stand-ins that are copied over at the end."""

    def __init__(self, arrays: Arrays, inputs: tuple[Any, ...]) -> None:
        self._arrays = arrays
        self._read = [arrays.shadow(array) for array in inputs if array is not None]
        self._pending: list[tuple[Any, Any]] = []
        self._seen: list[tuple[str, np.ndarray]] = []
        self._given: list[tuple[Any, Any]] = []  # what is written to, and what the caller passed, where they differ

    def add(
        self, value: Any, name: str, shape: tuple[int, ...], dtype: np.dtype, *, keep: bool = False, direct: bool = True
    ) -> Any:
        """`value` if it is None or can be written to directly, else a stand-in (holding its values with `keep`)."""
        if value is None:
            return None
        arrays, given = self._arrays, value
        value = arrays.written(value, name)
        shadow = arrays.shadow(value)
        _check_shape(value, name, shape)
        if value.dtype != dtype:
            raise TypeError(f"{name} must have dtype {dtype}, as the inputs, got {value.dtype}")
        if not shadow.flags.writeable:
            raise ValueError(f"{name} must be writable, got a read-only array")
        if _overlaps_itself(shadow):
            strides = f"shape {tuple(value.shape)} with strides {tuple(value.strides)}"
            raise ValueError(f"{name} must have strides that keep its elements apart, got {strides}")
        for other_name, other in self._seen:
            if _overlap(shadow, other):
                raise ValueError(f"{name} and {other_name} must not share memory")
        self._seen.append((name, shadow))
        target = value
        if not (direct and arrays.unit_stride(value)) or any(_overlap(shadow, other) for other in self._read):
            target = arrays.empty(tuple(value.shape), value.dtype, value)
            if keep:
                arrays.copied(target, value)
            self._pending.append((value, target))
        if target is not given:
            self._given.append((target, given))
        return target

    def finish(self) -> None:
        """Copy what was written to stand-ins to where it belongs."""
        for value, stand_in in self._pending:
            self._arrays.copied(value, stand_in)

    def own(self, array: Any) -> Any:
        """The caller's array that this one stands for."""
        for target, given in self._given:
            if target is array:
                return given
        return array


class Checks:
    """The checks of arrays that lie in one kind of memory."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays

    def outputs(self, *inputs: Any) -> Outputs:
        """The arrays that a call with these inputs writes into; None is none."""
        return Outputs(self._arrays, inputs)

    def array(self, value: Any, name: str, ndim: int, dtype: np.dtype | None = None) -> Any:
        """A float32 or float64 array with `ndim` dimensions and a unit stride along the last."""
        result = self._arrays.adopted(value, name)
        if result.dtype not in DTYPES:
            raise TypeError(f"{name} must have dtype float32 or float64, got {result.dtype}")
        if dtype is not None and result.dtype != dtype:
            raise TypeError(f"{name} must have dtype {dtype}, as the first argument, got {result.dtype}")
        if result.ndim != ndim:
            raise ValueError(f"{name} must have {ndim} dimension{'s' * (ndim > 1)}, got shape {result.shape}")
        return result if self._arrays.unit_stride(result) else self._arrays.contiguous(result)

    def product_operands(self, x: Any, w: Any) -> tuple[Any, Any]:
        """x (B, I) and w (I, O) of one dtype."""
        x = self.array(x, "x", 2)
        w = self.array(w, "w", 2, x.dtype)
        if x.shape[1] != w.shape[0]:
            raise ValueError(f"w must have {x.shape[1]} rows, as x has columns, got shape {w.shape}")
        return x, w

    def like(self, value: Any, name: str, other: Any, other_name: str) -> Any:
        """An array of the shape and dtype of another."""
        result = self.array(value, name, other.ndim, other.dtype)
        if result.shape != other.shape:
            raise ValueError(f"{name} must have shape {other.shape}, as {other_name}, got {result.shape}")
        return result

    def shaped(self, value: Any, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """An array of this shape and dtype."""
        result = self.array(value, name, len(shape), dtype)
        _check_shape(result, name, shape)
        return result

    def saved(self, y: Any, pre: Any, activation: str, dy: Any) -> tuple[Any, Any]:
        """What the derivative of an activation is taken from, y or the pre-activation, shaped like dy."""
        declared = ACTIVATIONS[activation]
        if declared.is_identity:
            return None, None
        if declared.slope_reads == "z":
            if pre is None:
                why = "whose derivative cannot be had from y"
                raise ValueError(f"pre must be given for {activation}, {why}: pass linear(..., pre=z)")
            return None, self.like(pre, "pre", dy, "dy")
        if y is None:
            raise ValueError(f"y must be given for {activation}, whose derivative is taken from it")
        return self.like(y, "y", dy, "dy"), None

    def loss_target(self, target: Any, z: Any, loss: Loss) -> Any:
        """The target of a loss on z (B, O): int64 labels (B,) where it takes them, or an array like z."""
        target = self._arrays.adopted(target, "target")
        if target.ndim == 1 and loss.targets.labels:
            if target.dtype.kind not in "biu":
                raise TypeError(f"target must hold integer labels or have shape {z.shape}, got dtype {target.dtype}")
            if target.shape != z.shape[:1]:
                raise ValueError(f"target must have {len(z)} labels, one for each row of z, got shape {target.shape}")
            if got := self._outside(target, 0, z.shape[1] - 1):
                raise ValueError(f"target must hold labels from 0 to {z.shape[1] - 1}, got {got}")
            return self._arrays.contiguous(target, np.int64)
        if target.ndim == 1 and z.shape[1] == 1:
            target = self._arrays.contiguous(target).reshape(-1, 1)
        target = self.like(target, "target", z, "z")
        if got := self._none_of(target, loss.targets):
            raise ValueError(f"target must {loss.targets.must}, got {got}")
        return target

    def row_weight(self, weight: Any, z: Any) -> Any:
        """One weight >= 0 per row of z, or None."""
        if weight is None:
            return None
        weight = self.shaped(weight, "weight", z.shape[:1], z.dtype)
        if got := self._outside(weight, 0, np.finfo(weight.dtype).max):
            raise ValueError(f"weight must be finite and >= 0, got {got}")
        return weight

    def update_arrays(self, given: Mapping[str, Any]) -> tuple[list[Any], Outputs]:
        """w, dw and state arrays of one shape, as matrices; all but dw are written into."""
        arrays = self._arrays
        first = arrays.adopted(given["w"], "w")
        if first.dtype not in DTYPES:
            raise TypeError(f"w must have dtype float32 or float64, got {first.dtype}")
        gradient = arrays.adopted(given["dw"], "dw")
        _check_shape(gradient, "dw", first.shape)
        if gradient.dtype != first.dtype:
            raise TypeError(f"dw must have dtype {first.dtype}, as w, got {gradient.dtype}")
        # the backend takes matrices whose rows are all the same distance apart, and none of which shares memory with
        # dw; anything else goes through copies
        flat = alike = True
        apart, read = True, arrays.shadow(gradient)
        for name, value in given.items():
            if name != "dw" and value is not None:
                array = first if name == "w" else arrays.adopted(value, name)
                shadow = arrays.shadow(array)
                flat = flat and shadow.flags.c_contiguous
                alike = alike and array.strides == first.strides and arrays.unit_stride(array)
                apart = apart and not _overlap(read, shadow)
        alike = alike and first.ndim == 2
        direct, outputs, result = (alike or flat) and apart, self.outputs(), []
        for name, value in given.items():
            if name == "dw":
                value = gradient if alike and arrays.unit_stride(gradient) else arrays.contiguous(gradient)
            else:
                value = outputs.add(value, name, first.shape, first.dtype, keep=True, direct=direct)
            result.append(None if value is None else value if value.ndim == 2 else value.reshape(1, -1))
        return result, outputs

    def empty_like(self, array: Any) -> Any:
        """A new array of this shape and dtype in C order, in the same place."""
        return self._arrays.empty(tuple(array.shape), array.dtype, array)

    def _bounds(self, array: Any) -> tuple[Any, Any]:
        """The smallest and the largest element, NaN where there is one; of none infinity and minus infinity."""
        return (np.inf, -np.inf) if array.size == 0 else self._arrays.bounds(array)

    def _none_of(self, array: Any, targets: Targets) -> str:
        """What there is, if anything, that a loss with these targets does not take."""
        if not targets.must:
            return ""
        if targets.only:
            return targets.other(self._arrays.on_host(array))
        low, high = self._bounds(array)
        return "" if low >= targets.least and high <= targets.most else f"values from {low} to {high}"

    def _outside(self, array: Any, least: float, most: float) -> str:
        """What there is outside of [least, most], if anything, of an array (n,)."""
        low, high = self._bounds(array)
        return "" if low >= least and high <= most else self._arrays.outside(array, least, most)


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays share memory, or may where finding out would take long."""
    try:
        return np.shares_memory(a, b, max_work=OVERLAP_WORK)
    except np.exceptions.TooHardError:
        return True


def _overlaps_itself(array: np.ndarray) -> bool:
    """Whether an element may lie where another one does, as along a stride of 0."""
    if array.flags.c_contiguous:  # as empty arrays are
        return False
    reach = array.itemsize  # the bytes from the first to the last of the axes so far
    for stride, n in sorted((abs(stride), n) for stride, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False


def _check_shape(value: Any, name: str, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
