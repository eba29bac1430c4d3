"""One network on the CPU: training steps, gradients and outputs, each a job that `run_job` runs."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from kernels.cpu import tuning
from kernels.cpu.engine.explain import explain
from kernels.cpu.engine.job_memory import JobMemory
from kernels.cpu.engine.layers.dropout import dropout as dropout_kernels
from kernels.cpu.engine.operations import clip
from kernels.cpu.engine.operations.gather import gathers
from kernels.cpu.engine.operations.update import kernels_of
from kernels.cpu.engine.schedule import StepSchedule, for_outputs, for_step
from kernels.cpu.engine.scheduler import run_job
from kernels.cpu.engine.thread_counts import ThreadCounts
from kernels.cpu.rowwise.loss import losses, output
from kernels.cpu.threads import workers
from kernels.cpu.threads.thread_choice import ThreadChoice
from kernels.engine.codes import METRICS, OUTPUTS, WRONG_LABEL
from kernels.engine.network import Network
from kernels.engine.requests import Batches, Needs, TrainRequest
from kernels.layout import Layout, address, aligned_zeros
from kernels.losses import LossChoice, loss_and_parameter
from kernels.process import forks
from kernels.process.apart import apart

NONE = np.zeros(0)
INTERRUPTED = "a signal handler cannot use a model that is at work in the very thread that it interrupts"


P = ParamSpec("P")
R = TypeVar("R")


def _alone(method: Callable[Concatenate["Engine", P], R]) -> Callable[Concatenate["Engine", P], R]:
    """One job at a time: other Python threads that call the same engine wait."""

    @wraps(method)
    def run(self: "Engine", /, *args: P.args, **options: P.kwargs) -> R:
        with self._lock:
            if self._busy:
                raise RuntimeError(INTERRUPTED)
            try:
                self._busy = True
                return method(self, *args, **options)
            finally:
                self._busy = False

    return run


class Engine:
    """Runs a network's jobs on buffers of its own, one job at a time. It checks nothing: see fastnn.model.

    The arguments are those of backends.Engine. Arrays given to a call may have any strides.
    """

    def __init__(
        self,
        network: Network,
        parameters: np.ndarray,
        threads: int | None = None,
        precision: str = "float32",
    ) -> None:
        self.network, self.parameters, self.precision = network, parameters, precision
        self.dtype = parameters.dtype
        self.layout = Layout.of(network, self.dtype.name)
        self.threads = self.most_threads = threads or workers.default_threads()
        self.process = os.getpid()  # the child of a fork makes an engine of its own: this one's may be at work
        self._lock, self._busy = forks.lock(), False
        forks.renewed(self)
        self.kernel = run_job[self.dtype]
        size = self.dtype.itemsize
        self.memory = JobMemory(network, self.layout, parameters, precision, self.threads)
        self._job = self.memory.job
        self._job.output = OUTPUTS[network.output]
        self._thread_counts = ThreadCounts(network, size, self.threads)
        self.multiply_adds = network.n_weights
        self._row_cost = (3 * self.multiply_adds + tuning.MULTIPLY_ADDS_A_UNIT * sum(network.widths)) * size // 4
        self._step_cost = tuning.MULTIPLY_ADDS_A_PARAMETER * self.layout.size * size // 4

    def load(self, needs: Needs) -> None:
        """Compile what jobs with these needs run, or load it from the cache; else the first job does that.

        Their `decays` change nothing here.
        """
        self.kernel.load()
        for schedule in self._schedules_of(needs):
            for phase in schedule.phases:
                phase.operation[self.dtype].load()
        for n in self.memory.products:
            self.memory.product(n, sys.maxsize).load()
        self.memory.load_kernels()
        if needs.loss is not None:
            losses[loss_and_parameter(needs.loss)[0].name][self.dtype].load()
        if needs.outputs:
            output[self.dtype].load()
        if needs.update is not None:
            kernels_of(needs.update)[self.dtype].load()
            if any(stage.dropout for stage in self.network.stages):
                dropout_kernels[self.dtype].load()
            if needs.clips:
                clip.clip[self.dtype].load()
        for dtype in needs.gathered:
            if dtype is not None:
                gathers[dtype][self.dtype].load()
        if self.threads > 1:
            workers.load()

    def _schedules_of(self, needs: Needs) -> Iterator[StepSchedule]:
        """The schedules of jobs with these needs, as far as is known before the first."""
        rows, size = needs.rows, self.dtype.itemsize
        if needs.update is not None:
            yield for_step(self.network, rows, self.training_threads(rows), size, True, dx=False, split=needs.clips)
        if needs.gradients:
            yield for_step(self.network, rows, self.threads_for(rows), size, True, dx=True, split=False)
        if needs.outputs or not (needs.update or needs.gradients):
            yield for_outputs(self.network, rows, self.forward_threads(rows), size, gathered=True, among=rows)

    def _at_fork_reinit(self) -> None:
        """In the child of a fork: whoever was at work here has stayed behind."""
        self._busy = False

    def place(self, x: Any, target: Any = None, weight: Any = None) -> tuple[Any, Any, Any]:
        """Data, targets and row weights as calls read them best: here, as they are."""
        return x, target, weight

    def outputs(self, n: int) -> np.ndarray:
        """A new array (n, O), for what `forward` makes of n rows."""
        return np.empty((n, self.layout.widths[-1]), self.dtype)

    def hold(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """An optimiser's arrays as calls read them best: here, as they are."""
        return arrays

    def training(self) -> contextlib.AbstractContextManager[None]:
        """While this lasts, parameters may be elsewhere than in `parameters`; here they are always there."""
        return contextlib.nullcontext()

    def pull(self) -> None:
        """Bring `parameters` up to date: here they are."""

    def finite(self) -> bool:
        """Whether all parameters are finite numbers."""
        flat = self.parameters
        at_once = tuning.PARAMETERS_AT_ONCE
        return all(np.isfinite(flat[n : n + at_once]).all() for n in range(0, len(flat), at_once))

    def keep(self, state: Sequence[np.ndarray] = (), into: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """Copies of the parameters and of an optimiser's arrays, in those that an earlier call made if given."""
        arrays = (self.parameters, *state)
        copies = into or [np.empty_like(array) for array in arrays]
        for copy, array in zip(copies, arrays):
            copy[...] = array
        return copies

    def put_back(self, copies: Sequence[np.ndarray], state: Sequence[np.ndarray] = ()) -> None:
        """Give the parameters, and as many of the optimiser's arrays as were kept, the values of `keep`'s copies."""
        for array, copy in zip((self.parameters, *state), copies):
            array[...] = copy

    @forks.cached
    def gradient(self) -> np.ndarray:
        """The gradient that a hook sees, laid out like the parameters, its padding zero. Made when first asked for."""
        return aligned_zeros(self.layout.size, self.dtype)

    def _step_schedule(self, rows: int, threads: int, dx: bool, split: bool) -> StepSchedule:
        """The schedule of a step on `rows` rows of the data that have been set."""
        return for_step(self.network, rows, threads, self.dtype.itemsize, self._job.x_gather != 0, dx, split)

    def _run(self, threads: int, first: int, last: int, cost: int, flush: bool) -> None:
        """Steps first to last; cost: in multiply-adds."""
        job = self._job
        job.begin, job.end, job.flush, job.alone = first, last, flush, threads == 1
        job.ticket = job.done = job.slots = job.stop = 0
        job.waited, job.wrong_row = workers.of_process.waited_at, -1
        if cost < tuning.LONG_JOB:
            workers.of_process.run(self.kernel, self.memory.at, threads)
        else:
            apart(lambda: workers.of_process.run(self.kernel, self.memory.at, threads), stop=self._stop)
        if job.wrong_row >= 0:
            raise ValueError(WRONG_LABEL.format(self.layout.widths[-1] - 1, job.wrong_row))

    def _stop(self) -> None:
        self._job.stop = 1

    def threads_for(self, rows: int) -> int:
        """How many threads the gradients of `rows` rows are made on."""
        return self._thread_counts.for_gradients(rows, self.threads)

    def forward_threads(self, rows: int) -> int:
        """How many threads a forward pass on `rows` rows uses."""
        return self._thread_counts.for_outputs(rows, self.threads)

    def thread_choice(self, rows: int) -> ThreadChoice:
        """How training steps on `rows` rows, or up to twice as many, get their threads."""
        return self._thread_counts.for_steps(rows, self.threads)

    def training_threads(self, rows: int) -> int:
        """The most threads that make a training step on `rows` rows."""
        return self.thread_choice(rows).choices[-1]

    def explain(self, rows: int) -> str:
        """The schedule of a training step on `rows` rows, as text."""
        return explain(self.network, rows, self.training_threads(rows), self.dtype)

    @_alone
    def train(self, request: TrainRequest) -> tuple[np.ndarray, np.ndarray]:
        """Make steps; returns (losses, right rows) of each.

        With a hook each step is made in parts: the whole gradient, l2 term included, goes into `self.gradient`; one
        thread calls the hook, which may change the gradient; then the update is made. With clip_norm the hook is the
        one that clips.
        """
        batches, objective, descent = request.batches, request.objective, request.descent
        update, hook, steps, batch_size = descent.update, descent.hook, batches.steps, batches.size
        job, base = self._job, address(self.parameters)
        if descent.clip_norm is not None:
            clipping = clip.argument(self.gradient, descent.clip_norm)
            hook = clip.clip[self.dtype].address, ctypes.addressof(clipping)
        starts = _starts_and_sizes(batches)
        sizes = starts[:, :, 1].reshape(-1)
        self.memory.set_data(
            request.x, request.target, batches.order, request.weight, batches.first, address(starts)
        )  # fmt: skip
        decay = np.full(steps, objective.l2, np.float64)
        sums, squares = np.zeros((steps, 2)), np.zeros((steps, len(self.memory.tiles)) if decay.any() else 0)
        slots = np.array([address(array) - base for array in descent.state], np.int64)
        scalars, of_biases = descent.scalars, update.of_biases(descent.scalars)
        self.memory.set_loss(objective.loss, METRICS[objective.metric])
        job.sums, job.scales = address(sums), address(objective.scales)
        job.update, job.state = kernels_of(update)[self.dtype].address, address(slots)
        job.scalars, job.scalars_of_biases = address(scalars), address(of_biases)
        job.scalars_bytes = scalars.strides[0]
        job.l2, job.squares = address(decay), address(squares) if squares.size else 0
        job.gradient = address(self.gradient) - base if hook else 0
        job.hook, job.hook_argument = hook or (0, 0)
        job.dx, job.by_batch, job.keeps = 0, 1, 1

        def schedule(threads: int) -> StepSchedule:
            # not of this call's rows, maybe the last few of an epoch: the bits would depend on where that is cut
            return self._step_schedule(batch_size, threads, dx=False, split=hook is not None)

        choice = self.thread_choice(batch_size)
        buffered = schedule(choice.choices[-1]).buffered
        self.memory.reserve(buffered)  # for all parts, so that none fails when others have changed the parameters
        results = np.empty((2, buffered))
        job.row_losses, job.right_rows = address(results[0]), address(results[1]) if objective.metric else 0
        for threads, first, last in choice.parts(steps, batch_size):
            self.memory.follow(schedule(threads))
            self.memory.drop(request.noise)
            rows = int(sizes[first:last].sum())
            self._run(threads, first, last, rows * self._row_cost + (last - first) * self._step_cost, flush=True)
            choice.made(rows)
        values = sums[:, 0] + 0.5 * decay * squares.sum(1) if squares.size else sums[:, 0]
        return values, sums[:, 1]

    @_alone
    def gradients(
        self,
        x: np.ndarray,
        target: np.ndarray,
        *,
        weight: np.ndarray | None,
        scale: float,
        loss: LossChoice,
        l2: float = 0.0,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss on all rows of x, its gradient by the parameters (laid out like them) and dX (n, I)."""
        rows = len(x)
        job, base = self._job, address(self.parameters)
        self.memory.set_data(x, target, None, weight, 0, self.memory.one_batch(rows))
        schedule = self._step_schedule(rows, self.threads_for(rows), dx=True, split=False)
        self.memory.follow(schedule)
        self.memory.drop(None)
        results = np.empty(schedule.buffered)
        gradient = aligned_zeros(self.layout.size, self.dtype)
        stride = self.layout.strides[0]
        dx = aligned_zeros(rows * stride, self.dtype).reshape(rows, stride)
        sums, squares = np.zeros((1, 2)), np.zeros(len(self.memory.tiles))
        scales, decay = np.array([scale]), np.array([l2], np.float64)
        self.memory.set_loss(loss, METRICS[None])
        job.row_losses, job.right_rows = address(results), 0
        job.sums, job.scales = address(sums), address(scales)
        job.l2, job.squares = address(decay), address(squares) if l2 else 0
        job.gradient = address(gradient) - base
        job.dx, job.dx_row = address(dx), stride * self.dtype.itemsize
        job.by_batch, job.keeps = 1, 0
        self._run(schedule.threads, 0, 1, rows * self._row_cost + self._step_cost, flush=False)
        return float(sums[0, 0] + 0.5 * l2 * squares.sum()), gradient, dx[:, : self.layout.widths[0]]

    def forward(
        self,
        x: np.ndarray,
        *,
        order: np.ndarray | None = None,
        out: np.ndarray | None = None,
        target: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        loss: LossChoice = "softmax_cross_entropy",
        metric: str | None = None,
        among: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's outputs into out (n, O), and with a target the weighted loss and rightness of each row.

        The arguments are those of backends.Engine.
        """
        rows, job = len(x) if order is None else len(order), self._job
        results, right = np.zeros(rows) if target is not None else NONE, np.zeros(rows) if metric else NONE
        with self._lock:  # here, not by `_alone`, which takes 1 us of 10 for one row
            if self._busy:
                raise RuntimeError(INTERRUPTED)
            try:
                self._busy = True
                self.memory.set_data(x, target, order, weight, 0, self.memory.one_batch(rows))
                schedule = for_outputs(
                    self.network, rows, self.forward_threads(rows), self.dtype.itemsize, job.x_gather != 0,
                    max(rows, among),
                )  # fmt: skip
                self.memory.follow(schedule)
                self.memory.drop(None)
                job.out = job.row_losses = job.right_rows = job.by_batch = 0
                if out is not None:
                    job.out, job.out_row = address(out), out.strides[0]
                    job.activate_output = output[self.dtype].address
                if target is not None:
                    self.memory.set_loss(loss, METRICS[metric])
                    job.row_losses, job.right_rows = address(results), address(right) if metric else 0
                self._run(schedule.threads, 0, 1, rows * self._row_cost, flush=False)
            finally:
                self._busy = False
        return results, right


def _starts_and_sizes(batches: Batches) -> np.ndarray:
    """(start, rows) of each batch: int64 (passes, steps of a pass, 2)."""
    total, size, passes = batches.total, batches.size, batches.passes
    starts = np.arange(0, total, size)
    found = np.empty((passes, len(starts), 2), np.int64)
    found[:, :, 0], found[:, :, 1] = starts, np.minimum(size, total - starts)
    if batches.order is not None:
        found[:, :, 0] += total * np.arange(passes)[:, np.newaxis]
    return found
