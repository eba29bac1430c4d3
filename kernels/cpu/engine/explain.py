"""The schedule of a training step as text."""

from collections.abc import Sequence

import numpy as np

from kernels.cpu.engine.operations.layers import backward_layer, forward_layer
from kernels.cpu.engine.operations.rows_through_layers import gather_batch, rows_through_layers
from kernels.cpu.engine.operations.update_weights import transpose_weights
from kernels.cpu.engine.schedule import PlannedPhase, StepSchedule, for_step, weight_tiles
from kernels.engine.network import Network


def explain(network: Network, rows: int, threads: int, dtype: np.dtype) -> str:
    """The phases of a training step on `rows` rows that are taken out of X in some order, a line each.

    Each line has how many tiles the phase has, what one of them is, and what is done with it.
    """
    schedule = for_step(network, rows, threads, dtype.itemsize, gathered=True, dx=False, split=False)
    workers = f"{threads} thread{'s' * (threads > 1)}"
    shape = "-".join(map(str, network.widths))
    lines = [f"A training step of {shape} on {rows} rows ({dtype.name}, {workers})", ""]
    table = [("", "tiles", "a tile", "what is done with it")]
    for n, phase in enumerate(schedule.phases):
        when = "once" if n < schedule.once else "each step"
        table.append((when, *_line(schedule, phase, network, rows)))
    sizes = [max(len(line[column]) for line in table) for column in range(3)]
    for when, tiles, size, what in table:
        lines.append(f"  {when:<{sizes[0]}}  {tiles:>{sizes[1]}}  {size:<{sizes[2]}}  {what}")
    return "\n".join([*lines, "", _order_of_sums(schedule, rows)])


def _line(schedule: StepSchedule, phase: PlannedPhase, network: Network, rows: int) -> tuple[str, str, str]:
    """(tiles, a tile, what is done) of a phase."""
    operation, layer, high, across, wide = phase
    stages, tiles = network.stages, across * (-(-rows // high) if high else 1)
    by_rows = f"{min(high, rows)} rows"
    if operation is transpose_weights:
        kept = _layers(schedule.transposed) if schedule.transposed else "no layer"
        return str(tiles), _weights(network), f"w.T of {kept}, which later steps keep up to date"
    if operation is gather_batch:
        return str(tiles), by_rows, "rows of X into the input's buffer"
    if operation is forward_layer:
        columns = f" x {min(wide, stages[layer].outputs)} outputs" if across > 1 else ""
        return str(tiles), by_rows + columns, f"{_named(network, layer)} forward"
    if operation is backward_layer:
        columns = f" x {min(wide, stages[layer].inputs)} inputs" if across > 1 else ""
        return str(tiles), by_rows + columns, f"{_named(network, layer)} back: dz of layer {layer}"
    if operation is rows_through_layers:
        through = _layers(range(schedule.first_layer, len(stages)))
        first = "gathered, then " if schedule.first_layer == 0 else ""
        own = f", {schedule.row_chunk} at a time, then dw and db of these rows" if schedule.gradient_groups else ""
        return str(tiles), by_rows, f"{first}{through} forward, the loss, and back to dz{own}"
    summed = "dw and db, summed over the groups" if schedule.gradient_groups else "dw and db, a sum over all rows"
    return (
        f"{tiles - 1} + 1",
        _weights(network),
        f"{summed}; the optimiser's step; w.T where it is kept + the step's loss",
    )


def _named(network: Network, layer: int) -> str:
    """A layer by its number, from 1, and its kind where that is not dense."""
    stage = network.stages[layer]
    return f"layer {layer + 1}" + ("" if stage.is_dense else f" ({stage.layer.kind.replace('_', ' ')})")


def _layers(numbers: Sequence[int]) -> str:
    """Layers by their numbers, which count from 0 here."""
    if len(numbers) == 1:
        return f"layer {numbers[0] + 1}"
    if len(numbers) == numbers[-1] - numbers[0] + 1:
        return f"layers {numbers[0] + 1} to {numbers[-1] + 1}"
    return f"layers {', '.join(str(n + 1) for n in numbers)}"


def _weights(network: Network) -> str:
    """What a weight tile is."""
    tiles = weight_tiles(network)
    if len(tiles) == len(network.stages):
        return "a layer's weights"
    rows, columns = (int((tiles[f"{edge}1"] - tiles[f"{edge}0"]).max()) for edge in "ij")
    return f"up to {rows} x {columns} weights"


def _order_of_sums(schedule: StepSchedule, rows: int) -> str:
    if schedule.gradient_groups:
        groups = f"{schedule.gradient_groups} groups of {schedule.group_rows} rows"
        return (
            f"Each of {groups} makes a gradient of its own; these are added in their order, on any number of threads."
        )
    return f"Each element of dw is one sum over the {rows} rows, in their order, on any number of threads."
