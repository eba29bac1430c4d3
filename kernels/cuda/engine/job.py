"""What a launch works on: an int64 array of sizes, offsets and codes, the header's fields and a record per product.

Offsets and row strides count elements of the array they point into. Kernels get the job and a record's number: all that
differs from step to step follows from STEP, which a step itself advances, so each step's launches are the same ones.
"""

from itertools import count

from kernels.cuda.compiler import jit

_field = count()
(
    TOTAL, BATCH, FIRST, ORDERED,  # rows order[0 : TOTAL], or FIRST and on, BATCH of them in a step
    PASS_STEPS,  # after so many steps: the next TOTAL rows of the order, or FIRST and on again
    X, LDX, X_COLUMNS,  # the batch's rows
    COLUMNS, Z, LDZ, DZ, LDDZ, OUTPUT,  # what the loss works on
    LDT, WEIGHTED, METRIC, RIGHT, KEEP,  # RIGHT: where rightness lies in results; KEEP: that of all steps
    PARTS,  # how many partial sums of squares there are
    W_ROWS, W_COLUMNS, LDW, LDG, G_PARTS, G_SPACING, SLOTS,  # what an update works on
    SEED, FIRST_STEP,  # of dropout: its key, and the number of the job's first step among all of a training
    STEP, ADVANCE,  # the step that is being made, and what step_sums adds to it
    LAYERS,
) = (next(_field) for _ in range(32))  # fmt: skip
HEADER = 32
# A record: c (m, n) = f(a (m, k) @ b (k, n)), see product/linear.py; f where ACTIVE. DB: where b's columns' sums go.
# Or one of dropout: c (m, n) = a, but for what layer K drops by LIMIT, see kernels.random.
M, N, K, A, LDA, B, LDB, C, LDC, BIAS, EXTRA, LD_EXTRA, ACTIVE, DB, LIMIT, CHUNK, SPACING = range(17)
# dw and db are summed in parts of CHUNK rows of the batch; part p goes p * SPACING elements further than C and DB.
RECORD = 17
ROWS = -1  # a size: the rows of the step's batch
NONE = -1  # an offset: nowhere

# Numbers of a step, in the kernel's real type: eight for the update, see operations/update.py; then the factor of the
# sum of row losses, that of l2, and the loss's parameter
SCALE, DECAY, PARAMETER = 8, 9, 10
NUMBERS = 11


@jit.inline
def rows_of(job):
    """The rows of the step's batch; the last one of a pass may be smaller."""
    return min(job[BATCH], job[TOTAL] - job[STEP] % job[PASS_STEPS] * job[BATCH])


@jit.inline
def size_of(job, field):
    """A size of a record, which may be the rows of the step's batch."""
    size = job[field]
    return rows_of(job) if size == ROWS else size


@jit.inline
def row_of(job, order, i):
    """The row of the data that is row i of the step's batch."""
    step = job[STEP]
    position = step % job[PASS_STEPS] * job[BATCH] + i
    return order[step // job[PASS_STEPS] * job[TOTAL] + position] if job[ORDERED] != 0 else job[FIRST] + position
