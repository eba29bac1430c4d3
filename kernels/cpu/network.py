"""A whole network in compiled code: forward, gradients and training steps, by any number of threads.

A call is described by a job, an int64 array of addresses, sizes and codes (fields below, then one record per layer),
so that one specialisation per dtype serves every architecture. The job is a list of phases, and a phase is a number of
tiles that may be done in any order and by anyone:

    prepare   w.T of every layer, by weight tiles
    then for each step
    rows      a chunk of rows: gather, forward through all layers, loss, dx back through all layers
    weights   a tile of one layer's dw = x.T @ dz, and, fused, its update while it is hot, and the new w.T
    hook      (split form alone) one call of a function that sees the whole gradient
    update    (split form alone) the update of a tile

Threads claim tiles from one atomic word (phase << 32 | next tile); who finishes a phase's last tile opens the next
phase. Nobody is waited for but a thread that holds a tile, so a thread that comes late, or never, costs nothing.
No result depends on who does what: a row's results do not depend on its chunk, each element of dw is one sum over
the batch in order, and losses are summed in the order of rows.

Subnormal numbers count as zero in training. Where a gradient vanishes or a unit is dead, Adam's running means decay
into them within some 800 steps, and an operation on one takes 150 cycles: 4.0 ms an epoch in place of 1.8, after 200
epochs of 64-64-64-10 that had learned its data (Intel Xeon with AVX-512).
"""

from itertools import count
from typing import Any

from numba import types

from . import jit, memory
from .batch import SIGNATURE as GATHER_SIGNATURE
from .elementwise import BACKWARD, FORWARD
from .gemm import gemm
from .loss import SIGNATURE as LOSS_SIGNATURE
from .loss import output
from .simd import chosen, itemsize, transpose_square
from .update import SIGNATURE as UPDATE_SIGNATURE

# Fields of a job. The first three are written by all threads, so each has a cache line of its own.
WORD, DONE, SLOT = 0, 8, 16
_field = count(24)
(
    KIND, N_LAYERS, STEPS, FIRST, TOTAL, BATCH, CHUNK,
    X, X_ROW, X_COLUMN, X_GATHER,  # data: address, strides in bytes, kernel for its number type, 0 to read it in place
    T, T_ROW, T_COLUMN, T_GATHER, T_COLUMNS,  # targets; int64 labels when T_COLUMNS is 0
    ORDER, WEIGHT, WEIGHT_GATHER,  # int64 row numbers or 0; float64 row weights or 0
    ROW_TARGET, LD_TARGET, ROW_LABEL, ROW_WEIGHT,  # the batch's own
    LOSS, OUTPUT, METRIC, ROW_LOSS, RIGHT, SUMS, SCALES,
    UPDATE, FIRST_STATE, SECOND_STATE, GRADIENT,  # byte offsets of the parameters' twins; 0 for none
    SCALARS, L2, SQUARES,
    TILES, N_TILES, SCRATCH, SCRATCH_BYTES, ONE,
    OUT, OUT_ROW, DX, DX_ROW, HOOK, HOOK_ARGUMENT, SPLIT,
) = (next(_field) for _ in range(49))  # fmt: skip
LAYERS = 80
# Fields of a layer's record. Addresses; strides in bytes.
(
    N_IN, N_OUT, W, LDW, B, WT, LDWT,
    FUSED, ACTIVATE, ACTIVATE_BACKWARD,  # 1 for ReLU; kernels of another activation and of its derivative, or 0
    INPUT, LD_INPUT, PRE, LD_PRE, Y, DZ, LD_OUT,
) = range(17)  # fmt: skip
RECORD = 24

TRAIN, GRADIENTS, FORWARD_ONLY = 0, 1, 2  # KIND
TILE_ROWS, TILE_COLUMNS = 96, 256  # of a weight tile: a float32 tile of dw is 96 KiB, in L2
TILE = 5  # numbers per tile: layer, i0, i1, j0, j1


