"""The schedule of a job: its phases and their tiles, from the sizes of the network and of the batch.

What decides the order of a sum depends on the sizes alone: the gradient groups and the weight tiles. All else may
depend on the number of threads as well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.compiler.records import dtype_of
from kernels.cpu.engine.job import WeightTile
from kernels.cpu.engine.operations.layers import backward_layer, forward_layer
from kernels.cpu.engine.operations.rows_through_layers import gather_batch, rows_through_layers, rows_to_outputs
from kernels.cpu.engine.operations.update_weights import call_hook, transpose_weights, update_weights
from kernels.cpu.engine.operations.weights import weights
from kernels.cpu.ir.instruction_sets import chosen
from kernels.cpu.product.linear import transposed_dw_pays
from kernels.cpu.product.tiles import tile_grid
from kernels.engine.network import Network, Stage
from kernels.layout import leading_dimension

OPERATIONS = (
    transpose_weights, gather_batch, forward_layer, rows_through_layers, backward_layer, weights, call_hook,
    update_weights, rows_to_outputs,
)  # fmt: skip


class PlannedPhase(NamedTuple):
    """A phase: its operation, the layer it is for, and its tiles, as in job.Phase."""

    operation: jit.Family
    layer: int
    rows: int
    across: int
    columns: int


@dataclass(frozen=True, eq=False)
class StepSchedule:
    """The phases of a training step or of a forward pass, and the buffers that they need."""

    threads: int
    phases: tuple[PlannedPhase, ...]
    once: int  # how many come once; the others in every step
    first_layer: int  # of those that rows go through together
    row_chunk: int  # rows that do
    buffered: int  # rows of activations
    gradient_groups: int  # of rows, each with a dw of its own; 0 where dw is one sum over the batch
    group_rows: int
    transposed: tuple[int, ...]  # the layers of which w.T is kept
    rows: int  # of the batch, or of all that go forward
    transposed_dw: tuple[bool, ...] = ()  # whether a layer's dw is made as its transpose


@lru_cache(maxsize=64)
def for_step(
    network: Network, rows: int, threads: int, itemsize: int, gathered: bool, dx: bool, split: bool
) -> StepSchedule:
    """The schedule of a training step on `rows` rows, or of their gradients.

    gathered: X is not read in place. dx: its gradient is wanted. split: a hook sees the whole gradient.
    """
    stages, n_tiles = network.stages, len(weight_tiles(network))
    coupled = max((n for n, stage in enumerate(stages, 1) if stage.layer.couples_rows), default=0)
    groups = 0 if coupled else _gradient_groups(network, rows)
    layers = 0 if groups else max(coupled, _layered(stages, rows))
    tiles = partial(_layer_tiles, rows=rows, threads=threads, itemsize=itemsize)
    steps = []
    if layers and gathered:
        steps.append(PlannedPhase(gather_batch, 0, _rows_per_tile(rows, threads), 1, 0))
    for n in range(layers):
        steps.append(PlannedPhase(forward_layer, n, *tiles(stages[n], stages[n].outputs)))
    together = -(-rows // groups) if groups else _rows_per_tile(rows, threads)
    row_chunk = min(together, tuning.FORWARD_ROWS)
    steps.append(PlannedPhase(rows_through_layers, 0, together, 1, 0))
    for n in range(layers - 1, -1 if dx else 0, -1):
        steps.append(PlannedPhase(backward_layer, n, *tiles(stages[n], stages[n].inputs)))
    steps.append(PlannedPhase(weights, 0, 0, n_tiles + 1, 0))
    if split:
        steps += [PlannedPhase(call_hook, 0, 0, 1, 0), PlannedPhase(update_weights, 0, 0, n_tiles, 0)]
    phases = (PlannedPhase(transpose_weights, 0, 0, n_tiles, 0), *steps)
    kept = tuple(n for n in range(max(layers, 0 if dx else 1), len(stages)) if stages[n].is_dense)
    buffered = row_chunk * threads if groups else rows
    transposed_dw = tuple(
        stage.is_dense and _transposed_fits(rows, stage.inputs, stage.outputs, itemsize) for stage in stages
    )
    group_rows = together if groups else 0
    return StepSchedule(
        threads, phases, once=1, first_layer=layers, row_chunk=row_chunk, buffered=buffered,
        gradient_groups=groups, group_rows=group_rows, transposed=kept, rows=rows, transposed_dw=transposed_dw,
    )  # fmt: skip


@lru_cache(maxsize=64)
def for_outputs(network: Network, rows: int, threads: int, itemsize: int, gathered: bool, among: int) -> StepSchedule:
    """The schedule of a forward pass on `rows` rows, which are a part of `among`.

    gathered: X is not read in place. Few rows go through large layers one by one, of which each thread reads a part.
    """
    tile_rows, layers, steps = _rows_per_tile(rows, threads), streamed(network, rows, threads, itemsize), []
    if layers and gathered:
        steps.append(PlannedPhase(gather_batch, 0, tile_rows, 1, 0))
    for n, stage in enumerate(network.stages[:layers]):
        tiles = _grid(stage.outputs, rows, threads, itemsize) if stage.is_dense else (tile_rows, 1, stage.outputs)
        steps.append(PlannedPhase(forward_layer, n, *tiles))
    phases = (*steps, PlannedPhase(rows_to_outputs, 0, tile_rows, 1, 0))
    return StepSchedule(
        threads, phases, once=0, first_layer=layers, row_chunk=tile_rows,
        buffered=rows if layers else tile_rows * threads, gradient_groups=0, group_rows=0, transposed=(),
        rows=among,
    )  # fmt: skip


@lru_cache(maxsize=64)
def weight_tiles(network: Network) -> np.ndarray:
    """The tiles of all layers' weights: records of WeightTile."""
    height, width = _tile(network.n_weights)
    tiles = []
    for layer, stage in enumerate(network.stages):
        rows, columns = stage.w_rows, stage.outputs
        parts = -(-rows // height)
        edges = [rows * part // parts for part in range(parts + 1)]
        for i0, i1 in pairwise(edges):
            for j0 in range(0, columns, width):
                tiles.append((layer, i0, i1, j0, min(j0 + width, columns)))
    return np.array(tiles, dtype_of(WeightTile))


def _tile(n_weights: int) -> tuple[int, int]:
    """(rows, columns) of a weight tile: as large as leaves LEAST_WEIGHT_TILES of them, since each packs its own dz."""
    return next(
        (tile for tile in tuning.WEIGHT_TILES if n_weights >= tuning.LEAST_WEIGHT_TILES * tile[0] * tile[1]),
        tuning.WEIGHT_TILES[-1],
    )


def scratch_size(tiles: np.ndarray, lanes: int) -> int:
    """Elements that dw of any tile, its db and its transpose need."""
    rows, columns = tiles["i1"] - tiles["i0"], tiles["j1"] - tiles["j0"]
    return int(((rows + 1) * (columns // lanes + 2) * lanes + columns * (rows // lanes + 1) * lanes).max())


def _transposed_fits(rows: int, inputs: int, outputs: int, itemsize: int) -> bool:
    """Whether dw is better made as its transpose, and this fits where a gradient group's dw lies."""
    stride = partial(leading_dimension, itemsize=itemsize)
    fits = outputs * stride(inputs) <= inputs * stride(outputs)
    return fits and transposed_dw_pays(rows, inputs, outputs, chosen().lanes(itemsize))


def _gradient_groups(network: Network, rows: int) -> int:
    width = sum(network.widths)
    least_rows = 2 * network.n_weights // width  # or the groups' dw would be larger than what they save
    least = max(tuning.GROUP_ROWS, least_rows, -(-rows // tuning.MOST_GROUPS))
    groups = rows // least // tuning.GROUPS_AT_ONCE * tuning.GROUPS_AT_ONCE
    if not groups and rows >= 2 * max(tuning.PAIR_ROWS, least_rows):
        groups = 2
    return groups if rows * width >= tuning.GROUPED_ACTIVATIONS else 0


def _layered(stages: Sequence[Stage], rows: int) -> int:
    """How many of the first layers are done one by one: those whose weights are more than what goes in and out."""
    return _up_to_last(stages, lambda a, b: 2 * a * b > rows * (a + b)) if rows > 1 else 0


def streamed(network: Network, rows: int, threads: int, itemsize: int) -> int:
    """How many of the first layers few rows go through one by one, up to the last with very many weights, of which
    each thread can read a part."""

    def large(inputs: int, outputs: int) -> bool:
        down, across, _ = tile_grid(rows, outputs, threads, itemsize)
        return inputs * outputs >= tuning.STREAMED_WEIGHTS and down * across > 1

    return _up_to_last(network.stages, large) if threads > 1 and rows <= tuning.FORWARD_ROWS else 0


def _up_to_last(stages: Sequence[Stage], large: Callable[[int, int], bool]) -> int:
    """How many layers there are up to the last dense one that is large."""
    found = (n for n, stage in enumerate(stages, 1) if stage.is_dense and large(stage.inputs, stage.outputs))
    return max(found, default=0)


def _layer_tiles(stage: Stage, columns: int, rows: int, threads: int, itemsize: int) -> tuple[int, int, int]:
    """(rows, tiles across, columns) of the tiles of a layer that is done on its own in a training step."""
    if stage.is_dense:
        return _grid(columns, rows, threads, itemsize)
    if stage.layer.couples_rows:
        return rows, -(-columns // tuning.NORM_COLUMNS), tuning.NORM_COLUMNS
    return _rows_per_tile(rows, threads), 1, columns


def _grid(columns: int, rows: int, threads: int, itemsize: int) -> tuple[int, int, int]:
    """(rows, tiles across, columns) of the tiles of a product."""
    down, across, wide = tile_grid(rows, columns, threads, itemsize)
    return -(-rows // down), across, wide


def _rows_per_tile(rows: int, threads: int) -> int:
    """Rows of one tile: each thread gets as many tiles as it takes for them to have at most FORWARD_ROWS, all alike."""
    chunks = threads * -(-rows // (threads * tuning.FORWARD_ROWS))
    return -(-rows // chunks)
