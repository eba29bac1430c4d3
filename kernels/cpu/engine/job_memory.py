"""A job in memory: its record, the records of its layers, and the buffers that these point to."""

from functools import lru_cache
from typing import Any

import numpy as np

from kernels.activations import ACTIVATIONS
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.records import dtype_of
from kernels.cpu.engine.job import JOB_BYTES, LAYER_BYTES, Job, LayerRecord, Phase
from kernels.cpu.engine.layers.dropout import dropout as dropout_kernels
from kernels.cpu.engine.layers.layer import kernels_of
from kernels.cpu.engine.operations.gather import gathers
from kernels.cpu.engine.schedule import StepSchedule, scratch_size, weight_tiles
from kernels.cpu.ir.instruction_sets import chosen
from kernels.cpu.product.gemm_bf16 import product_for
from kernels.cpu.rowwise.elementwise import backward, forward
from kernels.cpu.rowwise.loss import losses
from kernels.engine.network import Network
from kernels.layout import Layout, address, aligned_zeros
from kernels.losses import LossChoice, loss_and_parameter
from kernels.maths import random

PHASES = dtype_of(Phase)


@lru_cache(maxsize=64)  # as schedules are: calls of an engine go to and fro between two
def _records_of(schedule: StepSchedule, dtype: np.dtype) -> np.ndarray:
    """The phases of a schedule as records, with the addresses of their operations."""
    return np.array([(operation[dtype].address, *tiles) for operation, *tiles in schedule.phases], PHASES)