@jit.kernel("v i")
def network(real: Any) -> Any:
    """Run a job, with whoever else runs it; returns when no tile is left to claim."""
    size = itemsize(real)
    lanes = chosen().lanes(size)
    product, output_activation = gemm(real), output(real)
    gather = jit.caller_of_address(GATHER_SIGNATURE, real)
    activate, activate_backward = jit.caller_of_address(FORWARD, real), jit.caller_of_address(BACKWARD, real)
    row_loss, step_update = jit.caller_of_address(LOSS_SIGNATURE, real), jit.caller_of_address(UPDATE_SIGNATURE, real)
    hook = jit.caller_of_address("v i", real)
    square = transpose_square(real)
    integers, doubles, elements = memory.pointer(types.int64), memory.pointer(types.float64), memory.pointer(real)
    none, zero = real(float("-inf")), real(0.0)

    @jit.inline
    def rows_of(job, step):
        return min(job[BATCH], job[TOTAL] - step * job[BATCH])

    @jit.inline
    def forward(job, layers, at, first, rows):
        """Gather `rows` positions from `first` on into the batch's rows from `at` on, and run them to the logits."""
        layer = integers(layers)
        x, ldx = layer[INPUT] + at * layer[LD_INPUT], layer[LD_INPUT]
        if job[X_GATHER] != 0:
            gather(
                job[X_GATHER], rows, layer[N_IN], job[X], job[X_ROW], job[X_COLUMN], job[ORDER], first, x, ldx
            )  # fmt: skip
        else:
            x, ldx = job[X] + first * job[X_ROW], job[X_ROW]
        for n in range(job[N_LAYERS]):
            layer = integers(layers + n * RECORD * 8)
            if n > 0:
                x, ldx = layer[INPUT] + at * layer[LD_INPUT], layer[LD_INPUT]
            y = layer[Y] + at * layer[LD_OUT]
            z, ldz = (layer[PRE] + at * layer[LD_PRE], layer[LD_PRE]) if layer[PRE] != 0 else (y, layer[LD_OUT])
            product(
                rows, layer[N_OUT], layer[N_IN], x, ldx, size, layer[W], layer[LDW], z, ldz, layer[B], 0,
                zero if layer[FUSED] != 0 else none, 0, 1,
            )  # fmt: skip
            if layer[ACTIVATE] != 0:
                activate(layer[ACTIVATE], rows, layer[N_OUT], z, ldz, y, layer[LD_OUT])

    @jit.inline
    def losses(job, layers, at, first, rows, scale, row):
        """The loss of rows that have been forwarded, and dz of the last layer; per-row results from `row` on."""
        layer = integers(layers + (job[N_LAYERS] - 1) * RECORD * 8)
        target, weight = job[ROW_TARGET] + at * job[LD_TARGET], 0
        if job[T_COLUMNS] == 0:
            target = job[ROW_LABEL] + at * 8
            labels, source, order = integers(target), integers(job[T]), integers(job[ORDER])
            for r in range(rows):
                labels[r] = source[order[first + r]] if job[ORDER] != 0 else source[first + r]
        else:
            gather(
                job[T_GATHER], rows, job[T_COLUMNS], job[T], job[T_ROW], job[T_COLUMN], job[ORDER], first,
                target, job[LD_TARGET],
            )  # fmt: skip
        if job[WEIGHT] != 0:
            weight = job[ROW_WEIGHT] + at * size
            gather(job[WEIGHT_GATHER], rows, 1, job[WEIGHT], 8, 8, job[ORDER], first, weight, size)
        row_loss(
            job[LOSS], job[OUTPUT], rows, layer[N_OUT], layer[Y] + at * layer[LD_OUT], layer[LD_OUT], target,
            job[LD_TARGET] if job[T_COLUMNS] != 0 else 0, weight, scale, layer[DZ] + at * layer[LD_OUT],
            layer[LD_OUT], job[METRIC], job[ROW_LOSS] + row * 8, job[RIGHT] + row * 8 if job[RIGHT] != 0 else 0,
        )  # fmt: skip

    @jit.inline
    def backward(job, layers, at, rows):
        """dz of every layer from that of the last; and dX where it is wanted."""
        for n in range(job[N_LAYERS] - 1, -1, -1):
            layer = integers(layers + n * RECORD * 8)
            below = integers(layers + max(n - 1, 0) * RECORD * 8)
            if n > 0:
                dx, ldx = below[DZ] + at * below[LD_OUT], below[LD_OUT]
            else:
                dx, ldx = job[DX] + at * job[DX_ROW], job[DX_ROW]
            if n > 0 or job[DX] != 0:
                product(
                    rows, layer[N_IN], layer[N_OUT], layer[DZ] + at * layer[LD_OUT], layer[LD_OUT], size,
                    layer[WT], layer[LDWT], dx, ldx, 0, 0, none, 0, 1,
                )  # fmt: skip
            if n > 0 and below[ACTIVATE_BACKWARD] != 0:
                saved, lds = below[Y] + at * below[LD_OUT], below[LD_OUT]
                if below[PRE] != 0:
                    saved, lds = below[PRE] + at * below[LD_PRE], below[LD_PRE]
                activate_backward(below[ACTIVATE_BACKWARD], rows, below[N_OUT], dx, ldx, saved, lds, dx, ldx)

    @jit.inline
    def refresh_transposed(layer, i0, i1, j0, j1):
        """wt[j0:j1, i0:i1] = w[i0:i1, j0:j1].T"""
        w, ldw, wt, ldwt = layer[W], layer[LDW], layer[WT], layer[LDWT]
        for i in range(i0, i1, lanes):
            for j in range(j0, j1, lanes):
                if i + lanes <= i1 and j + lanes <= j1:
                    square(w + i * ldw + j * size, ldw, wt + j * ldwt + i * size, ldwt)
                else:
                    for jj in range(j, min(j + lanes, j1)):
                        target = elements(wt + jj * ldwt)
                        for ii in range(i, min(i + lanes, i1)):
                            target[ii] = elements(w + ii * ldw)[jj]

    @jit.inline
    def step_tile(job, layer, step, at, g, ldg, gb, squares, i0, i1, j0, j1):
        """Update w[i0:i1, j0:j1] by g, and with i0 == 0 the bias by gb; then its part of w.T."""
        w, scalars = layer[W] + at, job[SCALARS] + step * 64
        first = w + job[FIRST_STATE] if job[FIRST_STATE] != 0 else 0
        second = w + job[SECOND_STATE] if job[SECOND_STATE] != 0 else 0
        decay = 0.0 if job[SPLIT] != 0 else doubles(job[L2])[step]
        total = step_update(job[UPDATE], i1 - i0, j1 - j0, w, layer[LDW], g, ldg, first, second, scalars, decay)
        if squares != 0:
            doubles(squares)[0] = total
        if i0 == 0 and layer[B] != 0:
            b = layer[B] + j0 * size
            first = b + job[FIRST_STATE] if job[FIRST_STATE] != 0 else 0
            second = b + job[SECOND_STATE] if job[SECOND_STATE] != 0 else 0
            step_update(job[UPDATE], 1, j1 - j0, b, 0, gb, 0, first, second, scalars, 0.0)
        if layer[WT] != 0:
            refresh_transposed(layer, i0, i1, j0, j1)

    @jit.inline
    def weight_tile(job, layers, step, tile, slot):
        """dw of one tile, and its db; into the gradient, or, fused, into the slot's scratch and on to the update."""
        where = integers(job[TILES] + tile * TILE * 8)
        layer = integers(layers + where[0] * RECORD * 8)
        i0, i1, j0, j1 = where[1], where[2], where[3], where[4]
        rows, at, columns = rows_of(job, step), i0 * layer[LDW] + j0 * size, j1 - j0
        if job[GRADIENT] != 0:
            g, ldg, gb = layer[W] + job[GRADIENT] + at, layer[LDW], layer[B] + job[GRADIENT] + j0 * size
        else:
            gb = job[SCRATCH] + slot * job[SCRATCH_BYTES]
            ldg = (TILE_COLUMNS + lanes) * size
            g = gb + ldg
        dz = layer[DZ] + j0 * size
        x, ldx = layer[INPUT], layer[LD_INPUT]
        if where[0] == 0 and job[X_GATHER] == 0:
            x, ldx = job[X] + (job[FIRST] + step * job[BATCH]) * job[X_ROW], job[X_ROW]
        product(
            i1 - i0, columns, rows, x + i0 * size, size, ldx, dz, layer[LD_OUT], g, ldg, 0, 0, none, 0, 1,
        )  # fmt: skip
        if i0 == 0 and layer[B] != 0:  # db: the same product with a row of ones
            product(1, columns, rows, job[ONE], 0, 0, dz, layer[LD_OUT], gb, 0, 0, 0, none, 0, 1)
        squares = job[SQUARES] + (step * job[N_TILES] + tile) * 8 if job[SQUARES] != 0 else 0
        if job[GRADIENT] == 0:
            step_tile(job, layer, step, at, g, ldg, gb, squares, i0, i1, j0, j1)
            return
        decay = doubles(job[L2])[step]
        if decay != 0.0:
            total, factor = 0.0, real(decay)
            for i in range(i1 - i0):
                w_row, g_row = elements(layer[W] + at + i * layer[LDW]), elements(g + i * ldg)
                for j in range(columns):
                    total += w_row[j] * w_row[j]
                    g_row[j] += factor * w_row[j]
            if squares != 0:
                doubles(squares)[0] = total

    @jit.inline
    def update_tile(job, layers, step, tile):
        """The update of one tile out of the whole gradient."""
        where = integers(job[TILES] + tile * TILE * 8)
        layer = integers(layers + where[0] * RECORD * 8)
        i0, i1, j0, j1 = where[1], where[2], where[3], where[4]
        at = i0 * layer[LDW] + j0 * size
        g, gb = layer[W] + job[GRADIENT] + at, layer[B] + job[GRADIENT] + j0 * size
        step_tile(job, layer, step, at, g, layer[LDW], gb, 0, i0, i1, j0, j1)

    @jit.inline
    def sum_rows(job, step):
        """The step's loss and number of right rows, summed in the order of rows."""
        total, right = 0.0, 0.0
        for r in range(rows_of(job, step)):
            total += doubles(job[ROW_LOSS])[r]
            if job[RIGHT] != 0:
                right += doubles(job[RIGHT])[r]
        doubles(job[SUMS])[2 * step] = total * doubles(job[SCALES])[step]
        doubles(job[SUMS])[2 * step + 1] = right

    @jit.inline
    def forward_tile(job, layers, tile, slot):
        """Rows to outputs, losses or both; activations live in the slot's own rows."""
        first, at = tile * job[CHUNK], slot * job[CHUNK]
        rows = min(job[CHUNK], job[TOTAL] - first)
        layer = integers(layers + (job[N_LAYERS] - 1) * RECORD * 8)
        forward(job, layers, at, job[FIRST] + first, rows)
        if job[ROW_LOSS] != 0:
            losses(job, layers, at, job[FIRST] + first, rows, 1.0, first)
        if job[OUT] != 0:
            output_activation(
                job[OUTPUT], rows, layer[N_OUT], layer[Y] + at * layer[LD_OUT], layer[LD_OUT],
                job[OUT] + first * job[OUT_ROW], job[OUT_ROW],
            )  # fmt: skip

    def function(address):
        job, layers = integers(address), address + LAYERS * 8
        kind, n_tiles = job[KIND], job[N_TILES]
        per_step = 4 if job[SPLIT] != 0 else 2
        phases = 1 if kind == FORWARD_ONLY else 1 + per_step * job[STEPS]
        before = memory.flush_subnormals() if kind == TRAIN else 0
        slot = memory.fetch_add(address + SLOT * 8, 1)
        while True:
            ticket = memory.fetch_add(address + WORD * 8, 1)
            phase, tile = ticket >> 32, ticket & 0xFFFFFFFF
            if phase >= phases:
                break
            step, part = (phase - 1) // per_step, (phase - 1) % per_step
            if kind == FORWARD_ONLY:
                tiles = (job[TOTAL] + job[CHUNK] - 1) // job[CHUNK]
            elif phase == 0:
                tiles = n_tiles
            elif part == 0:
                tiles = (rows_of(job, step) + job[CHUNK] - 1) // job[CHUNK]
            elif part == 1:
                tiles = n_tiles + 1
            else:
                tiles = 1 if part == 2 else n_tiles
            if tile >= tiles:  # all taken: wait for the phase to end
                spins = 0
                while memory.load(address + WORD * 8) >> 32 == phase:
                    spins = memory.wait(spins)
                continue
            if kind == FORWARD_ONLY:
                forward_tile(job, layers, tile, slot)
            elif phase == 0:
                where = integers(job[TILES] + tile * TILE * 8)
                layer = integers(layers + where[0] * RECORD * 8)
                if layer[WT] != 0:
                    refresh_transposed(layer, where[1], where[2], where[3], where[4])
            elif part == 0:
                at = tile * job[CHUNK]
                first, rows = job[FIRST] + step * job[BATCH] + at, min(job[CHUNK], rows_of(job, step) - at)
                forward(job, layers, at, first, rows)
                losses(job, layers, at, first, rows, doubles(job[SCALES])[step], at)
                backward(job, layers, at, rows)
            elif part == 1:
                if tile == n_tiles:
                    sum_rows(job, step)
                else:
                    weight_tile(job, layers, step, tile, slot)
            elif part == 2:
                memory.restore(before)
                hook(job[HOOK], job[HOOK_ARGUMENT])
                memory.flush_subnormals()
            else:
                update_tile(job, layers, step, tile)
            if memory.fetch_add(address + DONE * 8, 1) == tiles - 1:
                memory.store(address + DONE * 8, 0)
                memory.store(address + WORD * 8, (phase + 1) << 32)
        if kind == TRAIN:
            memory.restore(before)

    return function
