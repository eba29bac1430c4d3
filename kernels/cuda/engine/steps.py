"""What a job enqueues, step by step, and the buffers that it works on. Nothing here waits for the GPU."""

from typing import Any

import numpy as np

from kernels import random
from kernels.cuda.arrays import memory
from kernels.cuda.arrays.memory import Placed
from kernels.cuda.compiler import jit
from kernels.cuda.engine import job as fields
from kernels.cuda.engine.launches import COLUMN_LANES, Plan, Product, column_blocks
from kernels.cuda.engine.operations.clip import PARTS as CLIP_PARTS
from kernels.cuda.engine.operations.clip import clip, squares
from kernels.cuda.engine.operations.dropout import dropout
from kernels.cuda.engine.operations.gather import SOURCES, gather
from kernels.cuda.engine.operations.update import PARTS, column_sums, decay, sum_parts, updates
from kernels.cuda.rowwise.loss import losses, output, step_sums
from kernels.cuda.rowwise.row_reductions import row_blocks, row_threads
from kernels.engine.codes import METRICS, OUTPUTS


class Buffers:
    """A network's arrays on the GPU. They grow, and stay where they are as long as they are large enough."""

    def __init__(self, size: int, layers: int, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.parameters = memory.empty(size, dtype)
        self.gradient = memory.zeros(size, dtype)  # of each part of a batch, one after the other; its padding stays 0
        self.parts = memory.zeros(PARTS * layers, dtype)  # of sums of squares
        self.work: Any = None  # activations
        self.results: Any = None  # row losses, and rows' rightness

    def reserve(self, plan: Plan, results: int) -> None:
        """Room for a plan's activations and gradients, and for so many row losses with their rightness."""
        self._grow("work", plan.workspace.size, self.dtype)
        self._grow("results", 2 * results, self.dtype)
        if plan.gradients:
            self._grow("gradient", plan.parts * plan.layout.size, self.dtype, memory.zeros)

    def room(self, name: str, n: int, dtype: Any) -> Any:
        """An array of n elements or more."""
        return self._grow(name, 1 << (n - 1).bit_length(), dtype)

    def send(self, name: str, values: np.ndarray) -> Any:
        """The array of this name, which now begins with these values."""
        array = self.room(name, values.size, values.dtype)
        memory.fill(array[: values.size], np.ascontiguousarray(values).reshape(-1))
        return array

    def _grow(self, name: str, n: int, dtype: Any, make: Any = memory.empty) -> Any:
        array = getattr(self, name, None)
        if array is None or array.size < n:
            setattr(self, name, None)  # what it had is free before more is asked for
            setattr(self, name, array := make(n, dtype))
        return array


class Batches:
    """What a job's batches are taken from: data on the GPU, `total` rows of it, `size` at a time, in so many passes.

    With an order, they are the rows order[first : first + passes * total].
    """

    def __init__(
        self, x: Placed, target: Any, weight: Any, order: np.ndarray | None, first: int, total: int, size: int,
        passes: int = 1,
    ) -> None:  # fmt: skip
        self.x, self.target, self.weight, self.first, self.total, self.size = x, target, weight, first, total, size
        self.order = None if order is None else np.array(order[first : first + passes * total], np.int64)
        if self.order is not None and self.order.size and self.order.max() >= x.shape[0]:
            raise IndexError(f"an order must hold rows below {x.shape[0]}, got {self.order.max()}")


class Steps:
    """The launches of a step, the same ones for each. numbers: (steps, fields.NUMBERS), see kernels.cuda.engine.job.

    The step is the job's first one, until `sums` advances the job, or until `at`, for one of so many `steps`.
    """

    def __init__(
        self, plan: Plan, buffers: Buffers, batches: Batches, numbers: np.ndarray, output: str, metric: str | None,
        steps: int = 1, **header: int,
    ) -> None:  # fmt: skip
        self.plan, self.buffers, self.batches, self.output = plan, buffers, batches, OUTPUTS[output]
        self.dtype, self.widths = plan.layout.dtype, plan.layout.widths
        job, work, columns = plan.job(), plan.workspace, self.widths[-1]
        header |= {
            "TOTAL": batches.total, "BATCH": batches.size, "PASS_STEPS": -(-batches.total // batches.size),
            "FIRST": batches.first, "ORDERED": batches.order is not None, "WEIGHTED": batches.weight is not None,
            "X": work.x, "LDX": work.strides[0], "X_COLUMNS": self.widths[0], "LAYERS": len(plan.layers),
            "COLUMNS": columns, "Z": work.y[-1], "LDZ": work.strides[-1], "DZ": work.dz[-1], "LDDZ": work.strides[-1],
            "LDT": columns, "OUTPUT": self.output, "METRIC": METRICS[metric], "RIGHT": buffers.results.size // 2,
            "W_ROWS": 1, "W_COLUMNS": plan.layout.size,
        }  # fmt: skip
        if plan.gradients:
            header = {"G_PARTS": plan.parts, "G_SPACING": plan.layout.size} | header
        for name, value in header.items():
            job[getattr(fields, name)] = value
        jobs = np.tile(job, (steps, 1))
        jobs[:, fields.STEP] = np.arange(steps)
        self.job = self._jobs = buffers.send("jobs", jobs)
        self._size = job.size
        self.numbers = buffers.send("numbers", numbers)
        self.order = self.job if batches.order is None else buffers.send("order", batches.order)

    def at(self, step: int) -> None:
        """What is enqueued from now on is this step's."""
        self.job = self._jobs[step * self._size :]

    def forward(self) -> None:
        """The batch's rows through all layers, to the logits."""
        plan, x, work, parameters = self.plan, self.batches.x, self.buffers.work, self.buffers.parameters
        rows, source = plan.workspace.rows, SOURCES[x.dtype]
        if plan.narrow:
            blocks = plan.narrow.blocks(rows, 1)
            plan.narrow_forward(source)(blocks, x.flat, self.order, work, parameters, self.job)
            return
        gather(self.dtype, source)(-(-rows * self.widths[0] // jit.THREADS), x.flat, self.order, work, self.job)
        for n, product in enumerate(plan.forward):
            self._multiply(product)
            self._drop(n, False)

    def outputs(self, out: Any, step: int) -> None:
        """The output activation of a batch, into its rows of out (total * columns,)."""
        work, columns, first = self.plan.workspace, self.widths[-1], step * self.batches.size
        rows = min(self.batches.size, self.batches.total - first)
        output(self.dtype, row_threads(columns))(
            row_blocks(rows, columns), self.buffers.work, out, self.output, rows, columns, work.y[-1],
            work.strides[-1], first * columns, columns,
        )  # fmt: skip

    def loss(self, name: str) -> None:
        """Row losses, and dz of the last layer."""
        target, weight, work = self.batches.target, self.batches.weight, self.buffers.work
        rows, columns = self.plan.workspace.rows, self.widths[-1]
        constants = target_constants(None if target.ndim == 1 else target.dtype)
        losses[name](self.dtype, row_threads(columns), *constants)(
            row_blocks(rows, columns), work, work, target.flat, self.order,
            self.numbers if weight is None else weight.flat, self.numbers, self.buffers.results, self.job,
        )  # fmt: skip

    def backward(self, l2: bool) -> None:
        """From dz of the last layer to the gradient, in parts maybe; the l2 term is in the first."""
        plan, buffers, first_dw = self.plan, self.buffers, self.plan.dw.number
        work, gradient, parameters = buffers.work, buffers.gradient, buffers.parameters
        if plan.narrow:
            blocks = plan.narrow.blocks(plan.workspace.rows, 1)
            plan.narrow_backward()(blocks, work, parameters, self.job, plan.dx[0].number)
        else:
            for n in plan.layers[:0:-1]:
                self._multiply(plan.dx[n])
                self._drop(n - 1, True)
        plan.dw.kernel(plan.dw.blocks, work, work, gradient, parameters, work, self.job, first_dw)
        if plan.layout.bias:
            blocks_of_all = (*column_blocks(self.widths), plan.parts)
            column_sums(self.dtype, *COLUMN_LANES)(blocks_of_all, work, gradient, self.job, first_dw)
        if l2:
            decay(self.dtype, jit.THREADS)(
                (PARTS, len(plan.layers)), parameters, gradient, buffers.parts, self.numbers, self.job, first_dw
            )

    def whole(self) -> Any:
        """The gradient, its parts added up into the first."""
        n, gradient = self.plan.layout.size, self.buffers.gradient
        if self.plan.parts > 1:
            sum_parts(self.dtype)(-(-n // jit.THREADS), gradient, gradient, self.plan.parts, n, 1, n, 0)
        return gradient

    def clip(self, norms: Any) -> None:
        """Clipping of the gradient by its norm, once it is whole. norms: (CLIP_PARTS + 1,), the limit at its end."""
        gradient, size = self.whole(), self.plan.layout.size
        squares(self.dtype, jit.THREADS)(CLIP_PARTS, gradient, norms, size)
        clip(self.dtype, jit.THREADS, CLIP_PARTS)(-(-size // jit.THREADS), gradient, norms, size)

    def dx(self) -> None:
        """dX of the batch."""
        self._multiply(self.plan.dx[0])

    def update(self, name: str, state: list[Any]) -> None:
        """The optimiser's step on all parameters. state: its arrays on the GPU."""
        parameters, gradient = self.buffers.parameters, self.buffers.gradient
        first, second = [*state, parameters, parameters][:2]
        blocks = -(-self.plan.layout.size // jit.THREADS)
        updates[name](self.dtype)(blocks, parameters, gradient, first, second, self.numbers, self.job)

    def sums(self, out: Any) -> None:
        """The step's loss and number of right rows, into out (2 * steps,)."""
        buffers = self.buffers
        step_sums(self.dtype, jit.THREADS)(1, buffers.results, buffers.parts, self.numbers, out, self.job)

    def _drop(self, layer: int, backward: bool) -> None:
        number = self.plan.drops.get((layer, backward))
        if number is not None:
            blocks = -(-(-(-self.plan.workspace.rows // random.WORDS) * self.widths[layer + 1]) // jit.THREADS)
            dropout(self.dtype)(blocks, self.buffers.work, self.job, number)

    def _multiply(self, product: Product) -> None:
        work, parameters = self.buffers.work, self.buffers.parameters
        product.kernel(product.blocks, work, parameters, work, parameters, work, self.job, product.number)


def target_constants(dtype: np.dtype | None) -> tuple[str, bool]:
    """What a loss is compiled for: targets of this dtype, or labels."""
    return ("int64", True) if dtype is None else (SOURCES[dtype], False)
