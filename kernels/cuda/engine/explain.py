"""The launches of a training step as text."""

from collections.abc import Iterator

from kernels.cuda import tuning
from kernels.cuda.engine.launches import Plan, column_blocks
from kernels.cuda.rowwise.row_reductions import block_threads, row_blocks, row_threads

Line = tuple[object, object, str]  # blocks, threads of each, what they do


def explain(plan: Plan) -> str:
    """The launches of a training step with gradients, in their order, a line each: blocks, their threads, what is done.

    Dropout, weight decay and clipping add launches of their own.
    """
    widths, rows = plan.layout.widths, plan.workspace.rows
    network = "-".join(map(str, widths))
    table = [("blocks", "threads", "what they do"), *_lines(plan)]
    cells = [(_written(blocks), str(threads), what) for blocks, threads, what in table]
    sizes = [max(len(line[column]) for line in cells) for column in range(2)]
    lines = [f"  {blocks:>{sizes[0]}}  {threads:>{sizes[1]}}  {what}" for blocks, threads, what in cells]
    first = f"A training step of {network} on {rows} rows ({plan.dtype.name}, CUDA)"
    parts = f"dw and db are sums in {plan.parts} parts of the rows, which are added in their order."
    return "\n".join([first, "", *lines, "", parts if plan.parts > 1 else "dw and db are one sum over the rows each."])


def _lines(plan: Plan) -> Iterator[Line]:
    widths, rows = plan.layout.widths, plan.workspace.rows
    last, elements = len(widths) - 1, tuning.THREADS
    if plan.narrow:
        blocks = plan.narrow.blocks(rows, 1), plan.narrow.threads
        yield *blocks, "rows of X, and all layers forward in shared memory"
    else:
        yield -(-rows * widths[0] // elements), elements, "rows of X into the input's buffer"
        for n, launch in enumerate(plan.forward, 1):
            yield launch.blocks, launch.kernel.threads, f"layer {n} forward"
    yield (
        row_blocks(rows, widths[-1]),
        block_threads(row_threads(widths[-1])),
        "the rows' losses, and dz of the last layer",
    )
    if plan.narrow:
        yield *blocks, "all layers back to dz of the first, in shared memory"
    else:
        for n in range(last, 1, -1):
            yield plan.dx[n - 1].blocks, plan.dx[n - 1].kernel.threads, f"layer {n} back: dz of layer {n - 1}"
    yield plan.dw.blocks, plan.dw.kernel.threads, "dw of all layers"
    if plan.layout.bias:
        columns, lanes = tuning.COLUMN_LANES
        yield (*column_blocks(widths), plan.parts), columns * lanes, "db of all layers"
    yield -(-plan.layout.size // elements), elements, "the optimiser's step on all parameters"
    yield 1, elements, "the step's loss"


def _written(blocks: object) -> str:
    return " x ".join(map(str, blocks)) if isinstance(blocks, tuple) else str(blocks)
