"""What a job enqueues, step by step, and the buffers that it works on. Nothing here waits for the GPU."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import random
from ..cpu.engine import METRICS, OUTPUTS
from . import jit, memory
from . import job as fields
from .batch import SOURCES, gather
from .clip import PARTS as CLIP_PARTS
from .clip import clip, squares
from .dropout import dropout
from .loss import losses, output, step_sums
from .memory import Placed
from .network import COLUMN_LANES, Plan, column_blocks
from .update import PARTS, column_sums, decay, updates


@dataclass
class Buffers:
    """A network's arrays on the GPU: flat ones laid out alike, partial sums of squares, activations, row losses."""

    parameters: Any
    gradient: Any
    parts: Any
    work: Any = None
    results: Any = None

    def reserve(self, plan: Plan, results: int) -> None:
        """Room for a plan's activations, and for so many row losses with their rightness."""
        for name, size in (("work", plan.workspace.size), ("results", 2 * results)):
            array = getattr(self, name)
            if array is None or array.size < size:
                setattr(self, name, None)  # what it had is free before more is asked for
                setattr(self, name, memory.empty(size, self.parameters.dtype))


class Batches:
    """What a job's batches are taken from: data on the GPU, `total` rows of it, `size` at a time, in so many passes.

    With an order, order[first : first + passes * total] is sent along.
    """

    def __init__(
        self, x: Placed, target: Any, weight: Any, order: np.ndarray | None, first: int, total: int, size: int,
        passes: int = 1,
    ) -> None:  # fmt: skip
        self.x, self.target, self.weight, self.first, self.total, self.size = x, target, weight, first, total, size
        self.order: Any = None
        if order is not None:
            self.order = memory.copied(np.ascontiguousarray(order[first : first + passes * total], np.int64))


