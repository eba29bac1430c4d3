"""A whole network on the GPU: what one step enqueues, and the job that describes it to the kernels.

    gather            the batch's rows, converted
    linear            each layer: x @ w + b and the activation
    dropout           of a layer that drops, into a matrix of its own
    loss              row losses and dz of the last layer
    linear            from the last layer down: dw = x.T @ dz, then dz below = (dz @ w.T) * f'
    dropout           of dz below
    column_sums       db of all layers
    decay             l2, where there is any
    squares, clip     the whole gradient, where it is to be clipped
    sgd or adam       all parameters
    step_sums         the step's loss and number of right rows

Nothing in it waits for the host. Parameters, their gradient and the optimiser's state are flat buffers laid out alike
(kernels.layout); a batch's activations are matrices in another one, with rows at multiples of 64 bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import random, scalar
from ..layout import Layout, leading_dimension
from . import jit
from . import job as fields
from .gemm import tile_for
from .linear import linear

COLUMN_LANES = (32, 8)  # of column_sums: columns of a block, threads that share a column


@dataclass(frozen=True)
class Workspace:
    """Where a batch's matrices lie in one buffer of `size` elements, for so many rows."""

    rows: int
    strides: tuple[int, ...]
    x: int
    y: tuple[int, ...]  # of each layer
    dz: tuple[int, ...]  # the last one, of the last layer, is all there is without gradients
    pre: tuple[int, ...]  # NONE where the derivative does not need it
    dropped: tuple[int, ...]  # of each hidden layer; y where it drops nothing
    dx: int
    size: int

    @classmethod
    def of(
        cls, layout: Layout, activations: Sequence[str], rows: int, gradients: bool, rates: Sequence[float] = ()
    ) -> "Workspace":
        itemsize = np.dtype(layout.dtype).itemsize
        strides = tuple(leading_dimension(width, itemsize) for width in layout.widths)
        at = 0

        def matrix(stride: int) -> int:
            nonlocal at
            at += rows * stride
            return at - rows * stride

        x, dx = matrix(strides[0]), matrix(strides[0]) if gradients else fields.NONE
        y = tuple(matrix(stride) for stride in strides[1:])
        dz = tuple(matrix(stride) for stride in (strides[1:] if gradients else strides[-1:]))
        saved = [gradients and name in scalar.NEEDS_PRE for name in activations] + [False]
        pre = tuple(
            matrix(stride) if needed else fields.NONE for stride, needed in zip(strides[1:], saved, strict=True)
        )
        dropped = (
            tuple(matrix(stride) if rate else saved for stride, saved, rate in zip(strides[1:], y, rates)) or y[:-1]
        )
        return cls(rows, strides, x, y, dz, pre, dropped, dx, at)


@dataclass(frozen=True)
class Product:
    """A product of a step: its kernel, how many blocks, and its record in the job."""

    kernel: jit.Kernel
    blocks: int
    record: np.ndarray


