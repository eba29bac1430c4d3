"""One network on the GPU: its buffers there, and the jobs that are enqueued on them."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from kernels.activations import ACTIVATIONS
from kernels.cuda import tuning
from kernels.cuda.arrays import memory
from kernels.cuda.arrays.memory import Placed
from kernels.cuda.arrays.strided import extremes
from kernels.cuda.driver import device_arrays, gpu, streams
from kernels.cuda.engine.explain import explain
from kernels.cuda.engine.graph import Repeated
from kernels.cuda.engine.job import StepNumbers, numbers_of_steps
from kernels.cuda.engine.launches import Plan
from kernels.cuda.engine.operations.clip import clip, squares
from kernels.cuda.engine.operations.dropout import dropout as dropout_kernel
from kernels.cuda.engine.operations.gather import SOURCES
from kernels.cuda.engine.operations.update import column_sums, decay, kernel_of, sum_parts
from kernels.cuda.engine.steps import Buffers, PlacedBatches, Steps, job_for, target_constants
from kernels.cuda.rowwise.loss import losses, output, step_sums
from kernels.cuda.rowwise.row_reductions import row_threads
from kernels.engine.codes import WRONG_LABEL
from kernels.engine.network import Network
from kernels.engine.requests import Batches, Needs, TrainRequest
from kernels.layout import Layout
from kernels.losses import LossChoice, loss_and_parameter
from kernels.process import forks

P = ParamSpec("P")
R = TypeVar("R")
Host = np.ndarray | Placed


def _with_parameters(method: Callable[Concatenate["Engine", P], R]) -> Callable[Concatenate["Engine", P], R]:
    """One job at a time: other Python threads that call the same engine wait. The parameters are the host's before."""

    @wraps(method)
    def run(self: "Engine", /, *args: P.args, **options: P.kwargs) -> R:
        with self._lock:
            if not self._resident or self._host_may_differ:
                memory.fill(self._buffers.parameters, self.parameters)
                self._host_may_differ = False
            return method(self, *args, **options)

    return run


