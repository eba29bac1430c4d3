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

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.records import record_address
from kernels.cpu.engine.job import (
    BACKWARD,
    CALL_HOOK,
    DONE,
    FORWARD,
    GATHER,
    PHASE_BYTES,
    ROWS_THROUGH_LAYERS,
    SLOTS,
    TICKET,
    TRANSPOSE,
    UPDATE_WEIGHTS,
    WEIGHTS,
    groups_of,
    input_of,
    job_at,
    layer_of,
    phase_at,
    rows_of,
    start_of,
    stopped,
    tile_of,
)
from kernels.cpu.engine.operations.dropout import SIGNATURE as DROPOUT_SIGNATURE
from kernels.cpu.engine.operations.gather import SIGNATURE as GATHER_SIGNATURE
from kernels.cpu.engine.operations.update import SIGNATURE as UPDATE_SIGNATURE
from kernels.cpu.ir import floats, memory
from kernels.cpu.ir.floats import FLUSH_SUBNORMALS
from kernels.cpu.ir.masked_rows import outer_product
from kernels.cpu.ir.simd import chosen, itemsize
from kernels.cpu.ir.transpose import turn as turn_kernel
from kernels.cpu.measure import stamps
from kernels.cpu.product.gemm import SIGNATURE as GEMM_SIGNATURE
from kernels.cpu.product.gemm import gemm
from kernels.cpu.rowwise.elementwise import BACKWARD as BACKWARD_SIGNATURE
from kernels.cpu.rowwise.elementwise import FORWARD as FORWARD_SIGNATURE
from kernels.cpu.rowwise.loss import OUTPUT_SIGNATURE
from kernels.cpu.rowwise.loss import SIGNATURE as LOSS_SIGNATURE

LOW = (1 << 32) - 1  # of the ticket: phase << 32 | next tile
# The most bytes of a product's multiply-adds, four each of float32, between two looks at STOP, and of how many columns
# its parts are made: 2^31 multiply-adds take a core 0.04 s (AVX-512) or 0.08 s (AVX2)
MOMENT, PART = 1 << 33, 64


@jit.kernel("v i")
def network(real: Any) -> Any:
    """Run a job, with whoever else runs it; returns when no tile is left to claim."""
    return _network(real, stamps.ignore)


@jit.kernel("v i")
def timed_network(real: Any) -> Any:
    """The same, and the time that each phase of each layer takes goes into the threads' records at TIMES."""
    return _network(real, stamps.stamp)


