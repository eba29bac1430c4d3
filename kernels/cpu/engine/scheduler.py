"""A whole network in compiled code: forward, gradients and training steps, by any number of threads.

A call is described by a job (see job.py), so that one specialisation per dtype serves every architecture. The job is a
list of phases, some once and the others in every step, and a phase is a number of tiles that may be done in any order
and by anyone. `plan` says which: rows that go through all layers and back, or layer by layer in tiles of rows and
columns; then the weights, tile by tile.

Threads claim tiles from one atomic word (phase << 32 | next tile); who finishes a phase's last tile opens the next
phase. Nobody is waited for but a thread that holds a tile, so a thread that comes late, or never, costs nothing.
(A part of the tiles for each thread, so that weights stay in its cache, brought nothing: 784-256-128-10, 2 threads.)
No result depends on who does what: a row's results do not depend on its chunk, each element of dw is one sum
over the batch in order, or over groups of rows that depend on the sizes alone, added in order, and losses are summed
in the order of rows.

A job that is told to STOP is given up: threads look at that word whenever they have claimed a tile, and between any two
parts of a product that takes longer than a MOMENT. What a tile was to compute is then missing, and so no tile of
weights is updated any more. Those of the same step that came before have been: each by its whole gradient.

Subnormal numbers count as zero in training. Where a gradient vanishes or a unit is dead, Adam's running means decay
into them within some 800 steps, and an operation on one takes 150 cycles: 4.0 ms an epoch in place of 1.8, after 200
epochs of 64-64-64-10 that had learned its data (Intel Xeon with AVX-512).
"""

from typing import Any

from numba import types

from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine import job as field
from kernels.cpu.engine.operations.clip import Hook
from kernels.cpu.engine.operations.dropout import Dropout
from kernels.cpu.engine.operations.gather import Gather
from kernels.cpu.engine.operations.update import Update
from kernels.cpu.ir import floats, memory
from kernels.cpu.ir.floats import FLUSH_SUBNORMALS
from kernels.cpu.ir.masked_rows import outer_product
from kernels.cpu.ir.simd import chosen, itemsize
from kernels.cpu.ir.transpose import transpose as turn_kernel
from kernels.cpu.measure import stamps
from kernels.cpu.product.gemm import Product, gemm
from kernels.cpu.rowwise.elementwise import Activation, ActivationBackward
from kernels.cpu.rowwise.loss import OutputActivation, RowLoss
from kernels.cpu.threads.workers import Work

LOW = (1 << 32) - 1  # of the ticket: phase << 32 | next tile
# The most bytes of a product's multiply-adds, four each of float32, between two looks at STOP, and of how many columns
# its parts are made: 2^31 multiply-adds take a core 0.04 s (AVX-512) or 0.08 s (AVX2)
MOMENT, PART = 1 << 33, 64


@jit.kernel(like=Work)
def network(real: Any) -> Any:
    """Run a job, with whoever else runs it; returns when no tile is left to claim."""
    return _network(real, stamps.ignore)


@jit.kernel(like=Work)
def timed_network(real: Any) -> Any:
    """The same, and the time that each phase of each layer takes goes into the threads' records at TIMES."""
    return _network(real, stamps.stamp)