class Engine:
    """Runs a network's jobs on the GPU, one job at a time. It checks nothing: see fastnn.model.

    The arguments are those of backends.Engine. `parameters` is the host's copy: it is sent to the GPU before each job
    and, after training, read back. Within `training()` the parameters stay on the GPU, and `pull` reads them.
    Arrays given to a call may be the host's, or what `place` has made of them.
    """

    threads = most_threads = 1

    def __init__(
        self,
        network: Network,
        parameters: np.ndarray,
        threads: int | None = None,
        precision: str = "float32",
    ) -> None:
        if not all(stage.is_dense for stage in network.stages):
            raise NotImplementedError("normalisation has no kernels for device 'cuda': use device='cpu'")
        self.network, self.parameters, self.precision = network, parameters, precision
        self.dtype = parameters.dtype
        self.layout = Layout.of(network, self.dtype.name)
        *hidden, _ = network.stages
        self.activations = [ACTIVATIONS[stage.layer.activation] for stage in hidden]
        self.dropout = [stage.dropout for stage in hidden]
        self.multiply_adds = network.n_weights
        self.process = os.getpid()
        self._lock = forks.lock()
        self._resident, self._host_may_differ, self._device_is_newer = False, False, False
        self._buffers = Buffers(self.layout.size, len(network.stages), self.dtype)
        self._plans: dict[tuple[int, bool, bool], Plan] = {}
        self._repeated = Repeated()

    def load(self, needs: Needs) -> None:
        """Compile what jobs with these needs run, or load it from the cache; else the first job does that.

        Batches of another size than their `rows` may take products of other shapes, which are compiled when they are
        first needed.
        """
        update, rows = needs.update, needs.rows
        name, drops = self.dtype.name, update is not None and any(self.dropout)
        plans = [self._plan(rows, update is not None, drops)]
        plans += [self._plan(rows, gradients=False)] if drops else []  # nothing is dropped where a step is not made
        threads = row_threads(self.layout.widths[-1])
        kernels = [output(name, threads)] if needs.outputs else []
        if needs.gathered:
            data, target = (dtype if dtype is None else memory.placed_dtype(dtype) for dtype in needs.gathered[:2])
            kernels += [kernel for plan in plans for kernel in plan.kernels(name if data is None else SOURCES[data])]
            if needs.loss is not None:
                declared, _ = loss_and_parameter(needs.loss)
                kernels.append(losses[declared.name](name, threads, *target_constants(target)))
        if update is not None:
            kernels += [
                kernel_of(update, name),
                column_sums(name, *tuning.COLUMN_LANES),
                step_sums(name, tuning.THREADS),
            ]
            kernels += [extremes(name, tuning.THREADS)] + ([dropout_kernel(name)] if drops else [])
            kernels += [decay(name, tuning.THREADS)] if needs.decays else []
            if needs.clips:
                kernels += [sum_parts(name), squares(name, tuning.THREADS)]
                kernels += [clip(name, tuning.THREADS, tuning.CLIP_PARTS)]
        for kernel in kernels:
            kernel.load()

    def training_threads(self, rows: int) -> int:
        """The host's threads that make a training step."""
        return 1

    def explain(self, rows: int) -> str:
        """The launches of a training step on `rows` rows, as text."""
        return explain(self._plan(rows, gradients=True))

    def place(self, x: Host, target: Host | None = None, weight: Host | None = None) -> tuple[Any, Any, Any]:
        """Data, targets and row weights on the GPU, to be passed to calls in their place."""
        return (
            memory.place(x),
            None if target is None else memory.place(target, np.int64 if target.ndim == 1 else None),
            None if weight is None else memory.place(weight, self.dtype),
        )

    def outputs(self, n: int) -> Any:
        """A new array (n, O) on the GPU, for what `forward` makes of n rows."""
        return memory.shaped((n, self.layout.widths[-1]), self.dtype)

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
            self._resident, self._repeated = False, Repeated()  # which holds data
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
            memory.read(self._buffers.parameters, self.parameters)

    @_with_parameters
    def finite(self) -> bool:
        """Whether all parameters are finite numbers."""
        flat, parts = self._buffers.parameters, self._buffers.room("extremes", 2 * tuning.EXTREMES_PARTS, self.dtype)
        extremes(self.dtype.name, tuning.THREADS)(tuning.EXTREMES_PARTS, flat, parts, 1, flat.size, 0, 0, 1)
        return bool(np.isfinite(memory.read(parts[: 2 * tuning.EXTREMES_PARTS])).all())

    @_with_parameters
    def keep(self, state: Sequence[Any] = (), into: list[Any] | None = None) -> list[Any]:
        """Copies on the GPU of the parameters and of an optimiser's arrays, in those of an earlier call if given."""
        # now, so that `finite` cannot fail after the steps
        self._buffers.room("extremes", 2 * tuning.EXTREMES_PARTS, self.dtype)
        arrays = (self._buffers.parameters, *self.hold(state))
        copies = into or [memory.empty(array.size, self.dtype) for array in arrays]
        for copy, array in zip(copies, arrays, strict=True):
            memory.fill(copy, array)
        return copies

    @_with_parameters
    def put_back(self, copies: Sequence[Any], state: Sequence[Any] = ()) -> None:
        """Give the parameters, and as many of the optimiser's arrays as were kept, the values of `keep`'s copies."""
        self._device_is_newer = True
        for array, copy in zip((self._buffers.parameters, *state), copies, strict=False):
            memory.fill(array, copy)
        if not self._resident:
            self._read_back()

    def _plan(self, rows: int, gradients: bool, drops: bool = False) -> Plan:
        """The products for a batch of `rows` rows."""
        key = rows, gradients, drops
        if key not in self._plans:
            if len(self._plans) >= tuning.PLANS:
                self._plans.clear()
            rates = self.dropout if drops else ()
            self._plans[key] = Plan(self.layout, self.activations, rows, gradients, rates, self.precision)
        return self._plans[key]

    def _check_labels(self, target: Any, losses: np.ndarray) -> None:
        """Raise ValueError where a loss is NaN for a label that is none of the outputs: a user's array may change."""
        if target.ndim == 1 and np.isnan(losses).any():
            labels, most = memory.read(target.flat), self.layout.widths[-1] - 1
            wrong = np.flatnonzero((labels < 0) | (labels > most))
            if wrong.size:
                raise ValueError(WRONG_LABEL.format(most, wrong[0]))

    @_with_parameters
    def train(self, request: TrainRequest) -> tuple[np.ndarray, np.ndarray]:
        """Make steps; returns (losses, right rows) of each.

        There is no hook. All steps are enqueued before the host waits for the last one.
        """
        objective, descent, steps = request.objective, request.descent, request.batches.steps
        update, clip_norm, noise = descent.update, descent.clip_norm, request.noise
        if descent.hook is not None:
            raise NotImplementedError("hook must be None on device 'cuda', whose steps call no function of the host")
        plan = self._plan(request.batches.size, gradients=True, drops=noise is not None and any(self.dropout))
        self._buffers.reserve(plan, request.batches.size)
        declared, parameter = loss_and_parameter(objective.loss)
        of_step = StepNumbers(scale=objective.scales, decay=objective.l2, parameter=parameter)
        of_biases = [update.of_biases(descent.scalars)] if update.weights_alone else []
        numbers = numbers_of_steps(steps, of_step, descent.scalars, *of_biases)
        decays = bool(np.any(objective.l2))
        batches = PlacedBatches(*self.place(request.x, request.target, request.weight), request.batches)
        held, sums = self.hold(descent.state), self._buffers.room("sums", 2 * steps, self.dtype)
        job = job_for(plan, self._buffers, batches, self.network.output, objective.metric)
        job.seed, job.first_step = noise or (0, 0)
        job.advance = 1
        job.decay_parts = self._buffers.parts.size if decays else 0
        job.g_parts = plan.parts if clip_norm is None else 1  # clipping has added them up
        launches = Steps(plan, self._buffers, batches, numbers.astype(self.dtype), job)
        norms = None
        if clip_norm is not None:
            norms = self._buffers.send("norms", np.r_[np.zeros(tuning.CLIP_PARTS), clip_norm])

        def step() -> None:
            launches.forward()
            launches.loss(declared.name)
            launches.backward(decays)
            if norms is not None:
                launches.clip(norms)
            launches.update(update, held)
            launches.sums(sums)

        self._device_is_newer = True
        self._repeated(streams.recorded(step), steps)
        results = memory.read(sums[: 2 * steps]).astype(np.float64).reshape(steps, 2)
        for array, on_device in zip(descent.state, held, strict=True):
            if array is not on_device:
                memory.read(on_device, array)
        if not self._resident:
            self._repeated = Repeated()
            self._read_back()
        self._check_labels(batches.target, results[:, 0])
        return results[:, 0], results[:, 1]

    @_with_parameters
    def gradients(
        self,
        x: Host,
        target: Host,
        *,
        weight: Host | None,
        scale: float,
        loss: LossChoice,
        l2: float = 0.0,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss on all rows of x, its gradient by the parameters (laid out like them) and dX (n, I)."""
        rows, buffers = len(x), self._buffers
        plan = self._plan(rows, gradients=True)
        buffers.reserve(plan, rows)
        declared, parameter = loss_and_parameter(loss)
        numbers = numbers_of_steps(1, StepNumbers(scale=scale, decay=l2, parameter=parameter))
        batches = PlacedBatches(*self.place(x, target, weight), Batches(None, 0, rows, rows))
        job = job_for(plan, buffers, batches, self.network.output)
        job.decay_parts = buffers.parts.size if l2 else 0
        launches = Steps(plan, buffers, batches, numbers.astype(self.dtype), job)
        sums = memory.empty(2, self.dtype)
        launches.forward()
        launches.loss(declared.name)
        launches.backward(bool(l2))
        launches.dx()
        launches.sums(sums)
        work, stride = plan.workspace, plan.workspace.strides[0]
        dx = memory.read(buffers.work[work.dx : work.dx + rows * stride]).reshape(rows, stride)
        gradient = memory.read(launches.whole()[: self.layout.size])
        loss_of_all = memory.read(sums)[:1]
        self._check_labels(batches.target, loss_of_all)
        return float(loss_of_all[0]), gradient, dx[:, : self.layout.widths[0]]

    @_with_parameters
    def forward(
        self,
        x: Host,
        *,
        order: np.ndarray | None = None,
        out: Any = None,
        target: Host | None = None,
        weight: Host | None = None,
        loss: LossChoice = "softmax_cross_entropy",
        metric: str | None = None,
        among: int = 0,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's outputs into out (n, O), and with a target the weighted loss and rightness of each row.

        order: the rows of x (and of target and weight) to take, or None for all. out may be on the GPU, in C order.
        among: as the CPU's; it changes nothing here.
        """
        if order is not None and isinstance(x, np.ndarray):  # only the rows that count make the way
            x, target, weight = x[order], _rows(target, order), _rows(weight, order)
            order = None
        total = len(x) if order is None else len(order)
        chunk = min(total, max(1, tuning.FORWARD_ELEMENTS // sum(self.layout.strides)))
        plan, steps = self._plan(chunk, gradients=False), -(-total // chunk)
        self._buffers.reserve(plan, total)
        batches = PlacedBatches(*self.place(x, target, weight), Batches(order, 0, total, chunk))
        declared, parameter = loss_and_parameter(loss)
        numbers = numbers_of_steps(steps, StepNumbers(scale=1.0, parameter=parameter))
        job = job_for(plan, self._buffers, batches, self.network.output, metric)
        job.keep_rows = 1
        launches = Steps(plan, self._buffers, batches, numbers.astype(self.dtype), job, steps)
        on_host = isinstance(out, np.ndarray)
        outputs: Any = None
        if out is not None:
            outputs = memory.empty(total * self.layout.widths[-1], self.dtype) if on_host else device_arrays.flat(out)
        for step in range(steps):
            launches.at(step)
            launches.forward()
            if target is not None:
                launches.loss(declared.name)
            if outputs is not None:
                launches.outputs(outputs, step)
        if on_host:
            out[...] = memory.read(outputs).reshape(out.shape)
        elif out is not None:
            gpu.synchronize()  # whichever stream it is read on
        if target is None:
            return np.zeros(0), np.zeros(0)
        losses_of_rows, right = memory.read(self._buffers.results).astype(np.float64).reshape(2, -1)
        self._check_labels(batches.target, losses_of_rows[:total])
        return losses_of_rows[:total], right[:total]


def _rows(array: Any, order: np.ndarray) -> Any:
    return None if array is None else array[order]
