"""What `run_job` runs: the records of a job, its layers, phases and weight tiles, and what compiled code asks of them.

A job lies before the records of its layers. Addresses are those of arrays or kernels, strides are in bytes.
"""

import ctypes

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Code, Flag, Index, Size, Stride
from kernels.cpu.compiler.records import Record, Shared, offset, record_address, record_at, record_class
from kernels.cpu.ir import memory


@record_class
class Job(Record):
    """One call of the engine: steps, phases, data, loss, optimiser and what comes out."""

    # written by all threads
    ticket: Shared  # phase << 32 | next tile
    done: Shared  # tiles of the phase that have been done
    slots: Shared  # slots that threads have taken
    stop: Flag  # the results are no longer wanted

    # steps and phases
    n_layers: Size
    begin: Index  # the first step
    end: Index  # the step before which it ends
    batches: Address  # (start, rows) of each step
    first_position: Index  # from which starts are counted
    phases: Address  # records of Phase
    once: Size  # the first of them, which come once
    each_step: Size  # the others, which come in each step
    first_layer: Index  # of those that rows go through together
    row_chunk: Size  # rows that do
    flush: Flag  # subnormal numbers count as zero
    alone: Flag  # one thread, which need not claim what it does
    waited: Address  # where to add the ticks for which a thread waited long for others

    # data, targets and row weights as the caller has them; 0 for a kernel that gathers X: X is read in place
    x: Address
    x_row: Stride
    x_column: Stride
    x_gather: Address
    data_rows: Size
    target: Address
    target_row: Stride
    target_column: Stride
    target_gather: Address
    target_columns: Size
    labels: Flag  # the targets are integers, `target_row` bytes from one to the next
    label_bytes: Stride  # of one label
    label_signed: Flag
    wrong_row: Index  # a row whose label was none of the outputs when it was read, or -1
    order: Address  # uint32 row numbers, or 0 for the data's own order
    weight: Address  # of rows, or 0
    weight_gather: Address

    # the same of the batch
    batch_target: Address
    ld_batch_target: Stride
    batch_label: Address  # int64
    batch_weight: Address

    # loss
    loss: Address  # a kernel
    loss_parameter: Address  # float64
    output: Code
    metric: Code
    row_losses: Address  # float64, or 0 where none is wanted
    right_rows: Address  # float64, or 0
    group_sums: Address  # (loss, right rows) of each gradient group
    sums: Address  # (loss, right rows) of each step
    scales: Address  # what each step's loss is multiplied by

    # arrays like the parameters, as the bytes from the parameters to them; 0 for none
    state: Address  # int64, of each slot of the optimiser's state
    gradient: Stride
    group_gradients: Stride  # the first gradient group's
    group_gradient_bytes: Stride  # from one gradient group's to the next one's
    group_rows: Size

    # updates
    update: Address  # a kernel
    scalars: Address  # float64 (steps, n), the update's
    scalars_of_biases: Address  # maybe the same
    scalars_bytes: Stride  # of one step
    l2: Address  # float64, of each step
    squares: Address  # float64 (steps, tiles): sums of squared weights, or 0
    tiles: Address  # records of WeightTile
    n_tiles: Size
    scratch: Address  # each slot's
    scratch_bytes: Stride  # of one slot
    one: Address  # the number 1

    # results
    activate_output: Address  # a kernel
    out: Address  # outputs, or 0
    out_row: Stride
    dx: Address  # the gradient by X, or 0
    dx_row: Stride
    hook: Address  # a function that sees the whole gradient
    hook_argument: Address
    times: Address  # each slot's record of the clock, or 0

    # normalisation by batches
    by_batch: Flag  # by the batch's statistics, not by the running ones
    keeps: Flag  # these move towards the batch's

    # dropout
    seed: int
    first_step: Index  # the number of the job's first step among all of a training