class Steps:
    """The launches of a job. numbers: (steps, fields.NUMBERS) of the network's dtype, see kernels.cuda.job."""

    def __init__(
        self, plan: Plan, buffers: Buffers, batches: Batches, numbers: np.ndarray, output: str, metric: str | None,
        **header: int,
    ) -> None:  # fmt: skip
        self.plan, self.buffers, self.batches, self.output = plan, buffers, batches, OUTPUTS[output]
        self.dtype, self.widths = plan.layout.dtype, plan.layout.widths
        job, work, columns = plan.job(), plan.workspace, self.widths[-1]
        header |= {
            "TOTAL": batches.total, "BATCH": batches.size, "PASS_STEPS": -(-batches.total // batches.size),
            "FIRST": batches.first, "ORDERED": batches.order is not None, "WEIGHTED": batches.weight is not None,
            "X": work.x, "LDX": work.strides[0], "X_COLUMNS": self.widths[0],
            "COLUMNS": columns, "Z": work.y[-1], "LDZ": work.strides[-1], "DZ": work.dz[-1], "LDDZ": work.strides[-1],
            "LDT": columns, "OUTPUT": self.output, "METRIC": METRICS[metric], "RIGHT": buffers.results.size // 2,
            "W_ROWS": 1, "W_COLUMNS": plan.layout.size,
        }  # fmt: skip
        for name, value in header.items():
            job[getattr(fields, name)] = value
        self.job, self.numbers = memory.copied(job), memory.copied(numbers.reshape(-1))

    def forward(self, step: int) -> None:
        """The batch's rows through all layers, to the logits."""
        x, work = self.batches.x, self.plan.workspace
        blocks = -(-work.rows * self.widths[0] // jit.THREADS)
        gather(self.dtype, SOURCES[x.dtype])(blocks, x.flat, self._order, self.buffers.work, self.job, step)
        for number in range(len(self.plan.forward)):
            self._product(number, step)
            self._drop(number, False, step)

    def outputs(self, out: Any, step: int) -> None:
        """The output activation of a batch, into its rows of out (total * columns,)."""
        work, columns, first = self.plan.workspace, self.widths[-1], step * self.batches.size
        output(self.dtype)(
            min(self.batches.size, self.batches.total - first), self.buffers.work, out, self.output, columns,
            work.y[-1], work.strides[-1], first * columns, columns,
        )  # fmt: skip

    def loss(self, name: str, step: int) -> None:
        """Row losses, and dz of the last layer."""
        target, weight, work = self.batches.target, self.batches.weight, self.buffers.work
        kernel = losses[name](self.dtype, *target_constants(None if target.ndim == 1 else target.dtype))
        kernel(
            self.plan.workspace.rows, work, work, target.flat, self._order,
            self.numbers if weight is None else weight.flat, self.numbers, self.buffers.results, self.job, step,
        )  # fmt: skip

    def backward(self, l2: bool, step: int) -> None:
        """From dz of the last layer to the gradient, the l2 term included."""
        plan, buffers = self.plan, self.buffers
        for n in reversed(range(len(plan.dw))):
            self._product(plan.first_dw + n, step)
            if n:
                self._product(plan.first_dx + n, step)
                self._drop(n - 1, True, step)
        if plan.layout.bias:
            column_sums(self.dtype, *COLUMN_LANES)(
                column_blocks(self.widths), buffers.work, buffers.gradient, self.job, plan.first_dw, step
            )
        if l2:
            decay(self.dtype, jit.THREADS)(
                (PARTS, len(plan.dw)), buffers.parameters, buffers.gradient, buffers.parts, self.numbers, self.job,
                plan.first_dw, step,
            )  # fmt: skip

    def dx(self, step: int) -> None:
        """dX of the batch."""
        self._product(self.plan.first_dx, step)

    def clip(self, norms: Any) -> None:
        """Clipping of the gradient by its norm. norms: (CLIP_PARTS + 1,) float64, the limit at its end."""
        gradient, size = self.buffers.gradient, self.plan.layout.size
        squares(self.dtype, jit.THREADS)(CLIP_PARTS, gradient, norms, size)
        clip(self.dtype, jit.THREADS, CLIP_PARTS)(-(-size // jit.THREADS), gradient, norms, size)

    def update(self, name: str, state: list[Any], step: int) -> None:
        """The optimiser's step on all parameters. state: its arrays on the GPU."""
        parameters = self.buffers.parameters
        first, second = [*state, parameters, parameters][:2]
        blocks = -(-self.plan.layout.size // jit.THREADS)
        updates[name](self.dtype)(
            blocks, parameters, self.buffers.gradient, first, second, self.numbers, self.job, step
        )  # fmt: skip

    def sums(self, out: Any, step: int) -> None:
        """The step's loss and number of right rows, into out (2 * steps,)."""
        buffers = self.buffers
        step_sums(self.dtype, jit.THREADS)(1, buffers.results, buffers.parts, self.numbers, out, self.job, step)

    @property
    def _order(self) -> Any:
        return self.job if self.batches.order is None else self.batches.order

    def _drop(self, layer: int, backward: bool, step: int) -> None:
        number = self.plan.drops.get((layer, backward))
        if number is not None:
            blocks = -(-(-(-self.plan.workspace.rows // random.WORDS) * self.widths[layer + 1]) // jit.THREADS)
            dropout(self.dtype)(blocks, self.buffers.work, self.job, number, step)

    def _product(self, number: int, step: int) -> None:
        plan, buffers, product = self.plan, self.buffers, self.plan.products[number]
        b, c = buffers.parameters, buffers.work
        if plan.first_dw <= number < plan.first_dx:
            b, c = buffers.work, buffers.gradient
        product.kernel(
            product.blocks, buffers.work, b, c, buffers.parameters, buffers.work, self.job, number, step
        )  # fmt: skip


def target_constants(dtype: np.dtype | None) -> tuple[str, bool]:
    """What a loss is compiled for: targets of this dtype, or labels."""
    return ("int64", True) if dtype is None else (SOURCES[dtype], False)
