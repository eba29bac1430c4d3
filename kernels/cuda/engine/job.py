"""What a launch works on: an int64 array of a job's header and a record per product, and the numbers of each step.

A step's numbers are, in the kernel's real type, its StepNumbers, then the scalars of its update, then those of biases
where they are others.

Kernels get the array, called `words`, and where in it their record is. All that differs from step to step follows from
`step`, which a step itself advances, so each step's launches are the same ones.
"""

import numpy as np

from kernels.cuda.compiler import jit
from kernels.cuda.compiler.declaration import Code, Flag, Offset, Real, Size, Stride
from kernels.cuda.compiler.records import Record, record_at, record_class, rows, size


@record_class
class Job(Record):
    """The header: steps and their batches, and what the kernels other than products work on."""

    # rows order[0 : total], or first and on, batch of them in a step; then the next total rows of the order, or first
    # and on again
    total: Size = 1
    batch: Size = 1
    first: Size = 0
    ordered: Flag = 0
    pass_steps: Size = 1

    # the batch's rows
    x: Offset = 0
    x_row: Stride = 0
    x_columns: Size = 0

    # the loss
    columns: Size = 0
    z: Offset = 0
    z_row: Stride = 0
    dz: Offset = 0
    dz_row: Stride = 0
    output: Code = 0  # the output activation
    target_row: Stride = 0
    weighted: Flag = 0
    metric: Code = 0
    right: Offset = 0  # where in results it says which rows are right
    keep_rows: Flag = 0  # results are those of all steps' rows, not of the last step's

    # what an update works on
    decay_parts: Size = 0  # partial sums of squared weights
    w_rows: Size = 0
    w_columns: Size = 0
    w_row: Stride = 0
    g_row: Stride = 0
    g_parts: Size = 0
    g_spacing: Stride = 0
    numbers: Size = 0  # of a step
    first_dw: Size = 0  # where the record of the first layer's dw is, which says where its bias lies

    # dropout: its key, and the number of the job's first step among all of a training
    seed: Size = 0
    first_step: Size = 0

    # the step that is being made, and what step_sums adds to it
    step: Size = 0
    advance: Size = 0
    layers: Size = 0


@record_class
class Product(Record):
    """c (m, n) = f(a (m, k) @ b (k, n)), see product/linear.py."""

    m: Size = 0
    n: Size = 0
    k: Size = 0
    m_of_batch: Flag = 0  # m is the rows of the step's batch, whatever it says
    k_of_batch: Flag = 0
    a: Offset = 0
    a_row: Stride = 0
    b: Offset = 0
    b_row: Stride = 0
    c: Offset = 0
    c_row: Stride = 0
    stored: Flag = 1  # c is written
    biased: Flag = 0
    bias: Offset = 0
    with_extra: Flag = 0
    extra: Offset = 0
    extra_row: Stride = 0
    active: Flag = 0  # f is not the identity
    with_db: Flag = 0
    db: Offset = 0  # the sums of b's columns
    # dw and db are summed in parts, each of a chunk of the batch's rows, which lie spacing apart
    chunk: Size = 0
    spacing: Stride = 0


@record_class
class Drop(Record):
    """Dropout: target (rows, columns) = source, but for what a layer drops by its limit, see kernels.maths.random."""

    columns: Size
    layer: Size
    source: Offset
    target: Offset
    row: Stride
    limit: Size


@record_class
class StepNumbers(Record):
    """What the loss and its gradient need."""

    scale: Real = 0.0  # of the sum of row losses
    decay: Real = 0.0  # of the weights: l2
    parameter: Real = 0.0  # the loss's


SCALARS = size(StepNumbers)  # where the first of a step's scalars is
PRODUCTS = size(Job)  # where the first record after the header is
PRODUCT_WORDS = size(Product)

_job_at, _step_numbers_at = record_at(Job), record_at(StepNumbers)
product_at, drop_at = record_at(Product), record_at(Drop)


def numbers_of_steps(steps: int, of_step: StepNumbers, *scalars: np.ndarray) -> np.ndarray:
    """The numbers (steps, n) of steps. A field of the record may be an array (steps,); scalars are (steps, some)."""
    return np.concatenate([rows(of_step, steps), *scalars], axis=1)


@jit.inline
def job_of(words):
    """The header of a job."""
    return _job_at(words, 0)


@jit.inline
def numbers_of(numbers, job):
    """The step's StepNumbers."""
    return _step_numbers_at(numbers, job.step * job.numbers)


@jit.inline
def rows_of(job):
    """The rows of the step's batch; the last one of a pass may be smaller."""
    return min(job.batch, job.total - job.step % job.pass_steps * job.batch)


@jit.inline
def row_of(job, order, i):
    """The row of the data that is row i of the step's batch."""
    position = job.step % job.pass_steps * job.batch + i
    return order[job.step // job.pass_steps * job.total + position] if job.ordered != 0 else job.first + position
