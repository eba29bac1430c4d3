"""One network on the CPU: its buffers and the jobs that `network` runs on them."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property, wraps
from itertools import pairwise
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np

from .. import scalar
from ..layout import Layout, address, aligned_zeros
from . import network as fields
from . import team as teams
from .batch import gathers
from .elementwise import backward, forward
from .gemm import FEW_ROWS
from .loss import ALL_OUTPUTS, IDENTITY, LARGEST_IS_LABEL, LARGEST_IS_LARGEST, NO_METRIC, SIGMOID, SOFTMAX, losses
from .network import network
from .simd import chosen
from .update import updates

OUTPUTS = {"identity": IDENTITY, "sigmoid": SIGMOID, "softmax": SOFTMAX}
METRICS = {None: NO_METRIC, "label": LARGEST_IS_LABEL, "largest": LARGEST_IS_LARGEST, "outputs": ALL_OUTPUTS}
# The most rows that go through all layers together: their activations stay in L2. 384 in even chunks against 240 and a
# rest: 341 and 385 ms an epoch of 1024-2048-2048-1024-10 on 2 threads (batch 512, Intel Xeon with AVX-512)
FORWARD_ROWS = FEW_ROWS
# At least so many multiply-adds per step for each thread, or the step runs on fewer
WORK_PER_THREAD = 1 << 20


P = ParamSpec("P")
R = TypeVar("R")


def _chunk(rows: int, threads: int) -> int:
    """Rows of one tile: as many chunks for each thread as it takes to have at most FORWARD_ROWS, all alike."""
    chunks = threads * -(-rows // (threads * FORWARD_ROWS))
    return -(-rows // chunks)


def _alone(method: Callable[Concatenate["Engine", P], R]) -> Callable[Concatenate["Engine", P], R]:
    """One job at a time: other Python threads that call the same engine wait."""

    @wraps(method)
    def run(self: "Engine", /, *args: P.args, **options: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **options)

    return run


class Engine:
    """Runs a network's jobs on buffers of its own, one job at a time. It checks nothing: see fastnn.model.

    widths: of input, hidden layers and output. activations: one per hidden layer. parameters: the flat buffer of
    `Layout.of(widths, dtype, bias)`, changed in place by training. Arrays given to a call may have any strides.
    """

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
        self.threads = threads or teams.default_threads()
        self.process = os.getpid()  # the child of a fork makes an engine of its own: this one's may be at work
        self._lock = threading.Lock()
        self.kernel = network[self.dtype]
        n_layers, size = len(widths) - 1, self.dtype.itemsize
        self._job = aligned_zeros(fields.LAYERS + fields.RECORD * n_layers, np.int64)
        self._layers = [self._job[fields.LAYERS + fields.RECORD * n :][: fields.RECORD] for n in range(n_layers)]
        self._one = np.ones(1, self.dtype)
        self._l2 = np.zeros(1)
        self._capacity = 0
        self._buffers: list[np.ndarray] = []
        lanes = chosen().lanes(size)
        self._scratch_size = (fields.TILE_COLUMNS + lanes) * (fields.TILE_ROWS + 1)
        self._scratch = aligned_zeros(self._scratch_size * self.threads, self.dtype)
        self._tiles = self._weight_tiles()
        self._transposed: list[np.ndarray] = []
        self._describe_layers()
        self.multiply_adds = sum(a * b for a, b in pairwise(widths))

    def load(
        self,
        loss: str | None = None,
        update: str | None = None,
        gathered: Iterable[np.dtype | None] = (),
        rows: int = 1,
    ) -> None:
        """Compile what the jobs run, or load it from the cache; else the first job does that.

        gathered: the dtypes of data, of targets (None for labels) and of weights. rows of a batch change nothing here.
        """
        self.kernel.load()
        self._load_activations()
        if loss is not None:
            losses[loss][self.dtype].load()
        if update is not None:
            updates[update][self.dtype].load()
        for dtype in gathered:
            if dtype is not None:
                gathers[dtype][self.dtype].load()
        if self.threads > 1:
            teams.load()

    def place(self, x: Any, target: Any = None, weight: Any = None) -> tuple[Any, Any, Any]:
        """Data, targets and row weights as calls read them best: here, as they are."""
        return x, target, weight

    def hold(self, arrays: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        """An optimiser's arrays as calls read them best: here, as they are."""
        return arrays

    def training(self) -> contextlib.AbstractContextManager[None]:
        """While this lasts, parameters may be elsewhere than in `parameters`; here they are always there."""
        return contextlib.nullcontext()

    def pull(self) -> None:
        """Bring `parameters` up to date: here they are."""

    def _load_activations(self) -> None:
        for record, name in zip(self._layers, self.activations, strict=False):
            record[fields.FUSED] = name == "relu"
            if name not in ("identity", "relu"):
                record[fields.ACTIVATE] = forward[name][self.dtype].address
            if name != "identity":
                record[fields.ACTIVATE_BACKWARD] = backward[name][self.dtype].address

    @cached_property
    def gradient(self) -> np.ndarray:
        """The gradient that a hook sees, laid out like the parameters, its padding zero. Made when first asked for."""
        return aligned_zeros(self.layout.size, self.dtype)

    def _weight_tiles(self) -> np.ndarray:
        tiles = []
        for layer, (rows, columns) in enumerate(pairwise(self.layout.widths)):
            parts = -(-rows // fields.TILE_ROWS)
            edges = [rows * part // parts for part in range(parts + 1)]
            for i0, i1 in pairwise(edges):
                for j0 in range(0, columns, fields.TILE_COLUMNS):
                    tiles.append((layer, i0, i1, j0, min(j0 + fields.TILE_COLUMNS, columns)))
        return np.array(tiles, np.int64)

    def _describe_layers(self) -> None:
        layout, size, base = self.layout, self.dtype.itemsize, address(self.parameters)
        for n, record in enumerate(self._layers):
            record[fields.N_IN], record[fields.N_OUT] = layout.widths[n], layout.widths[n + 1]
            record[fields.W], record[fields.LDW] = base + layout.w_offsets[n] * size, layout.strides[n + 1] * size
            record[fields.B] = base + layout.b_offsets[n] * size if layout.bias else 0
        job = self._job
        job[fields.N_LAYERS] = len(self._layers)
        job[fields.OUTPUT] = OUTPUTS[self.output]
        job[fields.TILES], job[fields.N_TILES] = address(self._tiles), len(self._tiles)
        job[fields.SCRATCH], job[fields.SCRATCH_BYTES] = address(self._scratch), self._scratch_size * size
        job[fields.ONE] = address(self._one)
        job[fields.L2] = address(self._l2)

    def _reserve(self, rows: int, gradients: bool) -> None:
        """Buffers for so many rows of a batch; with `gradients`, those of backward too."""
        if gradients and not self._transposed:
            self._transposed = [self._transposed_buffer(n) for n in range(1, len(self._layers))]
        if not self._capacity:
            self._load_activations()
        if rows <= self._capacity:
            return
        self._buffers = []
        strides, size = self.layout.strides, self.dtype.itemsize

        def buffer(columns: int, dtype: Any = None) -> int:
            array = aligned_zeros(rows * columns, dtype or self.dtype)
            self._buffers.append(array)
            return address(array)

        below = buffer(strides[0])
        for n, record in enumerate(self._layers):
            stride = strides[n + 1]
            record[fields.INPUT], record[fields.LD_INPUT] = below, strides[n] * size
            record[fields.Y] = below = buffer(stride)
            record[fields.DZ], record[fields.LD_OUT] = buffer(stride), stride * size
            if n < len(self.activations) and self.activations[n] in scalar.NEEDS_PRE:
                record[fields.PRE], record[fields.LD_PRE] = buffer(stride), stride * size
        job = self._job
        job[fields.ROW_TARGET], job[fields.LD_TARGET] = buffer(strides[-1]), strides[-1] * size
        job[fields.ROW_LABEL], job[fields.ROW_WEIGHT] = buffer(1, np.int64), buffer(1)
        self._row_results = aligned_zeros(2 * rows, np.float64)
        self._capacity = rows

    def _transposed_buffer(self, n: int) -> np.ndarray:
        stride = self.layout.strides[n]
        transposed = aligned_zeros(self.layout.widths[n + 1] * stride, self.dtype)
        self._layers[n][fields.WT] = address(transposed)
        self._layers[n][fields.LDWT] = stride * self.dtype.itemsize
        return transposed

    def _set_data(self, x: np.ndarray, target: Any, order: Any, weight: Any, first: int, total: int) -> None:
        job, size = self._job, self.dtype.itemsize
        in_place = order is None and x.dtype == self.dtype and x.strides[1] == size and x.flags.aligned
        job[fields.X], job[fields.X_GATHER] = address(x), 0 if in_place else gathers[x.dtype][self.dtype].address
        job[fields.X_ROW], job[fields.X_COLUMN] = x.strides
        if target is not None and target.ndim == 1:
            job[fields.T], job[fields.T_COLUMNS] = address(target), 0
        elif target is not None:
            job[fields.T], job[fields.T_GATHER] = address(target), gathers[target.dtype][self.dtype].address
            job[fields.T_ROW], job[fields.T_COLUMN] = target.strides
            job[fields.T_COLUMNS] = target.shape[1]
        job[fields.ORDER] = address(order) if order is not None else 0
        job[fields.WEIGHT] = 0
        if weight is not None:
            job[fields.WEIGHT] = address(weight)
            job[fields.WEIGHT_GATHER] = gathers[weight.dtype][self.dtype].address
        job[fields.FIRST], job[fields.TOTAL] = first, total

    def _run(self, kind: int, threads: int) -> None:
        job = self._job
        job[fields.KIND] = kind
        job[fields.WORD] = job[fields.DONE] = job[fields.SLOT] = 0
        teams.team.run(self.kernel, address(job), threads)

    def threads_for(self, rows: int) -> int:
        """How many threads a step on so many rows uses."""
        return max(1, min(self.threads, 3 * rows * self.multiply_adds // WORK_PER_THREAD))

    @_alone
    def train(
        self,
        x: np.ndarray,
        target: np.ndarray,
        *,
        order: np.ndarray | None,
        weight: np.ndarray | None,
        first: int,
        total: int,
        batch_size: int,
        steps: int,
        scales: np.ndarray,
        loss: str,
        metric: str | None,
        update: str,
        state: Sequence[np.ndarray],
        scalars: np.ndarray,
        l2: float = 0.0,
        hook: tuple[int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """`steps` steps on batches of the rows order[first : first + total]; returns (losses, right rows) per step.

        target: int64 labels (n,) for softmax cross-entropy, else (n, O). weight: float64 (n,). scales: float64, what
        each step's sum of weighted row losses is multiplied by. state: the optimiser's arrays, like the parameters.
        scalars: float64 (steps, 8), see kernels.cpu.update. The losses include the l2 term.

        hook: (the address of a C function `void f(int64)`, its argument). With it each step is made in parts: the
        whole gradient, l2 term included, goes into `self.gradient`; one thread calls the hook, which may change the
        gradient; then the update is made.
        """
        rows = min(batch_size, total)
        self._reserve(rows, gradients=True)
        self._layers[0][fields.WT] = 0
        threads = self.threads_for(rows)
        job, base = self._job, address(self.parameters)
        self._set_data(x, target, order, weight, first, total)
        sums, squares = np.zeros((steps, 2)), np.zeros((steps, len(self._tiles)) if l2 else 0)
        twins = [address(array) - base for array in state] + [0, 0]
        job[fields.FIRST_STATE], job[fields.SECOND_STATE] = twins[:2]
        job[fields.STEPS], job[fields.BATCH] = steps, batch_size
        job[fields.CHUNK] = _chunk(rows, threads)
        job[fields.LOSS], job[fields.METRIC] = losses[loss][self.dtype].address, METRICS[metric]
        job[fields.ROW_LOSS] = address(self._row_results)
        job[fields.RIGHT] = address(self._row_results) + 8 * self._capacity if metric else 0
        job[fields.SUMS], job[fields.SCALES] = address(sums), address(scales)
        job[fields.UPDATE], job[fields.SCALARS] = updates[update][self.dtype].address, address(scalars)
        job[fields.SQUARES] = address(squares) if l2 else 0
        job[fields.GRADIENT] = address(self.gradient) - base if hook else 0
        job[fields.HOOK], job[fields.HOOK_ARGUMENT] = hook or (0, 0)
        job[fields.SPLIT] = hook is not None
        job[fields.DX] = 0
        self._l2[0] = l2
        self._run(fields.TRAIN, threads)
        values = sums[:, 0] + 0.5 * l2 * squares.sum(1) if l2 else sums[:, 0]
        return values, sums[:, 1]

    @_alone
    def gradients(
        self,
        x: np.ndarray,
        target: np.ndarray,
        *,
        weight: np.ndarray | None,
        scale: float,
        loss: str,
        l2: float = 0.0,
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """The loss on all rows of x, its gradient by the parameters (laid out like them) and dX (n, I)."""
        rows = len(x)
        self._reserve(rows, gradients=True)
        first_transposed = self._transposed_buffer(0)  # for dX alone; training does not keep it
        threads = self.threads_for(rows)
        job, base = self._job, address(self.parameters)
        self._set_data(x, target, None, weight, 0, rows)
        gradient = aligned_zeros(self.layout.size, self.dtype)
        stride = self.layout.strides[0]
        dx = aligned_zeros(rows * stride, self.dtype).reshape(rows, stride)
        sums, squares, scales = np.zeros((1, 2)), np.zeros(len(self._tiles)), np.array([scale])
        job[fields.STEPS], job[fields.BATCH] = 1, rows
        job[fields.CHUNK] = _chunk(rows, threads)
        job[fields.LOSS], job[fields.METRIC] = losses[loss][self.dtype].address, NO_METRIC
        job[fields.ROW_LOSS], job[fields.RIGHT] = address(self._row_results), 0
        job[fields.SUMS], job[fields.SCALES] = address(sums), address(scales)
        job[fields.SQUARES] = address(squares) if l2 else 0
        job[fields.GRADIENT], job[fields.SPLIT] = address(gradient) - base, 0
        job[fields.DX], job[fields.DX_ROW] = address(dx), stride * self.dtype.itemsize
        self._l2[0] = l2
        self._run(fields.GRADIENTS, threads)
        del first_transposed
        return float(sums[0, 0] + 0.5 * l2 * squares.sum()), gradient, dx[:, : self.layout.widths[0]]

    @_alone
    def forward(
        self,
        x: np.ndarray,
        *,
        order: np.ndarray | None = None,
        out: np.ndarray | None = None,
        target: np.ndarray | None = None,
        weight: np.ndarray | None = None,
        loss: str = "softmax_cross_entropy",
        metric: str | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """The network's outputs into out (n, O), and with a target the weighted loss and rightness of each row.

        order: the rows of x (and of target and weight) to take, or None for all.
        """
        rows, job = len(x) if order is None else len(order), self._job
        threads = self.threads_for(rows)
        chunk = _chunk(rows, threads)
        self._reserve(chunk * threads, gradients=False)
        self._set_data(x, target, order, weight, 0, rows)
        results = np.zeros((2, rows if target is not None else 0))
        job[fields.CHUNK] = chunk
        job[fields.OUT], job[fields.OUT_ROW] = (address(out), out.strides[0]) if out is not None else (0, 0)
        job[fields.LOSS], job[fields.METRIC] = losses[loss][self.dtype].address, METRICS[metric]
        job[fields.ROW_LOSS] = address(results[0]) if target is not None else 0
        job[fields.RIGHT] = address(results[1]) if metric else 0
        self._run(fields.FORWARD_ONLY, threads)
        return results[0], results[1]