@record_class
class LayerRecord(Record):
    """A layer: its parameters, its kernels, and its buffers of a batch."""

    n_in: Size
    n_out: Size
    w: Address
    ldw: Stride
    w_rows: Size
    decays: Flag  # w takes the l2 term, and what the optimiser does to weights alone
    b: Address  # or 0
    wt: Address  # the transpose of w, or 0
    ldwt: Stride

    # kernels
    forward: Address
    backward: Address
    gradient: Address
    product: Address  # of its matrix products
    relu_fused: Flag  # the product applies ReLU
    activate: Address  # another activation, or 0
    activate_backward: Address  # the activation's derivative, or 0
    drop: Address  # dropout, or 0

    # buffers
    input: Address
    ld_input: Stride
    pre: Address  # pre-activations where the derivative reads them, or 0
    ld_pre: Stride
    y: Address
    dz: Address
    ld_out: Stride  # of y, dz and dropped
    drop_limit: int  # see kernels.maths.random
    dropped: Address  # where y goes when elements are dropped; may be y itself

    # normalisation
    normal: Address  # (x - mean) / deviation, laid out as y
    scale: Address  # 1 / deviation: of each row, or of each column
    mean: Address  # the running ones
    variance: Address
    epsilon: float  # added to variances
    momentum: float  # the share of the batch's statistics in new running ones

    transposed_dw: Flag  # dw is made as its transpose
    ld_transposed_dw: Stride


@record_class
class Phase(Record):
    """What is done, to which layer, by tiles of `rows` x `columns`, `across` side by side; 0 rows: `across` tiles."""

    operation: Address  # a kernel
    layer: Index
    rows: Size
    across: Size
    columns: Size


@record_class
class WeightTile(Record):
    """The weights w[i0:i1, j0:j1] of a layer; where i1 is the last row, the bias b[j0:j1] as well."""

    layer: Index
    i0: Index
    i1: Index
    j0: Index
    j1: Index


JOB_BYTES, LAYER_BYTES = ctypes.sizeof(Job), ctypes.sizeof(LayerRecord)
PHASE_BYTES, TILE_BYTES = ctypes.sizeof(Phase), ctypes.sizeof(WeightTile)
TICKET, DONE, SLOTS, STOP = (offset(Job, name) for name in ("ticket", "done", "slots", "stop"))

job_at, layer_at = record_at(Job), record_at(LayerRecord)
phase_at, tile_at = record_at(Phase), record_at(WeightTile)
_integers = memory.pointer("int64")


@jit.inline
def layer_of(job, n):
    """The record of layer n."""
    return layer_at(record_address(job) + JOB_BYTES + n * LAYER_BYTES)


@jit.inline
def tile_of(job, n):
    """The record of weight tile n."""
    return tile_at(job.tiles + n * TILE_BYTES)


@jit.inline
def rows_of(job, step):
    """The rows of a step's batch."""
    return _integers(job.batches)[2 * step + 1]


@jit.inline
def start_of(job, step):
    """Where a step's rows begin, in the order or in the data."""
    return job.first_position + _integers(job.batches)[2 * step]


@jit.inline
def groups_of(job, step):
    """The gradient groups of a step's batch."""
    return (rows_of(job, step) + job.group_rows - 1) // job.group_rows


@jit.inline
def input_of(job, layer, n, at, position):
    """(address, stride) of layer n's input: from row `at` of its buffer on, or the data's from `position` on."""
    if n == 0 and job.x_gather == 0:
        return job.x + position * job.x_row, job.x_row
    return layer.input + at * layer.ld_input, layer.ld_input


@jit.inline
def pre_activations_of(layer, at, begin):
    """(address, stride) of a layer's pre-activations, `begin` bytes into row `at`: where y goes, or in their buffer."""
    if layer.pre != 0:
        return layer.pre + at * layer.ld_pre + begin, layer.ld_pre
    return layer.y + at * layer.ld_out + begin, layer.ld_out


@jit.inline
def stopped(job):
    """Whether the job is given up."""
    return memory.load(record_address(job) + STOP) != 0
