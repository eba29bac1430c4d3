"""Losses and their gradients with respect to what the last product made, fused with the output activation.

Blocks of rows are transposed, see row_blocks.py; a loss that is a sum over many outputs reads whole vectors in place.
"""

from collections.abc import Callable
from typing import Any, Protocol

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, B, Code, Flag, Matrix, O, Size, Stride
from kernels.cpu.ir import memory
from kernels.cpu.rowwise.output_losses import each_output, squared_error
from kernels.cpu.rowwise.row_blocks import SCALE, VALUE, LossRows, RowBlock, row_block
from kernels.cpu.rowwise.softmax_losses import softmax_cross_entropy
from kernels.deferred import types
from kernels.engine.codes import ALL_OUTPUTS, IDENTITY
from kernels.losses import LOSSES, Loss


class RowLoss(Protocol):
    """The loss of z and dz, its gradient, overwritten; returns the sum of weight * row loss, unscaled.

    output: the output activation, for losses that read y. target: numbers; or, where `labels` is 1, for losses that
    take them, an int64 label at the beginning of each row. weight (B,): address 0 for none. dz is that of scale *
    weight * row loss; dz may be z. row_loss and right (B,), float64, the latter by `metric`: address 0 for nowhere.
    """

    def __call__(
        self, output: Code, z: Matrix[B, O], target: Matrix[B, O], labels: Flag, weight: Address, scale: float,
        dz: Matrix[B, O], metric: Code, row_loss: Address, right: Address, parameter: float,
    ) -> float: ...  # fmt: skip


_OF_BLOCK: dict[str, Callable[[Any, RowBlock, Loss], Any]] = {  # by Loss.kernel: makes a function of LossRows
    "": each_output,
    "softmax_cross_entropy": softmax_cross_entropy,
    "squared_error": squared_error,
}


def _family(declared: Loss) -> jit.Family:
    """The kernels of a loss. Its of_block reads SCALE, and writes dz and VALUE, the rows' losses."""

    @jit.kernel(like=RowLoss, name=f"loss_{declared.name}", stamp=declared.stamp)
    def loss(real: Any) -> Any:
        f = row_block(real)
        of_block = _OF_BLOCK[declared.kernel](real, f, declared)
        block, elements, doubles, are_right = f.block, f.elements, f.doubles, f.are_right
        lane_row, scratch_bytes, zero, half = f.lane_row, f.scratch_bytes, real(0.0), real(0.5)
        reads_y = declared.reads == "y"
        doubled = types.float64  # weights of any size, 1e-40 or 1e38, where they make no sum or product too large

        def function(output, z, target, labels, weight, scale, dz, metric, row_loss, right, parameter):
            scratch, columns = memory.stack(scratch_bytes), z.columns
            s, value = elements(scratch + SCALE * lane_row), elements(scratch + VALUE * lane_row)
            weights = elements(weight)
            have_maximum = right != 0 and metric != ALL_OUTPUTS
            threshold = half if reads_y and output == IDENTITY else zero
            for r in range(block):
                s[r] = real(scale)
            sum_of_losses = 0.0
            for row in range(0, z.rows, block):
                count, losses = min(block, z.rows - row), doubles(row_loss + row * 8)
                z_at, t_at = z.address + row * z.stride, target.address + row * target.stride
                if weight != 0:
                    for r in range(count):
                        s[r] = real(scale * doubled(weights[row + r]))
                if right != 0:
                    are_right(
                        metric, count, columns, z_at, z.stride, t_at, target.stride, threshold, scratch, right + row * 8
                    )
                of_block(
                    LossRows(
                        count, columns, z_at, z.stride, t_at, target.stride, labels, dz.address + row * dz.stride,
                        dz.stride, output, real(parameter), have_maximum, scratch,
                    )
                )  # fmt: skip
                for r in range(count):
                    weighted = (doubled(weights[row + r]) if weight != 0 else 1.0) * value[r]
                    sum_of_losses += weighted
                    if row_loss != 0:
                        losses[r] = weighted
            return sum_of_losses

        return function

    return loss


losses: dict[str, jit.Family] = {}  # by name, also those that programs declare later


def _follow(name: str, declared: Loss) -> None:
    losses[name] = _family(declared)


LOSSES.follow(_follow)


class OutputActivation(Protocol):
    """y (rows, columns) = the output activation of z, overwritten; y may be z."""

    def __call__(
        self, code: Code, rows: Size, columns: Size, z: Address, ldz: Stride, y: Address, ldy: Stride
    ) -> None: ...


@jit.kernel(like=OutputActivation)
def output(real: Any) -> Any:
    """The output activations, by their codes in row_blocks.py."""
    f = row_block(real)
    block, outputs, scratch_bytes = f.block, f.outputs, f.scratch_bytes

    def function(code, rows, columns, z, ldz, y, ldy):
        scratch = memory.stack(scratch_bytes)
        for row in range(0, rows, block):
            outputs(code, min(block, rows - row), columns, z + row * ldz, ldz, y + row * ldy, ldy, scratch)

    return function
