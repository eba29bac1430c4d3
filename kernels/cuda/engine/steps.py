"""What a job enqueues, step by step, and the buffers that it works on. Nothing here waits for the GPU."""

from dataclasses import replace
from typing import Any

import numpy as np

from kernels.cuda import tuning
from kernels.cuda.arrays import memory
from kernels.cuda.arrays.memory import Placed
from kernels.cuda.compiler.records import words
from kernels.cuda.engine.job import Job
from kernels.cuda.engine.launches import Launch, Plan, column_blocks
from kernels.cuda.engine.operations.clip import clip, squares
from kernels.cuda.engine.operations.dropout import dropout
from kernels.cuda.engine.operations.gather import SOURCES, gather
from kernels.cuda.engine.operations.update import column_sums, decay, kernel_of, sum_parts
from kernels.cuda.rowwise.loss import losses, output, step_sums
from kernels.cuda.rowwise.row_reductions import row_blocks, row_threads
from kernels.engine.codes import METRICS, OUTPUTS
from kernels.engine.requests import Batches
from kernels.maths import random
from kernels.optimizers.declaration import Update


class Buffers:
    """A network's arrays on the GPU. They grow, and stay where they are as long as they are large enough."""

    def __init__(self, size: int, layers: int, dtype: np.dtype) -> None:
        self.dtype = dtype
        self.parameters = memory.empty(size, dtype)
        self.gradient = memory.zeros(size, dtype)  # of each part of a batch, one after the other; its padding stays 0
        self.parts = memory.zeros(tuning.DECAY_PARTS * layers, dtype)  # of sums of squares
        self.work: Any = None  # activations
        self.results: Any = None  # row losses, and rows' rightness

    def reserve(self, plan: Plan, results: int) -> None:
        """Room for a plan's activations and gradients, and for `results` row losses with their rightness."""
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


class PlacedBatches:
    """What a job's batches are taken from: data on the GPU, and the numbers of those of its rows that have an order."""

    def __init__(self, x: Placed, target: Any, weight: Any, batches: Batches) -> None:
        self.x, self.target, self.weight = x, target, weight
        self.first, self.total, self.size, order = batches.first, batches.total, batches.size, batches.order
        end = self.first + batches.passes * self.total
        self.order = None if order is None else np.array(order[self.first : end], np.int64)
        if self.order is not None and self.order.size and self.order.max() >= x.shape[0]:
            raise IndexError(f"an order must hold rows below {x.shape[0]}, got {self.order.max()}")


