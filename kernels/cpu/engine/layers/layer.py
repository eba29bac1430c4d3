"""What the kernels of a kind of layer take, and what they have in common: what follows a layer's own arithmetic."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.declaration import Address, Flag, Index, Size, Stride
from kernels.cpu.compiler.records import record_address
from kernels.cpu.engine.layers.dropout import Dropout
from kernels.cpu.ir.instruction_sets import chosen, itemsize
from kernels.cpu.measure import stamps
from kernels.cpu.measure.stamps import stamp
from kernels.cpu.rowwise.elementwise import Activation, ActivationBackward
from kernels.engine.network import Stage
from kernels.layers import Layer


class Forward(Protocol):
    """Columns first, first + 1, ... of layer n's outputs, for rows of a step's batch from `row` on.

    job: its address. They go into the layer's buffer, from its row `at` on. times: the thread's record of the clock,
    or 0.
    """

    def __call__(
        self, job: Address, n: Index, at: Index, step: Index, row: Index, rows: Size, first: Index, columns: Size,
        times: Address,
    ) -> None: ...  # fmt: skip


class Backward(Protocol):
    """Columns first, first + 1, ... of dz of the layer below n, or of dX. The arguments are those of Forward."""

    def __call__(
        self, job: Address, n: Index, at: Index, step: Index, row: Index, rows: Size, first: Index, columns: Size,
        times: Address,
    ) -> None: ...  # fmt: skip


class Gradient(Protocol):
    """The gradients of w[i0 : i0 + height, j0 : j0 + columns] and of b[j0 : j0 + columns], summed over rows.

    job: its address. The rows of layer n's buffers begin at `at`; those of the data or the order at `position`. g:
    where dw goes, its transpose where the layer says so. gb: where db goes, or 0. adds: to what is there already.
    """

    def __call__(
        self, job: Address, n: Index, at: Index, position: Index, rows: Size, i0: Index, height: Size, j0: Index,
        columns: Size, g: Address, ldg: Stride, gb: Address, adds: Flag,
    ) -> None: ...  # fmt: skip


@dataclass(frozen=True)
class LayerKernels:
    """The kernels of a kind of layer, which its module calls KERNELS.

    describe: writes what they read of a layer into its record. buffers: (rows of a batch, stride of its outputs) -> how
    many elements they need besides what every layer has, by the record's fields. work: (stage, rows, gradient groups)
    -> (operations, elements read and written) of a training step, by phases: "forward", "dx" and "dw".
    """

    forward: jit.Family
    backward: jit.Family
    gradient: jit.Family
    describe: Callable[[Any, Any], None]
    buffers: Callable[[int, int], dict[str, int]]
    work: Callable[[Stage, int, int], dict[str, tuple[int, int]]]


def kernels_of(layer: Layer) -> LayerKernels:
    """The kernels of a layer's kind."""
    found: LayerKernels = importlib.import_module(f"kernels.cpu.engine.layers.{layer.kind}").KERNELS
    return found


def whole_vectors(real: Any) -> Callable[..., Any]:
    """A function: columns -> the columns of whole vectors that hold them. Rows are padded, so loops may run over it."""
    lanes = chosen().lanes(itemsize(real))

    @jit.plain
    def whole(columns):
        return (columns + lanes - 1) // lanes * lanes

    return whole


def outputs_of(real: Any) -> Callable[..., Any]:
    """A function: a layer's outputs out of its pre-activations z, by its activation and dropout, for a part of them."""
    size, whole = itemsize(real), whole_vectors(real)
    activate, drop = calls.by_address(Activation, real), calls.by_address(Dropout, real)

    @jit.inline
    def finish(job, layer, n, at, step, row, rows, first, columns, z, ldz, times):
        ld = layer.ld_out
        y = layer.y + at * ld + first * size
        if layer.activate != 0:
            activate(layer.activate, rows, whole(columns), z, ldz, y, ld)
            stamp(times, n, stamps.ACTIVATION)
        if layer.drop != 0:
            target = layer.dropped + at * ld + first * size
            drop(layer.drop, record_address(job), n, step, row, rows, first, whole(columns), y, target, ld, 1)
            stamp(times, n, stamps.ACTIVATION)

    return finish


def derivative_of(real: Any) -> Callable[..., Any]:
    """A function: dz of layer n out of the gradient by its outputs, in place, for a part of it."""
    size, whole = itemsize(real), whole_vectors(real)
    derivative, drop = calls.by_address(ActivationBackward, real), calls.by_address(Dropout, real)

    @jit.inline
    def back(job, layer, n, at, step, row, rows, first, columns, dz, times):
        ld = layer.ld_out
        if layer.activate_backward != 0:
            saved, lds = layer.y + at * ld + first * size, ld
            if layer.pre != 0:
                saved, lds = layer.pre + at * layer.ld_pre + first * size, layer.ld_pre
            derivative(layer.activate_backward, rows, whole(columns), dz, ld, saved, lds, dz, ld)
            stamp(times, n, stamps.DERIVATIVE)
        if layer.drop != 0:
            drawn = 0 if layer.dropped == layer.y else 1
            drop(layer.drop, record_address(job), n, step, row, rows, first, whole(columns), dz, dz, ld, drawn)
            stamp(times, n, stamps.DERIVATIVE)

    return back
