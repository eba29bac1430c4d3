"""What `network` runs: the fields of a job, of a layer's record and of a phase's, all int64."""

from itertools import count

# A job. The first three are written by all threads, so each has a cache line of its own. STOP: not 0 once its results
# are no longer wanted
TICKET, DONE, SLOT, STOP = 0, 8, 16, 17
_field = count(24)
(
    N_LAYERS, BEGIN, STEPS,  # the first step, and the one where it ends
    FIRST, BATCHES,  # address of each step's (start, rows); starts are counted from FIRST
    PHASES, ONCE, EACH_STEP,  # address of the phases' records; how many come once, and how many then in each step
    FIRST_LAYER, CHUNK,  # of what goes through many layers at once
    FLUSH,  # 1 where subnormal numbers count as zero
    ALONE,  # 1 for one thread, which need not claim what it does
    WAITED,  # address of where to add the ticks for which a thread waited for others, where it was for long
    X, X_ROW, X_COLUMN, X_GATHER,  # data: address, strides in bytes, kernel for its number type, 0 to read it in place
    DATA_ROWS,  # of data, targets and row weights
    T, T_ROW, T_COLUMN, T_GATHER, T_COLUMNS,  # targets
    LABELS, LABEL_BYTES, LABEL_SIGNED,  # 1 where T holds labels, integers of so many bytes, T_ROW from one to the next
    WRONG_ROW,  # a row whose label was none of the outputs when it was read, or -1
    ORDER, WEIGHT, WEIGHT_GATHER,  # uint32 row numbers or 0; float64 row weights or 0
    ROW_TARGET, LD_TARGET, ROW_LABEL, ROW_WEIGHT,  # the batch's own
    LOSS, LOSS_PARAMETER, OUTPUT, METRIC,  # a kernel; address of a float64; codes
    ROW_LOSS, RIGHT, GROUP_SUMS, SUMS, SCALES,
    UPDATE, FIRST_STATE, SECOND_STATE, GRADIENT,  # byte offsets of the parameters' twins; 0 for none
    PARTIALS, PARTIAL_BYTES, GROUP_ROWS,  # the same of the first group's share of dw; from one to the next; its rows
    SCALARS, L2, SQUARES,
    TILES, N_TILES, SCRATCH, SCRATCH_BYTES, ONE,
    ACTIVATE_OUTPUT, OUT, OUT_ROW, DX, DX_ROW, HOOK, HOOK_ARGUMENT,
    TIMES,  # the threads' records of the clock, for `timed_network`
    SEED, FIRST_STEP,  # of dropout: its key, and the number of the job's first step among all of a training
) = (next(_field) for _ in range(68))  # fmt: skip
LAYERS = 96  # where the layers' records begin

# A layer's record. Addresses; strides in bytes.
(
    N_IN, N_OUT, W, LDW, B, WT, LDWT,
    PRODUCT,  # the kernel of its matrix products
    FUSED, ACTIVATE, ACTIVATE_BACKWARD,  # 1 for ReLU; kernels of another activation and of its derivative, or 0
    INPUT, LD_INPUT, PRE, LD_PRE, Y, DZ, LD_OUT,
    DROP, LIMIT, DROPPED,  # dropout: its kernel or 0; see kernels.random; where y goes, which may be y itself
    TURNED, LD_TURNED,  # 1 where dw is made as its transpose, in whose rows these are the bytes from one to the next
) = range(23)  # fmt: skip
RECORD = 24

# A phase's record: what is done, to which layer, by tiles of so many rows of the batch times so many columns, of which
# ACROSS lie side by side; or, with ROWS 0, by ACROSS tiles.
OPERATION, LAYER, ROWS, ACROSS, COLUMNS = range(5)
PHASE_RECORD = 8
(
    TRANSPOSE,  # w.T of the layers that keep one, by weight tiles
    GATHER,  # rows of the batch out of the data
    FORWARD,  # a layer's outputs
    THROUGH,  # rows: from FIRST_LAYER to the loss and back
    BACKWARD,  # dz of the layer below, or dX
    WEIGHTS,  # dw by weight tiles, and, fused, their update while they are hot, and the new w.T; the step's loss
    CALL_HOOK,  # one call of a function that sees the whole gradient
    UPDATE_WEIGHTS,  # the update alone, by weight tiles
    PREDICT,  # rows to outputs, losses or both
) = range(9)  # fmt: skip

TILE = 5  # numbers per weight tile: layer, i0, i1, j0, j1