def job_for(plan: Plan, buffers: Buffers, batches: PlacedBatches, output: str, metric: str | None = None) -> Job:
    """The header of a job on these batches."""
    work, last = plan.workspace, plan.workspace.strides[-1]
    columns, parameters = plan.layout.widths[-1], plan.layout.size
    return Job(
        total=batches.total, batch=batches.size, first=batches.first, ordered=batches.order is not None,
        pass_steps=-(-batches.total // batches.size),
        x=work.x, x_row=work.strides[0], x_columns=plan.layout.widths[0],
        columns=columns, z=work.y[-1], z_row=last, dz=work.dz[-1], dz_row=last, target_row=columns,
        weighted=batches.weight is not None, output=OUTPUTS[output], metric=METRICS[metric],
        right=buffers.results.size // 2,
        w_rows=1, w_columns=parameters,
        g_parts=plan.parts if plan.gradients else 0, g_spacing=parameters if plan.gradients else 0,
        layers=len(plan.layers), first_dw=plan.dw.at if plan.gradients else 0,
    )  # fmt: skip


class Steps:
    """The launches of a step, the same ones for each. numbers: (steps, n), see kernels.cuda.engine.job.

    The step is the job's first one, until `sums` advances the job, or until `at`, for one of `steps`.
    """

    def __init__(
        self, plan: Plan, buffers: Buffers, batches: PlacedBatches, numbers: np.ndarray, job: Job, steps: int = 1
    ) -> None:
        self.plan, self.buffers, self.batches, self.output = plan, buffers, batches, job.output
        self.dtype, self.widths = plan.layout.dtype, plan.layout.widths
        job = replace(job, numbers=numbers.shape[1])
        jobs = np.array([words(replace(job, step=n), *plan.records) for n in range(steps)], np.int64)
        self.words = self._jobs = buffers.send("jobs", jobs)
        self._size = jobs.shape[1]
        self.numbers = buffers.send("numbers", numbers)
        self.order = self.words if batches.order is None else buffers.send("order", batches.order)

    def at(self, step: int) -> None:
        """What is enqueued from now on is this step's."""
        self.words = self._jobs[step * self._size :]

    def forward(self) -> None:
        """The batch's rows through all layers, to the logits."""
        plan, x, work, parameters = self.plan, self.batches.x, self.buffers.work, self.buffers.parameters
        rows, source = plan.workspace.rows, SOURCES[x.dtype]
        if plan.narrow:
            blocks = plan.narrow.blocks(rows, 1)
            plan.narrow_forward(source)(blocks, x.flat, self.order, work, parameters, self.words)
            return
        gather(self.dtype, source)(-(-rows * self.widths[0] // tuning.THREADS), x.flat, self.order, work, self.words)
        for n, launch in enumerate(plan.forward):
            self._multiply(launch)
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
            self.numbers if weight is None else weight.flat, self.numbers, self.buffers.results, self.words,
        )  # fmt: skip

    def backward(self, l2: bool) -> None:
        """From dz of the last layer to the gradient, in parts maybe; the l2 term is in the first."""
        plan, buffers, first_dw = self.plan, self.buffers, self.plan.dw.at
        work, gradient, parameters = buffers.work, buffers.gradient, buffers.parameters
        if plan.narrow:
            blocks = plan.narrow.blocks(plan.workspace.rows, 1)
            plan.narrow_backward()(blocks, work, parameters, self.words, plan.dx[0].at)
        else:
            for n in plan.layers[:0:-1]:
                self._multiply(plan.dx[n])
                self._drop(n - 1, True)
        plan.dw.kernel(plan.dw.blocks, work, work, gradient, parameters, work, self.words, first_dw)
        if plan.layout.bias:
            of_columns = (*column_blocks(self.widths), plan.parts)
            column_sums(self.dtype, *tuning.COLUMN_LANES)(of_columns, work, gradient, self.words, first_dw)
        if l2:
            of_layers = (tuning.DECAY_PARTS, len(plan.layers))
            decay(self.dtype, tuning.THREADS)(
                of_layers, parameters, gradient, buffers.parts, self.numbers, self.words, first_dw
            )

    def whole(self) -> Any:
        """The gradient, its parts added up into the first."""
        n, gradient = self.plan.layout.size, self.buffers.gradient
        if self.plan.parts > 1:
            sum_parts(self.dtype)(-(-n // tuning.THREADS), gradient, gradient, self.plan.parts, n, 1, n, 0)
        return gradient

    def clip(self, norms: Any) -> None:
        """Clipping of the gradient by its norm, once it is whole. norms: (CLIP_PARTS + 1,), the limit at its end."""
        gradient, size = self.whole(), self.plan.layout.size
        squares(self.dtype, tuning.THREADS)(tuning.CLIP_PARTS, gradient, norms, size)
        clip(self.dtype, tuning.THREADS, tuning.CLIP_PARTS)(-(-size // tuning.THREADS), gradient, norms, size)

    def dx(self) -> None:
        """dX of the batch."""
        self._multiply(self.plan.dx[0])

    def update(self, update: Update, state: list[Any]) -> None:
        """The optimiser's step on all parameters. state: its arrays on the GPU."""
        parameters, gradient = self.buffers.parameters, self.buffers.gradient
        blocks = -(-self.plan.layout.size // tuning.THREADS)
        kernel_of(update, self.dtype)(blocks, parameters, gradient, *state, self.numbers, self.words)

    def sums(self, out: Any) -> None:
        """The step's loss and number of right rows, into out (2 * steps,)."""
        buffers = self.buffers
        step_sums(self.dtype, tuning.THREADS)(1, buffers.results, buffers.parts, self.numbers, out, self.words)

    def _drop(self, layer: int, backward: bool) -> None:
        at = self.plan.drops.get((layer, backward))
        if at is not None:
            blocks = -(-(-(-self.plan.workspace.rows // random.WORDS) * self.widths[layer + 1]) // tuning.THREADS)
            dropout(self.dtype)(blocks, self.buffers.work, self.words, at)

    def _multiply(self, launch: Launch) -> None:
        work, parameters = self.buffers.work, self.buffers.parameters
        launch.kernel(launch.blocks, work, parameters, work, parameters, work, self.words, launch.at)


def target_constants(dtype: np.dtype | None) -> tuple[str, bool]:
    """What a loss is compiled for: targets of this dtype, or labels."""
    return ("int64", True) if dtype is None else (SOURCES[dtype], False)
