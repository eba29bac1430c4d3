"""A whole network on the GPU: what one step enqueues, and the job that describes it to the kernels.

    gather            the batch's rows, converted
    linear            each layer: x @ w + b and the activation
    dropout           of a layer that drops, into a matrix of its own
    loss              row losses and dz of the last layer
    linear            from the last layer down: dz below = (dz @ w.T) * f'
    dropout           of dz below
    linear            dw = x.T @ dz of all layers
    column_sums       db of all layers
    decay             l2, where there is any
    sgd or adam       all parameters; dw and db may come in parts of the batch, which it adds up
    step_sums         the step's loss and number of right rows

Where all layers are narrow, share an activation, drop nothing and none multiplies on tensor cores, narrow.forward is
all that comes before the loss, and narrow.backward all between it and dw.

Nothing in it waits for the host. Parameters, their gradient and the optimiser's state are flat buffers laid out alike
(kernels.layout); a batch's activations are matrices in another one, with rows at multiples of 64 bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from kernels import random, scalar
from kernels.cuda.compiler import jit
from kernels.cuda.engine import job as fields
from kernels.cuda.engine.operations.gather import gather
from kernels.cuda.product import narrow
from kernels.cuda.product.gemm import arithmetic, chunk_for, parts_for, tile_for
from kernels.cuda.product.linear import compiled, linear
from kernels.layout import Layout, leading_dimension

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
    """A product of a step, or several of one kind: their kernel, how many blocks, and the first's record in the job."""

    kernel: jit.Kernel
    blocks: int | tuple[int, int, int]
    number: int