class Plan:
    """The products of a network for batches of so many rows, and how they stand in a job.

    rates: those of dropout, one per hidden layer, or none for a job in which nothing is dropped.
    """

    def __init__(
        self, layout: Layout, activations: Sequence[str], rows: int, gradients: bool, rates: Sequence[float] = ()
    ) -> None:
        self.layout, self.activations = layout, list(activations)
        self.workspace = Workspace.of(layout, activations, rows, gradients, rates)
        layers = range(len(layout.widths) - 1)
        self.forward = [self._forward(n) for n in layers]
        self.dw = [self._dw(n) for n in layers] if gradients else []
        self.dx = [self._dx(n) for n in layers] if gradients else []  # that of layer 0 is dX
        self.products = [*self.forward, *self.dw, *self.dx]
        self.first_dw = len(self.forward)
        self.first_dx = 2 * self.first_dw
        self.drops: dict[tuple[int, bool], int] = {}  # (layer, backward?) -> record's number
        self._drop_records: list[np.ndarray] = []
        for n, rate in enumerate(rates):
            if rate:
                work = self.workspace
                self._drop(n, rate, False, work.y[n], work.dropped[n])
                self._drop(n, rate, True, work.dz[n], work.dz[n])

    def job(self) -> np.ndarray:
        """A job with all records, its header empty."""
        records = [*(product.record for product in self.products), *self._drop_records]
        return np.concatenate([np.zeros(fields.HEADER, np.int64), *records])

    def _product(self, layout: str, m: int, n: int, activation: str = "identity", slope: bool = False) -> Product:
        """One whose size m may be ROWS; the record is still to be filled."""
        dtype = np.dtype(self.layout.dtype)
        rows = self.workspace.rows if m == fields.ROWS else m
        tile = tile_for(rows, n, dtype, jit.processors())
        kernel = linear(dtype.name, tile, layout, True, activation, slope)
        record = np.zeros(fields.RECORD, np.int64)
        record[[fields.M, fields.N]] = m, n
        record[[fields.BIAS, fields.EXTRA, fields.DB]] = fields.NONE
        return Product(kernel, tile.blocks(rows, n), record)

    def _drop(self, n: int, rate: float, backward: bool, source: int, target: int) -> None:
        record = np.zeros(fields.RECORD, np.int64)
        record[[fields.M, fields.N, fields.K]] = fields.ROWS, self.layout.widths[n + 1], n
        record[[fields.A, fields.C]] = source, target
        record[[fields.LDA, fields.LDC]] = self.workspace.strides[n + 1]
        record[fields.LIMIT] = random.limit(rate)
        self.drops[n, backward] = len(self.products) + len(self._drop_records)
        self._drop_records.append(record)

    def _input(self, n: int) -> int:
        return self.workspace.dropped[n - 1] if n else self.workspace.x

    def _forward(self, n: int) -> Product:
        layout, work = self.layout, self.workspace
        name = self.activations[n] if n < len(self.activations) else "identity"
        fused = name == "relu"
        product = self._product("x @ w", fields.ROWS, layout.widths[n + 1], "identity" if fused else name)
        record = product.record
        record[fields.K], record[fields.RELU] = layout.widths[n], fused
        record[[fields.A, fields.LDA]] = self._input(n), work.strides[n]
        record[[fields.B, fields.LDB]] = layout.w_offsets[n], layout.strides[n + 1]
        record[[fields.C, fields.LDC]] = work.y[n], work.strides[n + 1]
        record[[fields.EXTRA, fields.LD_EXTRA]] = work.pre[n], work.strides[n + 1]
        if layout.bias:
            record[fields.BIAS] = layout.b_offsets[n]
        return product

    def _dw(self, n: int) -> Product:
        layout, work = self.layout, self.workspace
        product = self._product("x.T @ dz", layout.widths[n], layout.widths[n + 1])
        record = product.record
        record[fields.K] = fields.ROWS
        record[[fields.A, fields.LDA]] = self._input(n), work.strides[n]
        record[[fields.B, fields.LDB]] = work.dz[n], work.strides[n + 1]
        record[[fields.C, fields.LDC]] = layout.w_offsets[n], layout.strides[n + 1]
        if layout.bias:
            record[fields.DB] = layout.b_offsets[n]
        return product

    def _dx(self, n: int) -> Product:
        layout, work = self.layout, self.workspace
        name = self.activations[n - 1] if n else "identity"
        slope = name != "identity"
        product = self._product("dz @ w.T", fields.ROWS, layout.widths[n], name, slope)
        record = product.record
        record[fields.K] = layout.widths[n + 1]
        record[[fields.A, fields.LDA]] = work.dz[n], work.strides[n + 1]
        record[[fields.B, fields.LDB]] = layout.w_offsets[n], layout.strides[n + 1]
        record[[fields.C, fields.LDC]] = work.dz[n - 1] if n else work.dx, work.strides[n]
        if slope:
            saved = work.pre[n - 1] if name in scalar.NEEDS_PRE else work.y[n - 1]
            record[[fields.EXTRA, fields.LD_EXTRA]] = saved, work.strides[n]
        return product


def column_blocks(widths: Sequence[int]) -> tuple[int, int]:
    """The blocks of column_sums for all layers."""
    return -(-max(widths[1:]) // COLUMN_LANES[0]), len(widths) - 1
