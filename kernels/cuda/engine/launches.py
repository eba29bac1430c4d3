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
    the update        all parameters; dw and db may come in parts of the batch, which it adds up
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

from kernels.activations import ACTIVATIONS, Activation
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.compiler.records import Record, size
from kernels.cuda.driver import gpu
from kernels.cuda.engine.job import PRODUCTS, Drop, Product
from kernels.cuda.engine.operations.gather import gather
from kernels.cuda.product import narrow
from kernels.cuda.product.gemm import arithmetic, chunk_for, parts_for, tile_for
from kernels.cuda.product.linear import compiled, linear
from kernels.layout import Layout, leading_dimension
from kernels.maths import random


@dataclass(frozen=True)
class Workspace:
    """Where a batch's matrices lie in one buffer of `size` elements."""

    rows: int
    strides: tuple[int, ...]
    x: int
    y: tuple[int, ...]  # of each layer
    dz: tuple[int, ...]  # the last one, of the last layer, is all there is without gradients
    pre: tuple[int | None, ...]  # none where the derivative does not need it
    dropped: tuple[int, ...]  # of each hidden layer; y where it drops nothing
    dx: int
    size: int

    @classmethod
    def of(
        cls, layout: Layout, activations: Sequence[Activation], rows: int, gradients: bool, rates: Sequence[float] = ()
    ) -> "Workspace":
        itemsize = np.dtype(layout.dtype).itemsize
        strides = tuple(leading_dimension(width, itemsize) for width in layout.widths)
        at = 0

        def matrix(stride: int) -> int:
            nonlocal at
            at += rows * stride
            return at - rows * stride

        x, dx = matrix(strides[0]), matrix(strides[0]) if gradients else 0
        y = tuple(matrix(stride) for stride in strides[1:])
        dz = tuple(matrix(stride) for stride in (strides[1:] if gradients else strides[-1:]))
        saved = [gradients and activation.slope_reads == "z" for activation in activations] + [False]
        pre = tuple(matrix(stride) if needed else None for stride, needed in zip(strides[1:], saved, strict=True))
        dropped = (
            tuple(matrix(stride) if rate else saved for stride, saved, rate in zip(strides[1:], y, rates)) or y[:-1]
        )
        return cls(rows, strides, x, y, dz, pre, dropped, dx, at)


@dataclass(frozen=True)
class Launch:
    """A product of a step, or several of one kind: their kernel, how many blocks, and where in the job the first is."""

    kernel: jit.Kernel
    blocks: int | tuple[int, int, int]
    at: int