class JobMemory:
    """What `run_job` reads and writes for one model.

    job, layers: the records, at the address `at`. slots: how many threads may be at work. The other arguments are those
    of an engine.
    """

    def __init__(self, network: Network, layout: Layout, parameters: np.ndarray, precision: str, slots: int) -> None:
        self.stages, self.layout, self.parameters = network.stages, layout, parameters
        self.activations = [ACTIVATIONS[stage.layer.activation] for stage in self.stages]
        self._kernels = [kernels_of(stage.layer) for stage in self.stages]
        self.products = [n for n, stage in enumerate(self.stages) if stage.is_dense]
        self._drops = [n for n, stage in enumerate(self.stages) if stage.dropout]
        self.dtype, self.precision = parameters.dtype, precision
        self.schedule: StepSchedule | None = None  # the last one that was followed
        n_layers, size = len(self.stages), self.dtype.itemsize
        words = aligned_zeros((JOB_BYTES + LAYER_BYTES * n_layers) // 8, np.int64)
        self.at = address(words)
        self.job = Job.from_buffer(words.data)
        self.layers = [LayerRecord.from_buffer(words.data, JOB_BYTES + LAYER_BYTES * n) for n in range(n_layers)]
        self._one, self._loss_parameter = np.ones(1, self.dtype), np.zeros(1)
        self._single = np.zeros((1, 2), np.int64)  # see `one_batch`
        self._single_at = address(self._single)
        self.tiles = weight_tiles(network)
        scratch = scratch_size(self.tiles, chosen().lanes(size))
        self.scratch = aligned_zeros(scratch * slots, self.dtype)
        self.transposed: dict[int, tuple[int, np.ndarray]] = {}  # by layer, with its address
        self.group_gradients = aligned_zeros(0, self.dtype)
        self._capacity = 0  # rows that there are buffers for
        self.buffers: list[np.ndarray] = []
        self._describe_layers()
        job = self.job
        job.n_layers = n_layers
        job.tiles, job.n_tiles = address(self.tiles), len(self.tiles)
        job.scratch, job.scratch_bytes = address(self.scratch), scratch * size
        job.one, job.loss_parameter = address(self._one), address(self._loss_parameter)

    def _describe_layers(self) -> None:
        layout, size, base = self.layout, self.dtype.itemsize, address(self.parameters)
        for n, record in enumerate(self.layers):
            record.n_in, record.n_out = layout.widths[n], layout.widths[n + 1]
            stage = self.stages[n]
            record.w_rows, record.decays = stage.w_rows, stage.layer.decays
            record.w, record.ldw = base + layout.w_offsets[n] * size, layout.strides[n + 1] * size
            record.b = base + layout.b_offsets[n] * size if stage.layer.bias else 0
            if stage.layer.statistics:
                record.mean = base + layout.statistics[n] * size
                record.variance = record.mean + record.ldw
            self._kernels[n].describe(record, stage.layer)
            record.ld_transposed_dw = layout.strides[n] * size

    def load_kernels(self) -> None:
        """Compile the layers' kernels, or load them from the cache, and write where they are."""
        for record, kernels, activation in zip(self.layers, self._kernels, self.activations, strict=True):
            record.forward = kernels.forward[self.dtype].address
            record.backward = kernels.backward[self.dtype].address
            record.gradient = kernels.gradient[self.dtype].address
            if not (record.relu_fused or activation.is_identity):
                record.activate = forward(activation)[self.dtype].address
            if not activation.is_identity:
                record.activate_backward = backward(activation)[self.dtype].address

    def product(self, layer: int, rows: int) -> jit.Kernel:
        """What multiplies in a layer where there are `rows` rows."""
        stage = self.stages[layer]
        return product_for(self.precision, self.dtype, stage.inputs, stage.outputs, rows)[self.dtype]

    def follow(self, schedule: StepSchedule) -> None:
        """Set the job's phases, and have the buffers that they need."""
        if schedule is self.schedule:
            return
        job, self.schedule = self.job, None
        self._phases = _records_of(schedule, self.dtype)
        job.phases, job.once = address(self._phases), schedule.once
        job.each_step = len(schedule.phases) - schedule.once
        job.first_layer, job.row_chunk = schedule.first_layer, schedule.row_chunk
        self.reserve(schedule.buffered)
        if schedule.transposed:
            self.transposed = {n: self.transposed.get(n) or self._new_transposed(n) for n in schedule.transposed}
            for n, record in enumerate(self.layers):
                record.wt = self.transposed[n][0] if n in self.transposed else 0
                record.ldwt = self.layout.strides[n] * self.dtype.itemsize
        for n in self.products:
            self.layers[n].product = self.product(n, schedule.rows).address
        for record, transposed_dw in zip(self.layers, schedule.transposed_dw, strict=False):
            record.transposed_dw = transposed_dw
        job.group_gradients = 0
        if schedule.gradient_groups:
            self._reserve_groups(schedule.gradient_groups, schedule.group_rows)
        self.schedule = schedule

    def _reserve_groups(self, groups: int, rows: int) -> None:
        """A gradient and sums for each gradient group."""
        job, size = self.job, self.layout.size
        if len(self.group_gradients) < size * groups:
            self.group_gradients = aligned_zeros(size * groups, self.dtype)
        job.group_gradients = address(self.group_gradients) - address(self.parameters)
        job.group_gradient_bytes, job.group_rows = size * self.dtype.itemsize, rows
        self._group_sums = np.zeros((groups, 2))
        job.group_sums = address(self._group_sums)

    def reserve(self, rows: int) -> None:
        """Have buffers for `rows` rows."""
        if not self._capacity:
            self.load_kernels()
        if rows <= self._capacity:
            return
        self.buffers, self._capacity, self.schedule = [], 0, None  # until all that follows has been done
        strides, size = self.layout.strides, self.dtype.itemsize

        def array(elements: int, dtype: Any = None) -> int:
            made = aligned_zeros(elements, dtype or self.dtype)
            self.buffers.append(made)
            return address(made)

        def buffer(columns: int, dtype: Any = None) -> int:
            return array(rows * columns, dtype)

        below = buffer(strides[0])
        for n, record in enumerate(self.layers):
            stride = strides[n + 1]
            record.input, record.ld_input = below, strides[n] * size
            record.y = below = buffer(stride)
            record.dz, record.ld_out = buffer(stride), stride * size
            if self.activations[n].slope_reads == "z":
                record.pre, record.ld_pre = buffer(stride), stride * size
            for name, elements in self._kernels[n].buffers(rows, stride).items():
                setattr(record, name, array(elements))
            if self.stages[n].dropout:  # relu's derivative is 0 where its output was dropped
                record.drop_limit = random.limit(self.stages[n].dropout)
                record.dropped = record.y if self.activations[n].is_relu else buffer(stride)
        job = self.job
        job.batch_target, job.ld_batch_target = buffer(strides[-1]), strides[-1] * size
        job.batch_label, job.batch_weight = buffer(1, np.int64), buffer(1)
        self._capacity = rows

    def drop(self, noise: tuple[int, int] | None) -> None:
        """Have layers drop by a seed and the number of the job's first step, or not at all."""
        for n in self._drops:
            layer, above = self.layers[n], self.layers[n + 1]
            layer.drop = 0 if noise is None else dropout_kernels[self.dtype].address
            above.input = layer.y if noise is None else layer.dropped
        if self._drops and noise is not None:
            self.job.seed, self.job.first_step = map(int, noise)  # which may be NumPy's

    def _new_transposed(self, n: int) -> tuple[int, np.ndarray]:
        transposed = aligned_zeros(self.layout.widths[n + 1] * self.layout.strides[n], self.dtype)
        return address(transposed), transposed

    def set_data(self, x: np.ndarray, target: Any, order: Any, weight: Any, first: int, batches: int) -> None:
        """Describe data, targets (labels, numbers or None), row numbers and row weights; batches: their address."""
        job, size = self.job, self.dtype.itemsize
        in_place = order is None and x.dtype == self.dtype and x.strides[1] == size and x.flags.aligned
        job.x, job.x_gather = address(x), 0 if in_place else gathers[x.dtype][self.dtype].address
        job.x_row, job.x_column = x.strides
        job.data_rows = len(x)
        if target is not None and target.ndim == 1:
            job.target, job.target_row = address(target), target.strides[0]
            job.labels, job.label_bytes = 1, target.itemsize
            job.label_signed = target.dtype.kind == "i"
        elif target is not None:
            job.target, job.target_gather = address(target), gathers[target.dtype][self.dtype].address
            job.target_row, job.target_column = target.strides
            job.target_columns, job.labels = target.shape[1], 0
        job.order = address(order) if order is not None else 0
        job.weight = 0
        if weight is not None:
            job.weight = address(weight)
            job.weight_gather = gathers[weight.dtype][self.dtype].address
        job.first_position, job.batches = int(first), batches

    def set_loss(self, loss: LossChoice, metric: int) -> None:
        """Describe the loss, and the code of what counts as right."""
        declared, self._loss_parameter[0] = loss_and_parameter(loss)
        self.job.loss, self.job.metric = losses[declared.name][self.dtype].address, metric

    def one_batch(self, rows: int) -> int:
        """The address of (0, rows): the one batch of what is not training."""
        self._single[0, 1] = rows
        return self._single_at