def _network(real: Any, stamp: Any) -> Any:
    size = itemsize(real)
    lanes = chosen().lanes(size)
    product, turn, output_activation = gemm(real), turn_kernel(real), jit.caller_of_address(OUTPUT_SIGNATURE, real)
    layer_product = jit.caller_of_address(GEMM_SIGNATURE, real)
    gather = jit.caller_of_address(GATHER_SIGNATURE, real)
    activate = jit.caller_of_address(FORWARD_SIGNATURE, real)
    activate_backward = jit.caller_of_address(BACKWARD_SIGNATURE, real)
    row_loss, step_update = jit.caller_of_address(LOSS_SIGNATURE, real), jit.caller_of_address(UPDATE_SIGNATURE, real)
    hook, drop = jit.caller_of_address("v i", real), jit.caller_of_address(DROPOUT_SIGNATURE, real)
    integers, doubles, elements = memory.pointer(types.int64), memory.pointer(types.float64), memory.pointer(real)
    octets, shorts, row_numbers = (memory.pointer(kind) for kind in (types.uint8, types.uint16, types.uint32))
    none, zero = real(float("-inf")), real(0.0)

    @jit.inline
    def whole(columns):
        """So many columns and what fills their last vector, which a loop would do one by one: rows are padded."""
        return (columns + lanes - 1) // lanes * lanes

    @jit.inline
    def gather_rows(job, at, position, rows, times):
        layer = layer_of(job, 0)
        if job.x_gather != 0:
            gather(
                job.x_gather, rows, layer.n_in, job.x, job.data_rows, job.x_row,
                job.x_column, job.order, position, layer.input + at * layer.ld_input,
                layer.ld_input,
            )  # fmt: skip
            stamp(times, 0, stamps.GATHER)

    @jit.inline
    def part_of(rows, columns, depth):
        """How many columns of a product are made at once: all, unless that takes too long."""
        if rows * columns * depth * size <= MOMENT:
            return columns
        return max(1, MOMENT // (rows * depth * size) // PART) * PART

    @jit.inline
    def forward(job, n, at, step, row, rows, j0, columns, times):
        """Columns j0 and on of layer n's output for so many rows of a step's batch, from `row` on."""
        layer = layer_of(job, n)
        x, ldx = input_of(job, layer, n, at, start_of(job, step) + row)
        ld = layer.ld_out
        y = layer.y + at * ld + j0 * size
        b = layer.b + j0 * size if layer.b != 0 else 0
        z, ldz = y, ld
        if layer.pre != 0:
            z, ldz = layer.pre + at * layer.ld_pre + j0 * size, layer.ld_pre
        part = part_of(rows, columns, layer.n_in)
        for j in range(0, columns, part):
            if j > 0 and stopped(job):
                return
            layer_product(
                layer.product, rows, min(part, columns - j), layer.n_in, x, ldx, size,
                layer.w + (j0 + j) * size, layer.ldw, z + j * size, ldz, b + j * size if b != 0 else 0, 0,
                zero if layer.relu_fused != 0 else none, 0, 1,
            )  # fmt: skip
        stamp(times, n, stamps.FORWARD)
        if layer.activate != 0:
            activate(layer.activate, rows, whole(columns), z, ldz, y, ld)
            stamp(times, n, stamps.ACTIVATION)
        if layer.drop != 0:
            target = layer.dropped + at * ld + j0 * size
            drop(layer.drop, record_address(job), n, step, row, rows, j0, whole(columns), y, target, ld, 1)
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
    def losses(job, at, position, rows, scale, row, times):
        """The loss of rows that have been forwarded, and dz of the last layer; per-row results from `row` on."""
        layer = layer_of(job, job.n_layers - 1)
        ldt, weight = job.ld_batch_target, 0
        target = job.batch_target + at * ldt
        if job.labels != 0:
            ldt = 8
            target = job.batch_label + at * ldt
            for r in range(rows):
                number = row_numbers(job.order)[position + r] if job.order != 0 else position + r
                label = -1
                if number < job.data_rows:
                    address = job.target + number * job.target_row
                    label = label_at(address, job.label_bytes, job.label_signed)
                if label < 0 or label >= layer.n_out:
                    job.wrong_row = number
                integers(target)[r] = label
        else:
            gather(
                job.target_gather, rows, job.target_columns, job.target, job.data_rows, job.target_row,
                job.target_column, job.order, position, target, ldt,
            )  # fmt: skip
        if job.weight != 0:
            weight = job.batch_weight + at * size
            gather(
                job.weight_gather, rows, 1, job.weight, job.data_rows, 8, 8, job.order,
                position, weight, size,
            )  # fmt: skip
        ld = layer.ld_out
        row_loss(
            job.loss, job.output, rows, layer.n_out, layer.y + at * ld, ld,
            job.labels, target, ldt, weight, scale, layer.dz + at * ld, ld, job.metric,
            job.row_losses + row * 8, job.right_rows + row * 8 if job.right_rows != 0 else 0,
            doubles(job.loss_parameter)[0],
        )  # fmt: skip
        stamp(times, job.n_layers - 1, stamps.LOSS)

    @jit.inline
    def backward(job, n, at, step, row, rows, i0, columns, times):
        """Columns i0 and on of dz of the layer below n, or of dX, for so many rows."""
        layer, below = layer_of(job, n), layer_of(job, max(n - 1, 0))
        ld = layer.ld_out
        dz = layer.dz + at * ld
        if n > 0:
            dx, ldx = below.dz + at * below.ld_out + i0 * size, below.ld_out
        else:
            ldx = job.dx_row
            dx = job.dx + row * ldx + i0 * size
        part = part_of(rows, columns, layer.n_out)
        for i in range(0, columns, part):
            if i > 0 and stopped(job):
                return
            w, ldw, transposed = layer.wt + (i0 + i) * size, layer.ldwt, 0
            if layer.wt == 0:
                w, ldw, transposed = layer.w + (i0 + i) * layer.ldw, layer.ldw, 1
            layer_product(
                layer.product, rows, min(part, columns - i), layer.n_out, dz, ld, size, w, ldw,
                dx + i * size, ldx, 0, 0, none, transposed, 1 - transposed,
            )  # fmt: skip
        stamp(times, n, stamps.DX)
        if n > 0 and below.activate_backward != 0:
            saved, lds = below.y + at * below.ld_out + i0 * size, below.ld_out
            if below.pre != 0:
                saved, lds = below.pre + at * below.ld_pre + i0 * size, below.ld_pre
            activate_backward(below.activate_backward, rows, whole(columns), dx, ldx, saved, lds, dx, ldx)
            stamp(times, n - 1, stamps.DERIVATIVE)
        if n > 0 and below.drop != 0:
            drawn = 0 if below.dropped == below.y else 1
            drop(below.drop, record_address(job), n - 1, step, row, rows, i0, whole(columns), dx, dx, ldx, drawn)
            stamp(times, n - 1, stamps.DERIVATIVE)

    @jit.inline
    def dw(job, layer, inputs, outputs, rows, x, ldx, dz, ld, g, ldg, starts):
        """g = x.T @ dz, or its transpose, or g + that."""
        turned = layer.transposed_dw != 0
        if turned:
            inputs, outputs, x, ldx, dz, ld = outputs, inputs, dz, ld, x, ldx
        part = part_of(inputs, outputs, rows)
        for j in range(0, outputs, part):
            if j > 0 and stopped(job):
                return
            at = g + j * size
            layer_product(
                layer.product, inputs, min(part, outputs - j), rows, x, size, ldx, dz + j * size, ld, at, ldg,
                0 if starts else at, ldg, none, 0, 0 if turned else 1,
            )  # fmt: skip

    @jit.inline
    def add_gradient(job, group, at, position, rows, starts, times):
        """Add x.T @ dz of so many rows to a group's share of the gradient, which starts with them or goes on."""
        twin = job.group_gradients + group * job.group_gradient_bytes
        for n in range(job.n_layers):
            if stopped(job):
                return
            layer = layer_of(job, n)
            x, ldx = input_of(job, layer, n, at, position)
            ld, ldw, columns = layer.ld_out, layer.ldw, layer.n_out
            dz, g, gb = layer.dz + at * ld, layer.w + twin, layer.b + twin
            across = layer.ld_transposed_dw if layer.transposed_dw != 0 else ldw
            dw(job, layer, layer.n_in, columns, rows, x, ldx, dz, ld, g, across, starts)
            if layer.b != 0:
                product(1, columns, rows, job.one, 0, 0, dz, ld, gb, 0, 0 if starts else gb, 0, none, 0, 1)
            stamp(times, n, stamps.DW)

    @jit.inline
    def through(job, step, row, rows, at, times):
        """So many rows from FIRST_LAYER to the loss and back, in the buffers' rows from `at` on."""
        position, first = start_of(job, step) + row, job.first_layer
        if first == 0:
            gather_rows(job, at, position, rows, times)
        for n in range(first, job.n_layers):
            if stopped(job):
                return
            forward(job, n, at, step, row, rows, 0, layer_of(job, n).n_out, times)
        losses(job, at, position, rows, doubles(job.scales)[step], at, times)
        least = 0 if first == 0 and job.dx != 0 else max(first, 1)
        for n in range(job.n_layers - 1, least - 1, -1):
            if stopped(job):
                return
            backward(job, n, at, step, row, rows, 0, layer_of(job, n).n_in, times)

    @jit.inline
    def refresh_transposed(layer, i0, i1, j0, j1):
        """wt[j0:j1, i0:i1] = w[i0:i1, j0:j1].T"""
        ldw, ldwt = layer.ldw, layer.ldwt
        turn(
            i1 - i0, j1 - j0, layer.w + i0 * ldw + j0 * size, ldw, layer.wt + j0 * ldwt + i0 * size, ldwt
        )  # fmt: skip

    @jit.inline
    def update_rows(job, layer, step, at, rows, columns, g, ldg, decay):
        """Update so many rows of w, and of b, which is the row after its last, by g; returns w's sum of squares."""
        w = layer.w + at
        first = w + job.first_state if job.first_state != 0 else 0
        second = w + job.second_state if job.second_state != 0 else 0
        scalars = job.scalars + step * 64
        return step_update(job.update, rows, columns, w, layer.ldw, g, ldg, first, second, scalars, decay)

    @jit.inline
    def step_tile(job, layer, n, step, at, g, ldg, squares, i0, i1, j0, j1, times):
        """Update w[i0:i1, j0:j1] by g, and with the last rows the bias by the row after them; then its part of w.T."""
        rows, bias = i1 - i0, has_bias(layer, i1)
        if squares == 0:
            update_rows(job, layer, step, at, rows + bias, j1 - j0, g, ldg, 0.0)
        else:
            decay = doubles(job.l2)[step]
            doubles(squares)[0] = update_rows(job, layer, step, at, rows, j1 - j0, g, ldg, decay)
            if bias:
                update_rows(job, layer, step, at + rows * layer.ldw, 1, j1 - j0, g + rows * ldg, ldg, 0.0)
        stamp(times, n, stamps.UPDATE)
        if layer.wt != 0:
            refresh_transposed(layer, i0, i1, j0, j1)
            stamp(times, n, stamps.TRANSPOSE)

    @jit.inline
    def outer_by_product(inputs, outputs, x, dz, g, ldg):
        product(inputs, outputs, 1, x, size, 0, dz, 0, g, ldg, 0, 0, none, 0, 1)

    of_one_row = outer_product(real) or outer_by_product

    @jit.inline
    def has_bias(layer, i1):
        """1 where rows of w up to i1 are followed by its bias, in the parameters and in all that is like them."""
        return types.int64(i1 == layer.n_in and layer.b != 0)

    @jit.inline
    def sum_partials(job, groups, at, ld, rows, columns, g, ldg):
        """g (rows, columns) = the groups' shares of the gradient, added in order; of the parameters at `at`."""
        for i in range(rows):
            total, share = elements(g + i * ldg), elements(at + job.group_gradients + i * ld)
            for j in range(columns):
                total[j] = share[j]
            for n in range(1, groups):
                share = elements(at + job.group_gradients + n * job.group_gradient_bytes + i * ld)
                for j in range(columns):
                    total[j] += share[j]

    @jit.inline
    def weight_tile(job, step, tile, slot, times):
        """dw of one tile, and its db; into the gradient, or, fused, into the slot's scratch and on to the update."""
        where = tile_of(job, tile)
        layer = layer_of(job, where.layer)
        i0, i1, j0, j1 = where.i0, where.i1, where.j0, where.j1
        rows, at, columns = rows_of(job, step), i0 * layer.ldw + j0 * size, j1 - j0
        bias, height, turned = has_bias(layer, i1), i1 - i0, layer.transposed_dw != 0
        gt, ldgt = job.scratch + slot * job.scratch_bytes, whole(height) * size
        if job.gradient != 0:
            g, ldg = layer.w + job.gradient + at, layer.ldw
        else:
            g, ldg = gt + (columns * ldgt if turned else 0), (columns // lanes + 2) * lanes * size
        gb = g + height * ldg
        if job.group_gradients != 0:
            groups, ldw, ldt = groups_of(job, step), layer.ldw, layer.ld_transposed_dw
            if turned:
                sum_partials(job, groups, layer.w + j0 * ldt + i0 * size, ldt, columns, whole(height), gt, ldgt)
                sum_partials(job, groups, layer.w + at + height * ldw, 0, bias, whole(columns), gb, 0)
            else:
                sum_partials(job, groups, layer.w + at, ldw, height + bias, whole(columns), g, ldg)
            stamp(times, where.layer, stamps.SUM)
        else:
            x, ldx = input_of(job, layer, where.layer, 0, start_of(job, step))
            dz, ld = layer.dz + j0 * size, layer.ld_out
            into, across = (gt, ldgt) if turned else (g, ldg)
            if rows == 1 and not turned:
                of_one_row(height, columns, x + i0 * size, dz, g, ldg)
            else:
                dw(job, layer, height, columns, rows, x + i0 * size, ldx, dz, ld, into, across, True)
            if bias and rows == 1:
                for j in range(whole(columns)):
                    elements(gb)[j] = elements(dz)[j]
            elif bias:  # the same product with a row of ones
                product(1, columns, rows, job.one, 0, 0, dz, ld, gb, 0, 0, 0, none, 0, 1)
            stamp(times, where.layer, stamps.DW)
        if turned:
            turn(columns, height, gt, ldgt, g, ldg)
            stamp(times, where.layer, stamps.DW)
        if stopped(job):  # maybe before dw was whole
            return
        squares = 0
        if job.squares != 0:
            squares = job.squares + (step * job.n_tiles + tile) * 8
        if job.gradient == 0:
            step_tile(job, layer, where.layer, step, at, g, ldg, squares, i0, i1, j0, j1, times)
        elif squares != 0:
            total, factor = 0.0, real(doubles(job.l2)[step])
            for i in range(i1 - i0):
                w_row, g_row = elements(layer.w + at + i * layer.ldw), elements(g + i * ldg)
                for j in range(columns):
                    total += w_row[j] * w_row[j]
                    g_row[j] += factor * w_row[j]
            doubles(squares)[0] = total

    @jit.inline
    def update_tile(job, step, tile, times):
        """The update of one tile out of the whole gradient."""
        where = tile_of(job, tile)
        layer = layer_of(job, where.layer)
        i0, i1, j0, j1 = where.i0, where.i1, where.j0, where.j1
        at = i0 * layer.ldw + j0 * size
        g = layer.w + job.gradient + at
        step_tile(job, layer, where.layer, step, at, g, layer.ldw, 0, i0, i1, j0, j1, times)

    @jit.inline
    def sum_rows(job, first, rows):
        """(loss, number of right rows) of so many rows, summed in order."""
        total, right = 0.0, 0.0
        for r in range(first, first + rows):
            total += doubles(job.row_losses)[r]
            if job.right_rows != 0:
                right += doubles(job.right_rows)[r]
        return total, right

    @jit.inline
    def sum_step(job, step):
        """The step's loss and number of right rows."""
        total, right = 0.0, 0.0
        if job.group_gradients == 0:
            total, right = sum_rows(job, 0, rows_of(job, step))
        else:
            for n in range(groups_of(job, step)):
                total += doubles(job.group_sums)[2 * n]
                right += doubles(job.group_sums)[2 * n + 1]
        doubles(job.sums)[2 * step] = total * doubles(job.scales)[step]
        doubles(job.sums)[2 * step + 1] = right

    @jit.inline
    def predict_rows(job, row, rows, at, times):
        """Rows from FIRST_LAYER to outputs, losses or both; activations live in the buffers' rows from `at` on."""
        position, layer = start_of(job, 0) + row, layer_of(job, job.n_layers - 1)
        first = job.first_layer
        if first == 0:
            gather_rows(job, at, position, rows, times)
        for n in range(first, job.n_layers):
            if stopped(job):
                return
            forward(job, n, at, 0, row, rows, 0, layer_of(job, n).n_out, times)
        if job.row_losses != 0:
            losses(job, at, position, rows, 1.0, row, times)
        if job.out != 0:
            output_activation(
                job.activate_output, job.output, rows, layer.n_out,
                layer.y + at * layer.ld_out, layer.ld_out,
                job.out + row * job.out_row, job.out_row,
            )  # fmt: skip

    @jit.inline
    def do(job, phase, step, tile, slot, times):
        """One tile of a phase."""
        operation, n, across, row, first = phase.operation, phase.layer, phase.across, 0, 0
        if across == 1:
            row = tile * phase.rows
        elif phase.rows != 0:
            row, first = tile // across * phase.rows, tile % across * phase.columns
        rows, chunk = min(phase.rows, rows_of(job, step) - row), job.row_chunk
        position = start_of(job, step) + row
        stamp(times, 0, stamps.CLAIMED)
        if operation == ROWS_THROUGH_LAYERS:
            grouped, total, right = job.group_gradients != 0, 0.0, 0.0
            for done in range(0, rows, chunk):  # one chunk, unless it is a group
                if stopped(job):
                    return
                part, at = min(chunk, rows - done), slot * chunk if grouped else row
                through(job, step, row + done, part, at, times)
                if grouped:
                    add_gradient(job, tile, at, position + done, part, done == 0, times)
                    more, hits = sum_rows(job, at, part)
                    total, right = total + more, right + hits
                    stamp(times, job.n_layers - 1, stamps.LOSS)
            if grouped:
                doubles(job.group_sums)[2 * tile] = total
                doubles(job.group_sums)[2 * tile + 1] = right
        elif operation == WEIGHTS:
            if tile == job.n_tiles:
                sum_step(job, step)
                stamp(times, job.n_layers - 1, stamps.LOSS)
            else:
                weight_tile(job, step, tile, slot, times)
        elif operation == FORWARD:
            columns = min(phase.columns, layer_of(job, n).n_out - first)
            forward(job, n, row, step, row, rows, first, columns, times)
        elif operation == BACKWARD:
            columns = min(phase.columns, layer_of(job, n).n_in - first)
            backward(job, n, row, step, row, rows, first, columns, times)
        elif operation == GATHER:
            gather_rows(job, row, position, rows, times)
        elif operation == TRANSPOSE:
            where = tile_of(job, tile)
            layer = layer_of(job, where.layer)
            if layer.wt != 0:
                refresh_transposed(layer, where.i0, where.i1, where.j0, where.j1)
                stamp(times, where.layer, stamps.TRANSPOSE)
        elif operation == CALL_HOOK:
            mode = floats.mode()
            floats.set_mode(mode & ~FLUSH_SUBNORMALS)
            hook(job.hook, job.hook_argument)
            floats.set_mode(mode)
            stamp(times, 0, stamps.CLIP)
        elif operation == UPDATE_WEIGHTS:
            update_tile(job, step, tile, times)
        else:
            predict_rows(job, row, rows, row if job.first_layer != 0 else slot * chunk, times)

    @jit.inline
    def tiles_of(job, record, step):
        rows = rows_of(job, step)
        if rows <= record.rows or record.rows == 0:
            return record.across
        return (rows + record.rows - 1) // record.rows * record.across

    def function(address):
        job = job_at(address)
        last, alone = job.once + job.each_step, job.alone != 0
        mode = floats.mode()
        if job.flush != 0:
            floats.set_mode(mode | FLUSH_SUBNORMALS)
        slot = memory.fetch_add(address + SLOTS, 1)
        times = job.times + slot * (stamps.HEAD + stamps.WORDS * job.n_layers) * 8
        phase, step, n, record, tiles, tile = -1, job.begin, -1, phase_at(job.phases), 0, -1
        waited = 0
        while True:
            if alone:
                tile += 1
                now = phase if tile < tiles else phase + 1
                tile = tile if tile < tiles else 0
            else:
                ticket = memory.fetch_add(address + TICKET, 1)
                now, tile = ticket >> 32, ticket & LOW
            if stopped(job):  # after the claim: all that this tile reads was whole just now
                break
            if now != phase:
                n += now - phase  # in the list of phases, which begins anew with every step
                phase = now
                while n >= last and step < job.end:
                    n -= job.each_step
                    step += 1
                if step == job.end:
                    break
                record = phase_at(job.phases + n * PHASE_BYTES)
                tiles = tiles_of(job, record, step)
            if tile >= tiles:  # all taken: wait for the phase to end
                spins, since = 0, stamps.ticks()
                while not alone and memory.load(address + TICKET) >> 32 == phase and not stopped(job):
                    spins = memory.wait(spins)
                if spins > memory.PAUSES:
                    waited += stamps.ticks() - since
                continue
            do(job, record, step, tile, slot, times)
            if not alone and memory.fetch_add(address + DONE, 1) == tiles - 1:
                memory.store(address + DONE, 0)
                memory.store(address + TICKET, (phase + 1) << 32)
        floats.set_mode(mode)
        if waited > 0:
            memory.fetch_add(job.waited, waited)

    return function
