"""Loops over rows in generated code: whole vectors and then a masked one.

In a loop that LLVM makes vector code of, rows of 50 or 10 numbers end with some that are done one by one.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from kernels.cpu.ir.instruction_sets import InstructionSet, chosen
from kernels.cpu.ir.simd import I64, Vectors, calling, element, internal_function


def each_vector(
    x: Vectors, rows: Any, columns: Any, starts: Sequence[Any], strides: Sequence[Any],
    step: Callable[[list[Any], bool], None], ones: int = 0,
) -> None:  # fmt: skip
    """Write step(addresses, masked) for all vectors of several arrays (rows, columns).

    starts: their addresses; strides: the bytes between their rows. The first `ones` arrays have one element a row, to
    which all steps in it get the address. The builder then stands behind the loops.
    """
    build, append, n = x.builder, x.function.append_basic_block, len(starts)
    moves = [ir.Constant(I64, 0 if array < ones else x.lanes * x.size) for array in range(n)]
    whole = build.udiv(columns, ir.Constant(I64, x.lanes))
    rest = build.urem(columns, ir.Constant(I64, x.lanes))
    x.keep_first(rest)
    entry = build.block
    row, vector, after, tail, row_end, done = map(append, ("row", "vector", "after", "tail", "row.end", "done"))
    build.cbranch(build.icmp_unsigned("!=", rows, ir.Constant(I64, 0)), row, done)
    build.position_at_end(row)
    left, begins = build.phi(I64), [build.phi(I64) for _ in range(n)]
    build.cbranch(build.icmp_unsigned("!=", whole, ir.Constant(I64, 0)), vector, after)
    build.position_at_end(vector)
    vectors, at = build.phi(I64), [build.phi(I64) for _ in range(n)]
    step(at, False)
    fewer, further = build.sub(vectors, ir.Constant(I64, 1)), [*map(build.add, at, moves)]
    for node, first, then in zip([vectors, *at], [whole, *begins], [fewer, *further], strict=True):
        node.add_incoming(first, row)
        node.add_incoming(then, vector)
    build.cbranch(build.icmp_unsigned("!=", fewer, ir.Constant(I64, 0)), vector, after)
    build.position_at_end(after)
    ends = [build.phi(I64) for _ in range(n)]
    for node, first, then in zip(ends, begins, further, strict=True):
        node.add_incoming(first, row)
        node.add_incoming(then, vector)
    build.cbranch(build.icmp_unsigned("!=", rest, ir.Constant(I64, 0)), tail, row_end)
    build.position_at_end(tail)
    step(ends, True)
    build.branch(row_end)
    build.position_at_end(row_end)
    fewer = build.sub(left, ir.Constant(I64, 1))
    nexts = [build.add(begin, stride) for begin, stride in zip(begins, strides, strict=True)]
    for node, first, then in zip([left, *begins], [rows, *starts], [fewer, *nexts], strict=True):
        node.add_incoming(first, entry)
        node.add_incoming(then, row_end)
    build.cbranch(build.icmp_unsigned("!=", fewer, ir.Constant(I64, 0)), row, done)
    build.position_at_end(done)


def rows_of_sgd(real: Any) -> Any:
    """An intrinsic: w -= rate * (g + l2 * w) on rows of parameters; None where a masked access is not one instruction.

    Its arguments: rows, columns, w, ldw, g, ldg, then rate and l2. w has rows `ldw` bytes apart, g `ldg`.
    """
    return calling(_sgd, real, 6, 2) if chosen().masks else None


def _sgd(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    function = internal_function(module, f"sgd_{isa.name}_{real}", [*[I64] * 6, *[element(real)] * 2])
    if not function.is_declaration:
        return function
    rows, columns, w, ldw, g, ldg, *scalars = function.args
    x = Vectors(function, isa, real)
    rate, l2 = map(x.splat, scalars)
    back = x.builder.fneg(rate)

    def step(at: list[Any], masked: bool) -> None:
        w_now, g_now = (x.load(address, masked) for address in at)
        x.store(x.multiply_add(back, x.multiply_add(l2, w_now, g_now), w_now), at[0], masked)

    each_vector(x, rows, columns, [w, g], [ldw, ldg], step)
    x.builder.ret_void()
    return function


def outer_product(real: Any) -> Any:
    """An intrinsic: c (rows, columns) = x (rows,) times y (columns,); None as for `rows_of_sgd`.

    Its arguments: rows, columns, x, y, c, ldc.
    """
    return calling(_outer, real, 6) if chosen().masks else None


def _outer(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    function = internal_function(module, f"outer_{isa.name}_{real}", [I64] * 6)
    if not function.is_declaration:
        return function
    rows, columns, x, y, c, ldc = function.args
    v = Vectors(function, isa, real)

    def step(at: list[Any], masked: bool) -> None:
        v.store(v.builder.fmul(v.broadcast(at[0]), v.load(at[1], masked)), at[2], masked)

    each_vector(v, rows, columns, [x, y, c], [ir.Constant(I64, v.size), ir.Constant(I64, 0), ldc], step, ones=1)
    v.builder.ret_void()
    return function


def rows_added(real: Any, count: int) -> Any:
    """An intrinsic: c (columns) = max(c + the sum of x[i] * b[i] over `count` rows of b, floor), in the order of i.

    Its arguments: columns, x, b, ldb, c, then the floor, as the micro-kernel's.
    """

    def write(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
        return _added(module, isa, real, count)

    write.__name__ = f"rows_added_{count}"
    return calling(write, real, 5, 1)


def _added(module: ir.Module, isa: InstructionSet, real: Any, count: int) -> ir.Function:
    function = internal_function(module, f"added_{count}_{isa.name}_{real}", [*[I64] * 5, element(real)])
    if not function.is_declaration:
        return function
    columns, x, b, ldb, c, floor = function.args
    v = Vectors(function, isa, real)
    least = v.splat(floor)
    factors = [v.broadcast(v.builder.add(x, ir.Constant(I64, i * v.size))) for i in range(count)]
    rows = [b]
    for _ in range(count - 1):
        rows.append(v.builder.add(rows[-1], ldb))

    def step(at: list[Any], masked: bool) -> None:
        *rows_at, c_at = at
        total = v.load(c_at, masked)
        for factor, row in zip(factors, rows_at, strict=True):
            total = v.multiply_add(factor, v.load(row, masked), total)
        v.store(v.builder.select(v.builder.fcmp_ordered(">", least, total), least, total), c_at, masked)

    each_vector(v, ir.Constant(I64, 1), columns, [*rows, c], [ir.Constant(I64, 0)] * (count + 1), step)
    v.builder.ret_void()
    return function