class Plan:
    """The products of a network for batches of so many rows, and how they stand in a job.

    rates: those of dropout, one per hidden layer, or none for a job in which nothing is dropped. precision: of the
    layers that are wide enough for it. narrow: the tile for kernels.cuda.product.narrow, or None.
    """

    def __init__(
        self, layout: Layout, activations: Sequence[str], rows: int, gradients: bool, rates: Sequence[float] = (),
        precision: str = "float32",
    ) -> None:  # fmt: skip
        self.layout, self.activations, self.gradients = layout, list(activations), gradients
        self.dtype = np.dtype(layout.dtype)
        self.workspace = Workspace.of(layout, activations, rows, gradients, rates)
        self.layers = range(len(layout.widths) - 1)
        self.arithmetic = [arithmetic(self.dtype, precision, *widths) for widths in pairwise(layout.widths)]
        self.narrow = None
        # whose kernels take one tile through all layers, and so would round in those that are too narrow for it, too
        on_tensor_cores = any(name != self.dtype.name for name in self.arithmetic)
        if len(set(activations)) == 1 and not any(rates) and not on_tensor_cores:
            self.narrow = narrow.tile_for(layout.widths, rows, self.dtype, jit.processors())
        self._records: list[np.ndarray] = []
        self.forward = [self._forward(n) for n in self.layers]
        if gradients:
            self.largest = max(pairwise(layout.widths), key=math.prod)
            self.dw_arithmetic = arithmetic(self.dtype, precision, *self.largest)  # one launch makes dw of all layers
            self.parts = parts_for(*self.largest, rows, self.dw_arithmetic)  # of every dw and db
            self.dw = self._dw()
            self.dx = [self._dx(n) for n in self.layers]  # that of layer 0 is dX
        self.drops: dict[tuple[int, bool], int] = {}  # (layer, backward?) -> record's number
        for n, rate in enumerate(rates):
            if rate:
                work = self.workspace
                self.drops[n, False] = self._drop(n, rate, work.y[n], work.dropped[n])
                self.drops[n, True] = self._drop(n, rate, work.dz[n], work.dz[n])

    def job(self) -> np.ndarray:
        """A job with all records, its header empty."""
        return np.concatenate([np.zeros(fields.HEADER, np.int64), *self._records])

    def kernels(self, source: str) -> list[jit.Kernel]:
        """What it runs on data of this type."""
        if self.narrow is None:
            products = [*self.forward, *(self.dx[1:] if self.gradients else [])]
            kernels = [gather(self.dtype.name, source), *(product.kernel for product in products)]
        else:
            kernels = [self.narrow_forward(source), *([self.narrow_backward()] if self.gradients else [])]
        return [*kernels, self.dw.kernel] if self.gradients else kernels

    def narrow_forward(self, source: str) -> jit.Kernel:
        """The kernel for all layers, on data of this type."""
        return narrow.forward(self.dtype.name, self.narrow, compiled(self.activations[0]), source)

    def narrow_backward(self) -> jit.Kernel:
        """The kernel for dz of all layers below the last one."""
        return narrow.backward(self.dtype.name, self.narrow, self.activations[0])

    def _record(self, m: int, n: int, k: int) -> np.ndarray:
        """Another one of the job's, of a product c (m, n) = a (m, k) @ b (k, n) so far."""
        record = np.zeros(fields.RECORD, np.int64)
        record[[fields.M, fields.N, fields.K]] = m, n, k
        record[[fields.BIAS, fields.EXTRA, fields.DB]] = fields.NONE
        self._records.append(record)
        return record

    def _drop(self, n: int, rate: float, source: int, target: int) -> int:
        record = self._record(fields.ROWS, self.layout.widths[n + 1], n)
        record[[fields.A, fields.C]] = source, target
        record[[fields.LDA, fields.LDC]] = self.workspace.strides[n + 1]
        record[fields.LIMIT] = random.limit(rate)
        return len(self._records) - 1

    def _product(self, n: int, layout: str, width: int, activation: str, slope: bool) -> Product:
        """That of the last record, for layer n, which has the batch's rows and so many columns."""
        tile = tile_for(self.workspace.rows, width, self.arithmetic[n], jit.processors())
        kernel = linear(self.dtype.name, tile, layout, True, activation, slope)
        return Product(kernel, tile.blocks(self.workspace.rows, width), len(self._records) - 1)

    def _input(self, n: int) -> int:
        return self.workspace.dropped[n - 1] if n else self.workspace.x

    def _forward(self, n: int) -> Product:
        layout, work = self.layout, self.workspace
        name = self.activations[n] if n < len(self.activations) else "identity"
        record = self._record(fields.ROWS, layout.widths[n + 1], layout.widths[n])
        record[fields.ACTIVE] = name != "identity"
        record[[fields.A, fields.LDA]] = self._input(n), work.strides[n]
        record[[fields.B, fields.LDB]] = layout.w_offsets[n], layout.strides[n + 1]
        record[[fields.C, fields.LDC]] = work.y[n], work.strides[n + 1]
        record[[fields.EXTRA, fields.LD_EXTRA]] = work.pre[n], work.strides[n + 1]
        if self.narrow and not self.gradients and n < len(self.activations):
            record[fields.C] = fields.NONE
        if layout.bias:
            record[fields.BIAS] = layout.b_offsets[n]
        return self._product(n, "x @ w", layout.widths[n + 1], compiled(name), False)

    def _dw(self) -> Product:
        """Those of all layers, in one launch."""
        layout, work, number = self.layout, self.workspace, len(self._records)
        for n in self.layers:
            record = self._record(layout.widths[n], layout.widths[n + 1], fields.ROWS)
            record[[fields.CHUNK, fields.SPACING]] = chunk_for(work.rows, self.parts), layout.size
            record[[fields.A, fields.LDA]] = self._input(n), work.strides[n]
            record[[fields.B, fields.LDB]] = work.dz[n], work.strides[n + 1]
            record[[fields.C, fields.LDC]] = layout.w_offsets[n], layout.strides[n + 1]
            if layout.bias:
                record[fields.DB] = layout.b_offsets[n]
        tile = tile_for(*self.largest, self.dw_arithmetic, jit.processors(), self.parts)
        most = max(tile.blocks(*widths) for widths in pairwise(layout.widths))
        kernel = linear(self.dtype.name, tile, "x.T @ dz", True, compiled("identity"), False)
        return Product(kernel, (most, self.parts, len(self.layers)), number)

    def _dx(self, n: int) -> Product:
        layout, work = self.layout, self.workspace
        name = self.activations[n - 1] if n else "identity"
        slope = name != "identity"
        record = self._record(fields.ROWS, layout.widths[n], layout.widths[n + 1])
        record[[fields.A, fields.LDA]] = work.dz[n], work.strides[n + 1]
        record[[fields.B, fields.LDB]] = layout.w_offsets[n], layout.strides[n + 1]
        record[[fields.C, fields.LDC]] = work.dz[n - 1] if n else work.dx, work.strides[n]
        if slope:
            saved = work.pre[n - 1] if name in scalar.NEEDS_PRE else work.y[n - 1]
            record[[fields.EXTRA, fields.LD_EXTRA]] = saved, work.strides[n]
        return self._product(n, "dz @ w.T", layout.widths[n], compiled(name), slope)


def column_blocks(widths: Sequence[int]) -> tuple[int, int]:
    """The blocks of column_sums for all layers."""
    return -(-max(widths[1:]) // COLUMN_LANES[0]), len(widths) - 1
