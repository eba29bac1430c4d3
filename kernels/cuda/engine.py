"""One network on the GPU: its buffers there, and the jobs that are enqueued on them."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from .. import scalar
from ..cpu.engine import METRICS, OUTPUTS
from ..layout import Layout
from . import jit, memory
from . import job as fields
from .batch import SOURCES, gather
from .loss import losses, output, step_sums
from .memory import Placed
from .network import COLUMN_LANES, Plan, column_blocks
from .update import PARTS, column_sums, decay, updates

FORWARD_ROWS = 1 << 14  # the most rows that go through all layers together
PLANS = 16  # sizes of a batch whose products are remembered

P = ParamSpec("P")
R = TypeVar("R")
Host = np.ndarray | Placed


def _alone(method: Callable[Concatenate["Engine", P], R]) -> Callable[Concatenate["Engine", P], R]:
    """One job at a time: other Python threads that call the same engine wait. The parameters are the host's before."""

    @wraps(method)
    def run(self: "Engine", /, *args: P.args, **options: P.kwargs) -> R:
        with self._lock:
            if not self._resident or self._host_may_differ:
                self._parameters.copy_to_device(self.parameters)
                self._host_may_differ = False
            return method(self, *args, **options)

    return run


class Engine:
    """Runs a network's jobs on the GPU, one job at a time. It checks nothing: see fastnn.model.

    The arguments are those of kernels.cpu.engine.Engine. `parameters` is the host's copy: it is sent to the GPU before
    each job and, after training, read back. Within `training()` the parameters stay on the GPU, and `pull` reads them.
    Arrays given to a call may be the host's, or what `place` has made of them.
    """

    threads = 1

    def __init__(
        self,
        widths: Sequence[int],
        activations: Sequence[str],
        output: str,
        parameters: np.ndarray,
        bias: bool = True,
        threads: int | None = None,
    ) -> None:
        self.parameters, self.output = parameters, output
        self.dtype = parameters.dtype
        self.layout = Layout.of(widths, self.dtype.name, bias)
        self.activations = [scalar.canonical(name) for name in activations]
        self.process = os.getpid()
        self._lock = threading.RLock()
        self._resident, self._host_may_differ, self._device_is_newer = False, False, False
        self._parameters = memory.empty(self.layout.size, self.dtype)
        self._gradient = memory.zeros(self.layout.size, self.dtype)  # and zero its padding stays
        self._parts = memory.zeros(PARTS * (len(widths) - 1), self.dtype)
        self._plans: dict[tuple[int, bool], Plan] = {}
        self._work: Any = None
        self._results: Any = None

    def load(
        self,
        loss: str | None = None,
        update: str | None = None,
        gathered: Sequence[np.dtype | None] = (),
        rows: int = 1,
    ) -> None:
        """Compile what the jobs run, or load it from the cache; else the first job does that.

        gathered: the dtypes of data, of targets (None for labels) and of weights. rows: of a batch; other sizes may
        take products of other shapes, which are compiled when they are first needed.
        """
        name, plan = self.dtype.name, self._plan(rows, gradients=update is not None)
        kernels = [output(name), *(product.kernel for product in plan.products)]
        if gathered:
            data, target = (dtype if dtype is None else memory.placed_dtype(dtype) for dtype in gathered[:2])
            kernels.append(gather(name, SOURCES[data]))
            if loss is not None:
                kernels.append(losses[loss](name, *_target_constants(target)))
        if update is not None:
            kernels += [updates[update](name), column_sums(name, *COLUMN_LANES), step_sums(name, jit.THREADS)]
        for kernel in kernels:
            kernel.load()

    def threads_for(self, rows: int) -> int:
        """The host's threads that a step takes."""
        return 1

    def place(self, x: Host, target: Host | None = None, weight: Host | None = None) -> tuple[Any, Any, Any]:
        """Data, targets and row weights on the GPU, to be passed to calls in their place."""
        return (
            memory.place(x),
            None if target is None else memory.place(target),
            None if weight is None else memory.place(weight, self.dtype),
        )

    def hold(self, arrays: Sequence[Any]) -> list[Any]:
        """An optimiser's arrays on the GPU, to be passed to calls in their place."""
        return [memory.copied(array) if isinstance(array, np.ndarray) else array for array in arrays]

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """While this lasts, parameters stay on the GPU; at its end the host has them."""
        self._host_may_differ, self._resident = True, True
        try:
            yield
        finally:
            self._resident = False
            self._read_back()

    def pull(self) -> None:
        """Bring the host's parameters up to date; whoever asks may write to them before the next job."""
        if self._resident:
            with self._lock:
                self._read_back()
                self._host_may_differ = True

    def _read_back(self) -> None:
        if self._device_is_newer:
            self._device_is_newer = False
            self._parameters.copy_to_host(self.parameters)

    def _plan(self, rows: int, gradients: bool) -> Plan:
        """The products for so many rows of a batch."""
        key = rows, gradients
        if key not in self._plans:
            if len(self._plans) >= PLANS:
                self._plans.clear()
            self._plans[key] = Plan(self.layout, self.activations, rows, gradients)
        return self._plans[key]

    def _reserve(self, plan: Plan, results: int) -> None:
        """Buffers for a plan's activations, and for so many row losses with their rightness."""
        for name, size in (("_work", plan.workspace.size), ("_results", 2 * results)):
            array = getattr(self, name)
            if array is None or array.size < size:
                setattr(self, name, None)  # what it had is free before more is asked for
                setattr(self, name, memory.empty(size, self.dtype))

    def _job(self, plan: Plan, data: "_Batches", metric: str | None) -> np.ndarray:
        job, work = plan.job(), plan.workspace
        job[[fields.TOTAL, fields.BATCH, fields.FIRST]] = data.total, data.batch, data.first
        job[fields.ORDERED], job[fields.WEIGHTED] = data.order is not None, data.weight is not None
        job[[fields.X, fields.LDX, fields.X_COLUMNS]] = work.x, work.strides[0], self.layout.widths[0]
        job[[fields.COLUMNS, fields.OUTPUT]] = self.layout.widths[-1], OUTPUTS[self.output]
        job[fields.METRIC], job[fields.RIGHT] = METRICS[metric], self._results.size // 2
        job[[fields.Z, fields.LDZ]] = work.y[-1], work.strides[-1]
        job[[fields.DZ, fields.LDDZ]] = work.dz[-1], work.strides[-1]
        job[fields.LDT] = self.layout.widths[-1]
        job[[fields.W_ROWS, fields.W_COLUMNS]] = 1, self.layout.size
        return job

    @_alone
    def train(
        self,
        x: Host,
        target: Host,
        *,
        order: np.ndarray | None,
        weight: Host | None,
        first: int,
        total: int,
        batch_size: int,
        steps: int,
        scales: np.ndarray,
        loss: str,
        metric: str | None,
        update: str,
        state: Sequence[Any],
        scalars: np.ndarray,
        l2: float = 0.0,
        hook: tuple[int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`steps` steps on batches of the rows order[first : first + total]; returns (losses, right rows) per step.

        The arguments are those of kernels.cpu.engine.Engine.train; there is no hook. All steps are enqueued before the
        host waits for the last one.
        """
        if hook is not None:
            raise NotImplementedError("hook must be None on device 'cuda', whose steps call no function of the host")
        rows, name = min(batch_size, total), self.dtype.name
        plan = self._plan(rows, gradients=True)
        self._reserve(plan, rows)
        data = _Batches(*self.place(x, target, weight), order, first, total, batch_size)
        job = self._job(plan, data, metric)
        job[fields.SLOTS], job[fields.PARTS] = len(state), self._parts.size if l2 else 0
        numbers = np.zeros((steps, fields.NUMBERS))
        numbers[:, :8], numbers[:, fields.SCALE], numbers[:, fields.DECAY] = scalars, scales, l2
        if update == "adam":  # 1 - beta of float32's 0.999 would be wrong by 5e-5
            numbers[:, 6:8] = 1.0 - numbers[:, 1:3]
        held = self.hold(state)
        first_state, second_state = [*held, self._parameters, self._parameters][:2]
        device = _Arguments(memory.copied(job), memory.copied(numbers.astype(self.dtype).reshape(-1)))
        sums = memory.empty(2 * steps, self.dtype)
        step_kernel, sum_kernel = updates[update](name), step_sums(name, jit.THREADS)
        update_blocks = -(-self.layout.size // jit.THREADS)
        self._device_is_newer = True
        for step in range(steps):
            self._forward(plan, data, device, step)
            self._loss(plan, data, device, loss, step)
            self._backward(plan, device, l2, step)
            step_kernel(
                update_blocks, self._parameters, self._gradient, first_state, second_state, device.numbers, device.job,
                step,
            )  # fmt: skip
            sum_kernel(1, self._results, self._parts, device.numbers, sums, device.job, step)
        results = sums.copy_to_host().astype(np.float64).reshape(steps, 2)
        for array, on_device in zip(state, held, strict=True):
            if array is not on_device:
                on_device.copy_to_host(array)
        if not self._resident:
            self._read_back()
        return results[:, 0], results[:, 1]

    @_alone
    def gradients(
        self,
        x: Host,
        target: Host,
        *,
        weight: Host | None,
        scale: float,
        loss: str,
        l2: float = 0.0,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss on all rows of x, its gradient by the parameters (laid out like them) and dX (n, I)."""
        rows = len(x)
        plan = self._plan(rows, gradients=True)
        self._reserve(plan, rows)
        data = _Batches(*self.place(x, target, weight), None, 0, rows, rows)
        job = self._job(plan, data, None)
        job[fields.PARTS] = self._parts.size if l2 else 0
        numbers = np.zeros(fields.NUMBERS, self.dtype)
        numbers[[fields.SCALE, fields.DECAY]] = scale, l2
        device = _Arguments(memory.copied(job), memory.copied(numbers))
        self._forward(plan, data, device, 0)
        self._loss(plan, data, device, loss, 0)
        self._backward(plan, device, l2, 0)
        self._product(plan, plan.first_dx, device, 0)
        sums = memory.empty(2, self.dtype)
        step_sums(self.dtype.name, jit.THREADS)(1, self._results, self._parts, device.numbers, sums, device.job, 0)
        gradient = self._gradient.copy_to_host()
        work, stride = plan.workspace, plan.workspace.strides[0]
        dx = self._work[work.dx : work.dx + rows * stride].copy_to_host().reshape(rows, stride)
        return float(sums.copy_to_host()[0]), gradient, dx[:, : self.layout.widths[0]]

    @_alone
    def forward(
        self,
        x: Host,
        *,
        order: np.ndarray | None = None,
        out: np.ndarray | None = None,
        target: Host | None = None,
        weight: Host | None = None,
        loss: str = "softmax_cross_entropy",
        metric: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's outputs into out (n, O), and with a target the weighted loss and rightness of each row.

        order: the rows of x (and of target and weight) to take, or None for all.
        """
        if order is not None and isinstance(x, np.ndarray):  # only the rows that count make the way
            x, target, weight = (None if array is None else array[order] for array in (x, target, weight))
            order = None
        total = len(x) if order is None else len(order)
        chunk = min(total, FORWARD_ROWS)
        plan, name, width = self._plan(chunk, gradients=False), self.dtype.name, self.layout.widths[-1]
        self._reserve(plan, total)
        data = _Batches(*self.place(x, target, weight), order, 0, total, chunk)
        job, work = self._job(plan, data, metric), plan.workspace
        job[fields.KEEP] = 1
        steps = -(-total // chunk)
        device = _Arguments(memory.copied(job), memory.copied(np.ones(steps * fields.NUMBERS, self.dtype)))
        outputs = None if out is None else memory.empty(total * width, self.dtype)
        for step in range(steps):
            self._forward(plan, data, device, step)
            if target is not None:
                self._loss(plan, data, device, loss, step)
            if outputs is not None:
                rows = min(chunk, total - step * chunk)
                output(name)(
                    rows, self._work, outputs, OUTPUTS[self.output], width, work.y[-1], work.strides[-1],
                    step * chunk * width, width,
                )  # fmt: skip
        if out is not None and outputs is not None:
            out[...] = outputs.copy_to_host().reshape(total, width)
        if target is None:
            return np.zeros(0), np.zeros(0)
        results = self._results.copy_to_host().astype(np.float64).reshape(2, -1)[:, :total]
        return results[0], results[1]

    def _product(self, plan: Plan, number: int, device: "_Arguments", step: int) -> None:
        work, parameters = self._work, self._parameters
        product = plan.products[number]
        b, c = parameters, work
        if plan.first_dw <= number < plan.first_dx:
            b, c = work, self._gradient
        product.kernel(product.blocks, work, b, c, parameters, work, device.job, number, step)

    def _forward(self, plan: Plan, data: "_Batches", device: "_Arguments", step: int) -> None:
        elements = plan.workspace.rows * self.layout.widths[0]
        gather(self.dtype.name, SOURCES[data.x.dtype])(
            -(-elements // jit.THREADS), data.x.flat, _or(data.order, device.job), self._work, device.job, step
        )
        for number in range(len(plan.forward)):
            self._product(plan, number, device, step)

    def _loss(self, plan: Plan, data: "_Batches", device: "_Arguments", loss: str, step: int) -> None:
        losses[loss](self.dtype.name, *_target_constants(None if data.target.ndim == 1 else data.target.dtype))(
            plan.workspace.rows, self._work, self._work, data.target.flat, _or(data.order, device.job),
            device.numbers if data.weight is None else data.weight.flat, device.numbers, self._results, device.job, step,
        )  # fmt: skip

    def _backward(self, plan: Plan, device: "_Arguments", l2: float, step: int) -> None:
        """From dz of the last layer to the gradient."""
        name = self.dtype.name
        for n in reversed(range(len(plan.dw))):
            self._product(plan, plan.first_dw + n, device, step)
            if n:
                self._product(plan, plan.first_dx + n, device, step)
        if self.layout.bias:
            column_sums(name, *COLUMN_LANES)(
                column_blocks(self.layout.widths), self._work, self._gradient, device.job, plan.first_dw, step
            )
        if l2:
            decay(name, jit.THREADS)(
                (PARTS, len(plan.dw)), self._parameters, self._gradient, self._parts, device.numbers, device.job,
                plan.first_dw, step,
            )  # fmt: skip


class _Batches:
    """What a job's batches are taken from: data on the GPU, `total` rows of it, `batch` at a time.

    With an order, its part order[first : first + total] is sent along.
    """

    def __init__(
        self, x: Placed, target: Any, weight: Any, order: np.ndarray | None, first: int, total: int, batch: int
    ) -> None:
        self.x, self.target, self.weight, self.first, self.total, self.batch = x, target, weight, first, total, batch
        part = None if order is None else np.ascontiguousarray(order[first : first + total], np.int64)
        self.order = None if part is None else memory.copied(part)


@dataclass(frozen=True)
class _Arguments:
    """What all launches of a job are given, on the GPU."""

    job: Any
    numbers: Any


def _or(array: Any, instead: Any) -> Any:
    """An argument that the job says is there, or anything of its type."""
    return instead if array is None else array


def _target_constants(dtype: np.dtype | None) -> tuple[str, bool]:
    """What a loss is compiled for: targets of this dtype, or labels."""
    return ("int64", True) if dtype is None else (SOURCES[dtype], False)