def _network(real: Any, stamp: Any) -> Any:
    size = itemsize(real)
    lanes = chosen().lanes(size)
    product, turn, output_activation = gemm(real), turn_kernel(real), calls.by_address(OutputActivation, real)
    layer_product = calls.by_address(Product, real)
    gather = calls.by_address(Gather, real)
    activate = calls.by_address(Activation, real)
    activate_backward = calls.by_address(ActivationBackward, real)
    row_loss, step_update = (
        calls.by_address(RowLoss, real),
        calls.by_address(Update, real),
    )
    hook, drop = calls.by_address(Hook, real), calls.by_address(Dropout, real)
    integers, doubles, elements = memory.pointer(types.int64), memory.pointer(types.float64), memory.pointer(real)
    octets, shorts, row_numbers = (memory.pointer(kind) for kind in (types.uint8, types.uint16, types.uint32))
    none, zero = real(float("-inf")), real(0.0)

    @jit.inline
    def rows_of(job, step):
        return integers(job[field.BATCHES])[2 * step + 1]

    @jit.inline
    def start_of(job, step):
        """Where the step's rows begin, in the order or in the data."""
        return job[field.FIRST] + integers(job[field.BATCHES])[2 * step]

    @jit.inline
    def groups_of(job, step):
        return (rows_of(job, step) + job[field.GROUP_ROWS] - 1) // job[field.GROUP_ROWS]

    @jit.inline
    def whole(columns):
        """So many columns and what fills their last vector, which a loop would do one by one: rows are padded."""
        return (columns + lanes - 1) // lanes * lanes

    @jit.inline
    def layer_of(layers, n):
        return integers(layers + n * field.RECORD * 8)

    @jit.inline
    def input_of(job, layer, n, at, position):
        """(address, stride) of layer n's input: from row `at` of its buffer on, or the data's from `position` on."""
        if n == 0 and job[field.X_GATHER] == 0:
            return job[field.X] + position * job[field.X_ROW], job[field.X_ROW]
        return layer[field.INPUT] + at * layer[field.LD_INPUT], layer[field.LD_INPUT]

    @jit.inline
    def gather_rows(job, layers, at, position, rows, times):
        layer = layer_of(layers, 0)
        if job[field.X_GATHER] != 0:
            gather(
                job[field.X_GATHER], rows, layer[field.N_IN], job[field.X], job[field.DATA_ROWS], job[field.X_ROW],
                job[field.X_COLUMN], job[field.ORDER], position, layer[field.INPUT] + at * layer[field.LD_INPUT],
                layer[field.LD_INPUT],
            )  # fmt: skip
            stamp(times, 0, stamps.GATHER)

    @jit.inline
    def stopped(layers):
        return memory.load(layers + (field.STOP - field.LAYERS) * 8) != 0

    @jit.inline
    def part_of(rows, columns, depth):
        """How many columns of a product are made at once: all, unless that takes too long."""
        if rows * columns * depth * size <= MOMENT:
            return columns
        return max(1, MOMENT // (rows * depth * size) // PART) * PART

    @jit.inline
    def forward(job, layers, n, at, step, row, rows, j0, columns, times):
        """Columns j0 and on of layer n's output for so many rows of a step's batch, from `row` on."""
        layer = layer_of(layers, n)
        x, ldx = input_of(job, layer, n, at, start_of(job, step) + row)
        ld = layer[field.LD_OUT]
        y = layer[field.Y] + at * ld + j0 * size
        b = layer[field.B] + j0 * size if layer[field.B] != 0 else 0
        z, ldz = y, ld
        if layer[field.PRE] != 0:
            z, ldz = layer[field.PRE] + at * layer[field.LD_PRE] + j0 * size, layer[field.LD_PRE]
        part = part_of(rows, columns, layer[field.N_IN])
        for j in range(0, columns, part):
            if j > 0 and stopped(layers):
                return
            layer_product(
                layer[field.PRODUCT], rows, min(part, columns - j), layer[field.N_IN], x, ldx, size,
                layer[field.W] + (j0 + j) * size, layer[field.LDW], z + j * size, ldz, b + j * size if b != 0 else 0, 0,
                zero if layer[field.FUSED] != 0 else none, 0, 1,
            )  # fmt: skip
        stamp(times, n, stamps.FORWARD)
        if layer[field.ACTIVATE] != 0:
            activate(layer[field.ACTIVATE], rows, whole(columns), z, ldz, y, ld)
            stamp(times, n, stamps.ACTIVATION)
        if layer[field.DROP] != 0:
            target = layer[field.DROPPED] + at * ld + j0 * size
            drop(layer[field.DROP], layers, n, step, row, rows, j0, whole(columns), y, target, ld, 1)
            stamp(times, n, stamps.ACTIVATION)

    @jit.inline
    def label_at(address, bytes_, signed):
        """A label, an integer of so many bytes."""
        if bytes_ == 8:
            return integers(address)[0]
        if bytes_ == 1:
            label = types.int64(octets(address)[0])
        elif bytes_ == 2:
            label = types.int64(shorts(address)[0])
        else:
            label = types.int64(row_numbers(address)[0])
        return label - (signed * (label >> (8 * bytes_ - 1)) << 8 * bytes_)

    @jit.inline
    def losses(job, layers, at, position, rows, scale, row, times):
        """The loss of rows that have been forwarded, and dz of the last layer; per-row results from `row` on."""
        layer = layer_of(layers, job[field.N_LAYERS] - 1)
        ldt, weight = job[field.LD_TARGET], 0
        target = job[field.ROW_TARGET] + at * ldt
        if job[field.LABELS] != 0:
            ldt = 8
            target = job[field.ROW_LABEL] + at * ldt
            for r in range(rows):
                number = row_numbers(job[field.ORDER])[position + r] if job[field.ORDER] != 0 else position + r
                label = -1
                if number < job[field.DATA_ROWS]:
                    address = job[field.T] + number * job[field.T_ROW]
                    label = label_at(address, job[field.LABEL_BYTES], job[field.LABEL_SIGNED])
                if label < 0 or label >= layer[field.N_OUT]:
                    job[field.WRONG_ROW] = number
                integers(target)[r] = label
        else:
            gather(
                job[field.T_GATHER], rows, job[field.T_COLUMNS], job[field.T], job[field.DATA_ROWS], job[field.T_ROW],
                job[field.T_COLUMN], job[field.ORDER], position, target, ldt,
            )  # fmt: skip
        if job[field.WEIGHT] != 0:
            weight = job[field.ROW_WEIGHT] + at * size
            gather(
                job[field.WEIGHT_GATHER], rows, 1, job[field.WEIGHT], job[field.DATA_ROWS], 8, 8, job[field.ORDER],
                position, weight, size,
            )  # fmt: skip
        ld = layer[field.LD_OUT]
        row_loss(
            job[field.LOSS], job[field.OUTPUT], rows, layer[field.N_OUT], layer[field.Y] + at * ld, ld,
            job[field.LABELS], target, ldt, weight, scale, layer[field.DZ] + at * ld, ld, job[field.METRIC],
            job[field.ROW_LOSS] + row * 8, job[field.RIGHT] + row * 8 if job[field.RIGHT] != 0 else 0,
            doubles(job[field.LOSS_PARAMETER])[0],
        )  # fmt: skip
        stamp(times, job[field.N_LAYERS] - 1, stamps.LOSS)

    @jit.inline
    def backward(job, layers, n, at, step, row, rows, i0, columns, times):
        """Columns i0 and on of dz of the layer below n, or of dX, for so many rows."""
        layer, below = layer_of(layers, n), layer_of(layers, max(n - 1, 0))
        ld = layer[field.LD_OUT]
        dz = layer[field.DZ] + at * ld
        if n > 0:
            dx, ldx = below[field.DZ] + at * below[field.LD_OUT] + i0 * size, below[field.LD_OUT]
        else:
            ldx = job[field.DX_ROW]
            dx = job[field.DX] + row * ldx + i0 * size
        part = part_of(rows, columns, layer[field.N_OUT])
        for i in range(0, columns, part):
            if i > 0 and stopped(layers):
                return
            w, ldw, transposed = layer[field.WT] + (i0 + i) * size, layer[field.LDWT], 0
            if layer[field.WT] == 0:
                w, ldw, transposed = layer[field.W] + (i0 + i) * layer[field.LDW], layer[field.LDW], 1
            layer_product(
                layer[field.PRODUCT], rows, min(part, columns - i), layer[field.N_OUT], dz, ld, size, w, ldw,
                dx + i * size, ldx, 0, 0, none, transposed, 1 - transposed,
            )  # fmt: skip
        stamp(times, n, stamps.DX)
        if n > 0 and below[field.ACTIVATE_BACKWARD] != 0:
            saved, lds = below[field.Y] + at * below[field.LD_OUT] + i0 * size, below[field.LD_OUT]
            if below[field.PRE] != 0:
                saved, lds = below[field.PRE] + at * below[field.LD_PRE] + i0 * size, below[field.LD_PRE]
            activate_backward(below[field.ACTIVATE_BACKWARD], rows, whole(columns), dx, ldx, saved, lds, dx, ldx)
            stamp(times, n - 1, stamps.DERIVATIVE)
        if n > 0 and below[field.DROP] != 0:
            drawn = 0 if below[field.DROPPED] == below[field.Y] else 1
            drop(below[field.DROP], layers, n - 1, step, row, rows, i0, whole(columns), dx, dx, ldx, drawn)
            stamp(times, n - 1, stamps.DERIVATIVE)

    @jit.inline
    def dw(layers, layer, inputs, outputs, rows, x, ldx, dz, ld, g, ldg, starts):
        """g = x.T @ dz, or its transpose, or g + that."""
        turned = layer[field.TURNED] != 0
        if turned:
            inputs, outputs, x, ldx, dz, ld = outputs, inputs, dz, ld, x, ldx
        part = part_of(inputs, outputs, rows)
        for j in range(0, outputs, part):
            if j > 0 and stopped(layers):
                return
            at = g + j * size
            layer_product(
                layer[field.PRODUCT], inputs, min(part, outputs - j), rows, x, size, ldx, dz + j * size, ld, at, ldg,
                0 if starts else at, ldg, none, 0, 0 if turned else 1,
            )  # fmt: skip

    @jit.inline
    def add_gradient(job, layers, group, at, position, rows, starts, times):
        """Add x.T @ dz of so many rows to a group's share of the gradient, which starts with them or goes on."""
        twin = job[field.PARTIALS] + group * job[field.PARTIAL_BYTES]
        for n in range(job[field.N_LAYERS]):
            if stopped(layers):
                return
            layer = layer_of(layers, n)
            x, ldx = input_of(job, layer, n, at, position)
            ld, ldw, columns = layer[field.LD_OUT], layer[field.LDW], layer[field.N_OUT]
            dz, g, gb = layer[field.DZ] + at * ld, layer[field.W] + twin, layer[field.B] + twin
            across = layer[field.LD_TURNED] if layer[field.TURNED] != 0 else ldw
            dw(layers, layer, layer[field.N_IN], columns, rows, x, ldx, dz, ld, g, across, starts)
            if layer[field.B] != 0:
                product(1, columns, rows, job[field.ONE], 0, 0, dz, ld, gb, 0, 0 if starts else gb, 0, none, 0, 1)
            stamp(times, n, stamps.DW)

    @jit.inline
    def through(job, layers, step, row, rows, at, times):
        """So many rows from FIRST_LAYER to the loss and back, in the buffers' rows from `at` on."""
        position, first = start_of(job, step) + row, job[field.FIRST_LAYER]
        if first == 0:
            gather_rows(job, layers, at, position, rows, times)
        for n in range(first, job[field.N_LAYERS]):
            if stopped(layers):
                return
            forward(job, layers, n, at, step, row, rows, 0, layer_of(layers, n)[field.N_OUT], times)
        losses(job, layers, at, position, rows, doubles(job[field.SCALES])[step], at, times)
        least = 0 if first == 0 and job[field.DX] != 0 else max(first, 1)
        for n in range(job[field.N_LAYERS] - 1, least - 1, -1):
            if stopped(layers):
                return
            backward(job, layers, n, at, step, row, rows, 0, layer_of(layers, n)[field.N_IN], times)

    @jit.inline
    def refresh_transposed(layer, i0, i1, j0, j1):
        """wt[j0:j1, i0:i1] = w[i0:i1, j0:j1].T"""
        ldw, ldwt = layer[field.LDW], layer[field.LDWT]
        turn(
            i1 - i0, j1 - j0, layer[field.W] + i0 * ldw + j0 * size, ldw, layer[field.WT] + j0 * ldwt + i0 * size, ldwt
        )  # fmt: skip

    @jit.inline
    def update_rows(job, layer, step, at, rows, columns, g, ldg, decay):
        """Update so many rows of w, and of b, which is the row after its last, by g; returns w's sum of squares."""
        w = layer[field.W] + at
        first = w + job[field.FIRST_STATE] if job[field.FIRST_STATE] != 0 else 0
        second = w + job[field.SECOND_STATE] if job[field.SECOND_STATE] != 0 else 0
        scalars = job[field.SCALARS] + step * 64
        return step_update(job[field.UPDATE], rows, columns, w, layer[field.LDW], g, ldg, first, second, scalars, decay)

    @jit.inline
    def step_tile(job, layer, n, step, at, g, ldg, squares, i0, i1, j0, j1, times):
        """Update w[i0:i1, j0:j1] by g, and with the last rows the bias by the row after them; then its part of w.T."""
        rows, bias = i1 - i0, has_bias(layer, i1)
        if squares == 0:
            update_rows(job, layer, step, at, rows + bias, j1 - j0, g, ldg, 0.0)
        else:
            decay = doubles(job[field.L2])[step]
            doubles(squares)[0] = update_rows(job, layer, step, at, rows, j1 - j0, g, ldg, decay)
            if bias:
                update_rows(job, layer, step, at + rows * layer[field.LDW], 1, j1 - j0, g + rows * ldg, ldg, 0.0)
        stamp(times, n, stamps.UPDATE)
        if layer[field.WT] != 0:
            refresh_transposed(layer, i0, i1, j0, j1)
            stamp(times, n, stamps.TRANSPOSE)

    @jit.inline
    def outer_by_product(inputs, outputs, x, dz, g, ldg):
        product(inputs, outputs, 1, x, size, 0, dz, 0, g, ldg, 0, 0, none, 0, 1)

    of_one_row = outer_product(real) or outer_by_product

    @jit.inline
    def has_bias(layer, i1):
        """1 where rows of w up to i1 are followed by its bias, in the parameters and in all that is like them."""
        return types.int64(i1 == layer[field.N_IN] and layer[field.B] != 0)

    @jit.inline
    def sum_partials(job, groups, at, ld, rows, columns, g, ldg):
        """g (rows, columns) = the groups' shares of the gradient, added in order; of the parameters at `at`."""
        for i in range(rows):
            total, share = elements(g + i * ldg), elements(at + job[field.PARTIALS] + i * ld)
            for j in range(columns):
                total[j] = share[j]
            for n in range(1, groups):
                share = elements(at + job[field.PARTIALS] + n * job[field.PARTIAL_BYTES] + i * ld)
                for j in range(columns):
                    total[j] += share[j]

    @jit.inline
    def weight_tile(job, layers, step, tile, slot, times):
        """dw of one tile, and its db; into the gradient, or, fused, into the slot's scratch and on to the update."""
        where = integers(job[field.TILES] + tile * field.TILE * 8)
        layer = layer_of(layers, where[0])
        i0, i1, j0, j1 = where[1], where[2], where[3], where[4]
        rows, at, columns = rows_of(job, step), i0 * layer[field.LDW] + j0 * size, j1 - j0
        bias, height, turned = has_bias(layer, i1), i1 - i0, layer[field.TURNED] != 0
        gt, ldgt = job[field.SCRATCH] + slot * job[field.SCRATCH_BYTES], whole(height) * size
        if job[field.GRADIENT] != 0:
            g, ldg = layer[field.W] + job[field.GRADIENT] + at, layer[field.LDW]
        else:
            g, ldg = gt + (columns * ldgt if turned else 0), (columns // lanes + 2) * lanes * size
        gb = g + height * ldg
        if job[field.PARTIALS] != 0:
            groups, ldw, ldt = groups_of(job, step), layer[field.LDW], layer[field.LD_TURNED]
            if turned:
                sum_partials(job, groups, layer[field.W] + j0 * ldt + i0 * size, ldt, columns, whole(height), gt, ldgt)
                sum_partials(job, groups, layer[field.W] + at + height * ldw, 0, bias, whole(columns), gb, 0)
            else:
                sum_partials(job, groups, layer[field.W] + at, ldw, height + bias, whole(columns), g, ldg)
            stamp(times, where[0], stamps.SUM)
        else:
            x, ldx = input_of(job, layer, where[0], 0, start_of(job, step))
            dz, ld = layer[field.DZ] + j0 * size, layer[field.LD_OUT]
            into, across = (gt, ldgt) if turned else (g, ldg)
            if rows == 1 and not turned:
                of_one_row(height, columns, x + i0 * size, dz, g, ldg)
            else:
                dw(layers, layer, height, columns, rows, x + i0 * size, ldx, dz, ld, into, across, True)
            if bias and rows == 1:
                for j in range(whole(columns)):
                    elements(gb)[j] = elements(dz)[j]
            elif bias:  # the same product with a row of ones
                product(1, columns, rows, job[field.ONE], 0, 0, dz, ld, gb, 0, 0, 0, none, 0, 1)
            stamp(times, where[0], stamps.DW)
        if turned:
            turn(columns, height, gt, ldgt, g, ldg)
            stamp(times, where[0], stamps.DW)
        if stopped(layers):  # maybe before dw was whole
            return
        squares = 0
        if job[field.SQUARES] != 0:
            squares = job[field.SQUARES] + (step * job[field.N_TILES] + tile) * 8
        if job[field.GRADIENT] == 0:
            step_tile(job, layer, where[0], step, at, g, ldg, squares, i0, i1, j0, j1, times)
        elif squares != 0:
            total, factor = 0.0, real(doubles(job[field.L2])[step])
            for i in range(i1 - i0):
                w_row, g_row = elements(layer[field.W] + at + i * layer[field.LDW]), elements(g + i * ldg)
                for j in range(columns):
                    total += w_row[j] * w_row[j]
                    g_row[j] += factor * w_row[j]
            doubles(squares)[0] = total

    @jit.inline
    def update_tile(job, layers, step, tile, times):
        """The update of one tile out of the whole gradient."""
        where = integers(job[field.TILES] + tile * field.TILE * 8)
        layer = layer_of(layers, where[0])
        i0, i1, j0, j1 = where[1], where[2], where[3], where[4]
        at = i0 * layer[field.LDW] + j0 * size
        g = layer[field.W] + job[field.GRADIENT] + at
        step_tile(job, layer, where[0], step, at, g, layer[field.LDW], 0, i0, i1, j0, j1, times)

    @jit.inline
    def sum_rows(job, first, rows):
        """(loss, number of right rows) of so many rows, summed in order."""
        total, right = 0.0, 0.0
        for r in range(first, first + rows):
            total += doubles(job[field.ROW_LOSS])[r]
            if job[field.RIGHT] != 0:
                right += doubles(job[field.RIGHT])[r]
        return total, right

    @jit.inline
    def sum_step(job, step):
        """The step's loss and number of right rows."""
        total, right = 0.0, 0.0
        if job[field.PARTIALS] == 0:
            total, right = sum_rows(job, 0, rows_of(job, step))
        else:
            for n in range(groups_of(job, step)):
                total += doubles(job[field.GROUP_SUMS])[2 * n]
                right += doubles(job[field.GROUP_SUMS])[2 * n + 1]
        doubles(job[field.SUMS])[2 * step] = total * doubles(job[field.SCALES])[step]
        doubles(job[field.SUMS])[2 * step + 1] = right

    @jit.inline
    def predict_rows(job, layers, row, rows, at, times):
        """Rows from FIRST_LAYER to outputs, losses or both; activations live in the buffers' rows from `at` on."""
        position, layer = start_of(job, 0) + row, layer_of(layers, job[field.N_LAYERS] - 1)
        first = job[field.FIRST_LAYER]
        if first == 0:
            gather_rows(job, layers, at, position, rows, times)
        for n in range(first, job[field.N_LAYERS]):
            if stopped(layers):
                return
            forward(job, layers, n, at, 0, row, rows, 0, layer_of(layers, n)[field.N_OUT], times)
        if job[field.ROW_LOSS] != 0:
            losses(job, layers, at, position, rows, 1.0, row, times)
        if job[field.OUT] != 0:
            output_activation(
                job[field.ACTIVATE_OUTPUT], job[field.OUTPUT], rows, layer[field.N_OUT],
                layer[field.Y] + at * layer[field.LD_OUT], layer[field.LD_OUT],
                job[field.OUT] + row * job[field.OUT_ROW], job[field.OUT_ROW],
            )  # fmt: skip

    @jit.inline
    def do(job, layers, phase, step, tile, slot, times):
        """One tile of a phase."""
        operation, n, across, row, first = phase[field.OPERATION], phase[field.LAYER], phase[field.ACROSS], 0, 0
        if across == 1:
            row = tile * phase[field.ROWS]
        elif phase[field.ROWS] != 0:
            row, first = tile // across * phase[field.ROWS], tile % across * phase[field.COLUMNS]
        rows, chunk = min(phase[field.ROWS], rows_of(job, step) - row), job[field.CHUNK]
        position = start_of(job, step) + row
        stamp(times, 0, stamps.CLAIMED)
        if operation == field.THROUGH:
            grouped, total, right = job[field.PARTIALS] != 0, 0.0, 0.0
            for done in range(0, rows, chunk):  # one chunk, unless it is a group
                if stopped(layers):
                    return
                part, at = min(chunk, rows - done), slot * chunk if grouped else row
                through(job, layers, step, row + done, part, at, times)
                if grouped:
                    add_gradient(job, layers, tile, at, position + done, part, done == 0, times)
                    more, hits = sum_rows(job, at, part)
                    total, right = total + more, right + hits
                    stamp(times, job[field.N_LAYERS] - 1, stamps.LOSS)
            if grouped:
                doubles(job[field.GROUP_SUMS])[2 * tile] = total
                doubles(job[field.GROUP_SUMS])[2 * tile + 1] = right
        elif operation == field.WEIGHTS:
            if tile == job[field.N_TILES]:
                sum_step(job, step)
                stamp(times, job[field.N_LAYERS] - 1, stamps.LOSS)
            else:
                weight_tile(job, layers, step, tile, slot, times)
        elif operation == field.FORWARD:
            columns = min(phase[field.COLUMNS], layer_of(layers, n)[field.N_OUT] - first)
            forward(job, layers, n, row, step, row, rows, first, columns, times)
        elif operation == field.BACKWARD:
            columns = min(phase[field.COLUMNS], layer_of(layers, n)[field.N_IN] - first)
            backward(job, layers, n, row, step, row, rows, first, columns, times)
        elif operation == field.GATHER:
            gather_rows(job, layers, row, position, rows, times)
        elif operation == field.TRANSPOSE:
            where = integers(job[field.TILES] + tile * field.TILE * 8)
            layer = layer_of(layers, where[0])
            if layer[field.WT] != 0:
                refresh_transposed(layer, where[1], where[2], where[3], where[4])
                stamp(times, where[0], stamps.TRANSPOSE)
        elif operation == field.CALL_HOOK:
            mode = floats.mode()
            floats.set_mode(mode & ~FLUSH_SUBNORMALS)
            hook(job[field.HOOK], job[field.HOOK_ARGUMENT])
            floats.set_mode(mode)
            stamp(times, 0, stamps.CLIP)
        elif operation == field.UPDATE_WEIGHTS:
            update_tile(job, layers, step, tile, times)
        else:
            predict_rows(job, layers, row, rows, row if job[field.FIRST_LAYER] != 0 else slot * chunk, times)

    @jit.inline
    def tiles_of(job, record, step):
        rows = rows_of(job, step)
        if rows <= record[field.ROWS] or record[field.ROWS] == 0:
            return record[field.ACROSS]
        return (rows + record[field.ROWS] - 1) // record[field.ROWS] * record[field.ACROSS]

    def function(address):
        job, layers = integers(address), address + field.LAYERS * 8
        last, alone = job[field.ONCE] + job[field.EACH_STEP], job[field.ALONE] != 0
        mode = floats.mode()
        if job[field.FLUSH] != 0:
            floats.set_mode(mode | FLUSH_SUBNORMALS)
        slot = memory.fetch_add(address + field.SLOT * 8, 1)
        times = job[field.TIMES] + slot * (stamps.HEAD + stamps.WORDS * job[field.N_LAYERS]) * 8
        phase, step, n, record, tiles, tile = -1, job[field.BEGIN], -1, job, 0, -1
        waited = 0
        while True:
            if alone:
                tile += 1
                now = phase if tile < tiles else phase + 1
                tile = tile if tile < tiles else 0
            else:
                ticket = memory.fetch_add(address + field.TICKET * 8, 1)
                now, tile = ticket >> 32, ticket & LOW
            if stopped(layers):  # after the claim: all that this tile reads was whole just now
                break
            if now != phase:
                n += now - phase  # in the list of phases, which begins anew with every step
                phase = now
                while n >= last and step < job[field.STEPS]:
                    n -= job[field.EACH_STEP]
                    step += 1
                if step == job[field.STEPS]:
                    break
                record = integers(job[field.PHASES] + n * field.PHASE_RECORD * 8)
                tiles = tiles_of(job, record, step)
            if tile >= tiles:  # all taken: wait for the phase to end
                spins, since = 0, stamps.ticks()
                while not alone and memory.load(address + field.TICKET * 8) >> 32 == phase and not stopped(layers):
                    spins = memory.wait(spins)
                if spins > memory.PAUSES:
                    waited += stamps.ticks() - since
                continue
            do(job, layers, record, step, tile, slot, times)
            if not alone and memory.fetch_add(address + field.DONE * 8, 1) == tiles - 1:
                memory.store(address + field.DONE * 8, 0)
                memory.store(address + field.TICKET * 8, (phase + 1) << 32)
        floats.set_mode(mode)
        if waited > 0:
            memory.fetch_add(job[field.WAITED], waited)

    return function