class Plan:
    """The products of a network for batches of `rows` rows, and how they stand in a job.

    rates: those of dropout, one per hidden layer, or none for a job in which nothing is dropped. precision: of the
    layers that are wide enough for it. narrow: the tile for kernels.cuda.product.narrow, or None.
    """

    def __init__(
        self, layout: Layout, activations: Sequence[Activation], rows: int, gradients: bool,
        rates: Sequence[float] = (), precision: str = "float32",
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
            self.narrow = narrow.tile_for(layout.widths, rows, self.dtype, gpu.processors())
        self.records: list[Record] = []  # what stands in a job after its header
        self._next = PRODUCTS  # where the next one will be
        self.forward = [self._forward(n) for n in self.layers]
        if gradients:
            self.largest = max(pairwise(layout.widths), key=math.prod)
            self.dw_arithmetic = arithmetic(self.dtype, precision, *self.largest)  # one launch makes dw of all layers
            self.parts = parts_for(*self.largest, rows, self.dw_arithmetic)  # of every dw and db
            self.dw = self._dw()
            self.dx = [self._dx(n) for n in self.layers]  # that of layer 0 is dX
        self.drops: dict[tuple[int, bool], int] = {}  # (layer, backward?) -> where its record is
        for n, rate in enumerate(rates):
            if rate:
                work = self.workspace
                self.drops[n, False] = self._drop(n, rate, work.y[n], work.dropped[n])
                self.drops[n, True] = self._drop(n, rate, work.dz[n], work.dz[n])

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

    def _add(self, record: Record) -> int:
        """Another record of the job's; returns where it is."""
        at = self._next
        self.records.append(record)
        self._next += size(type(record))
        return at

    def _drop(self, n: int, rate: float, source: int, target: int) -> int:
        stride = self.workspace.strides[n + 1]
        return self._add(
            Drop(
                columns=self.layout.widths[n + 1], layer=n, source=source, target=target, row=stride,
                limit=random.limit(rate),
            )
        )  # fmt: skip

    def _launch(self, n: int, product: Product, layout: str, activation: Activation, slope: bool) -> Launch:
        """That of one product for layer n, which has the batch's rows."""
        rows = self.workspace.rows
        tile = tile_for(rows, product.n, self.arithmetic[n], gpu.processors())
        kernel = linear(self.dtype.name, tile, layout, True, activation, slope)
        return Launch(kernel, tile.blocks(rows, product.n), self._add(product))

    def _input(self, n: int) -> int:
        return self.workspace.dropped[n - 1] if n else self.workspace.x

    def _forward(self, n: int) -> Launch:
        layout, work = self.layout, self.workspace
        activation = self.activations[n] if n < len(self.activations) else ACTIVATIONS["identity"]
        kept = not self.narrow or self.gradients or n == len(self.activations)  # else it stays in shared memory
        pre = work.pre[n]
        product = Product(
            m_of_batch=1, n=layout.widths[n + 1], k=layout.widths[n],
            a=self._input(n), a_row=work.strides[n],
            b=layout.w_offsets[n], b_row=layout.strides[n + 1],
            stored=kept, c=work.y[n], c_row=work.strides[n + 1],
            biased=layout.bias, bias=layout.b_offsets[n],
            with_extra=pre is not None, extra=pre or 0, extra_row=work.strides[n + 1],
            active=not activation.is_identity,
        )  # fmt: skip
        return self._launch(n, product, "x @ w", compiled(activation), False)

    def _dw(self) -> Launch:
        """Those of all layers, in one launch."""
        layout, work, first = self.layout, self.workspace, self._next
        for n in self.layers:
            self._add(
                Product(
                    m=layout.widths[n], n=layout.widths[n + 1], k_of_batch=1,
                    a=self._input(n), a_row=work.strides[n],
                    b=work.dz[n], b_row=work.strides[n + 1],
                    c=layout.w_offsets[n], c_row=layout.strides[n + 1],
                    with_db=layout.bias, db=layout.b_offsets[n],
                    chunk=chunk_for(work.rows, self.parts), spacing=layout.size,
                )
            )  # fmt: skip
        tile = tile_for(*self.largest, self.dw_arithmetic, gpu.processors(), self.parts)
        most = max(tile.blocks(*widths) for widths in pairwise(layout.widths))
        kernel = linear(self.dtype.name, tile, "x.T @ dz", True, compiled(ACTIVATIONS["identity"]), False)
        return Launch(kernel, (most, self.parts, len(self.layers)), first)

    def _dx(self, n: int) -> Launch:
        layout, work = self.layout, self.workspace
        activation = self.activations[n - 1] if n else ACTIVATIONS["identity"]
        slope = not activation.is_identity
        product = Product(
            m_of_batch=1, n=layout.widths[n], k=layout.widths[n + 1],
            a=work.dz[n], a_row=work.strides[n + 1],
            b=layout.w_offsets[n], b_row=layout.strides[n + 1],
            c=work.dz[n - 1] if n else work.dx, c_row=work.strides[n],
        )  # fmt: skip
        if slope:
            pre = work.pre[n - 1]
            product.extra = work.y[n - 1] if pre is None else pre
            product.extra_row = work.strides[n]
        return self._launch(n, product, "dz @ w.T", compiled(activation), slope)


def column_blocks(widths: Sequence[int]) -> tuple[int, int]:
    """The blocks of column_sums for all layers."""
    return -(-max(widths[1:]) // tuning.COLUMN_LANES[0]), len(widths) - 1
