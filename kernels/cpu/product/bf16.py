"""Vector code for products of bfloat16 factors with float32 sums: tiles (bf16_tiles.py), and what multiplies blocks.

A float32 number is exactly the sum of three bfloat16 numbers, of 8 significant bits each: high, middle and low. Strips
of all three have six tiles a step. Of the nine products of parts the six largest are added up, in float32 (Henry, Tang
and Heinecke 2019, Leveraging the bfloat16 Artificial Intelligence Datatype For Higher-Precision Computations): what is
left out is less than 2^-24 of |a| @ |b|, and since a sum is rounded once for two products, the result is closer to the
exact one than that of float32 multiply-adds. Parts and products below 2^-126 count as zero.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.cpu.compiler import jit
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import InstructionSet
from kernels.cpu.ir.simd import I16, I32, I64, Vectors, calling, columns_of, element, internal_function
from kernels.cpu.product.bf16_tiles import LINES, ROW, STEP, STRIP, SUMS_ROW, TILE
from kernels.deferred import intrinsic

I8 = ir.IntType(8)
WORDS, PAIRS = ir.VectorType(I16, 2 * LINES), ir.VectorType(I32, LINES)


def _tile(along_k: bool, transpose: bool, masked: bool, parts: int) -> Callable[..., ir.Function]:
    def write_tile(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
        """Write (or find) what makes a tile, or its `parts`, a step of a strip apart: (lines, depth, source, stride,
        target).

        The source's rows, `stride` bytes apart, are lines along k, or, not along_k, steps across the lines. With
        `transpose` the tile's columns are stored as its rows. masked: only `lines` lines and `depth` steps exist, and
        the others are 0.
        """
        function = internal_function(module, f"bf16_{write_tile.__name__}", [I64] * 5)
        if not function.is_declaration:
            return function
        lines, depth, source, stride, target = function.args
        v = Vectors(function, isa, real)
        build, zero = v.builder, ir.Constant(I64, 0)

        def load(row: int, vector: int, address: Any) -> Any:
            if masked:
                rows, columns = (lines, depth) if along_k else (depth, lines)
                before = ir.Constant(I64, vector * v.lanes)
                left = build.select(build.icmp_unsigned(">", columns, before), build.sub(columns, before), zero)
                v.keep_first(build.select(build.icmp_unsigned("<", ir.Constant(I64, row), rows), left, zero))
            return v.load(v.offset(address, vector), masked)

        both = v.declare("llvm.x86.avx512bf16.cvtne2ps2bf16.512", WORDS, v.type, v.type)
        half, upper = (ir.Constant(PAIRS, [n] * LINES) for n in (16, 0xFFFF0000))
        rows_of_parts: list[list[Any]] = [[] for _ in range(parts)]
        at, middle = source, build.add(source, build.mul(stride, ir.Constant(I64, LINES)))
        for n in range(LINES):
            if along_k:
                low, high = load(n, 0, at), load(n, 1, at)
            else:
                low, high = load(n, 0, at), load(LINES + n, 0, middle)
            at, middle = build.add(at, stride), build.add(middle, stride)
            for rows_of_part in rows_of_parts:
                words = build.call(both, [high, low])
                pairs = build.bitcast(v.shuffle(words, words, [i + j for i in range(LINES) for j in (0, LINES)]), PAIRS)
                rows_of_part.append(pairs)
                if rows_of_part is not rows_of_parts[-1]:
                    low = build.fsub(low, build.bitcast(build.shl(pairs, half), v.type))
                    high = build.fsub(high, build.bitcast(build.and_(pairs, upper), v.type))
        for n, rows_of_part in enumerate(rows_of_parts):
            for i, row in enumerate(columns_of(v, rows_of_part) if transpose else rows_of_part):
                to = build.add(target, ir.Constant(I64, n * STEP + i * ROW))
                build.store(row, build.inttoptr(to, PAIRS.as_pointer()), align=ROW)
        build.ret_void()
        return function

    write_tile.__name__ = f"tile_{along_k:d}{transpose:d}{masked:d}{parts}"
    return write_tile


def tile_writer(real: Any, along_k: bool, transpose: bool, masked: bool, parts: int) -> Any:
    """An intrinsic: round a tile, or split it into parts, see `_tile`."""
    return calling(_tile(along_k, transpose, masked, parts), real, 5)


HIGH, MIDDLE, LOW = range(3)
# Which parts of a and b are multiplied, first the small products along all of k, then the large ones. From one product
# to the next one factor stays in its tiles.
ROUNDS = {
    1: [[(HIGH, HIGH)]],
    3: [[(LOW, HIGH), (MIDDLE, HIGH), (MIDDLE, MIDDLE), (HIGH, MIDDLE), (HIGH, LOW)], [(HIGH, HIGH)]],
}


def amx_block(parts: int) -> Callable[..., ir.Function]:
    """What writes (or finds) sums (32, 32) = a strip of a by one of b: (steps, a, b, sums); tiles are configured."""

    def write_block(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
        function = internal_function(module, f"bf16_amx_block_{parts}", [I64] * 4)
        if not function.is_declaration:
            return function
        steps, a, b, sums = function.args
        build = Vectors(function, isa, real).builder

        def instruction(name: str, *arguments: Any) -> None:
            values = [ir.Constant(I8, one) if isinstance(one, int) else one for one in arguments]
            fnty = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            build.call(cgutils.get_or_insert_function(module, fnty, f"llvm.x86.{name}"), values)

        def memory(address: Any, offset: int, stride: int) -> tuple[Any, Any]:
            at = build.add(address, ir.Constant(I64, offset))
            return build.inttoptr(at, ir.PointerType()), ir.Constant(I64, stride)

        for tile in range(4):
            instruction("tilezero", tile)
        for products in ROUNDS[parts]:
            with _counted(build, steps, (a, parts * STEP), (b, parts * STEP)) as (a_at, b_at):
                loaded: list[int | None] = [None, None]  # which part of a and of b is in tiles
                for product in products:
                    for n, (part, address) in enumerate(zip(product, (a_at, b_at), strict=True)):
                        if loaded[n] != part:
                            for half in range(2):
                                offset = part * STEP + half * TILE
                                instruction("tileloadd64", 4 + 2 * n + half, *memory(address, offset, ROW))
                            loaded[n] = part
                    for tile in range(4):
                        instruction("tdpbf16ps", tile, 4 + tile // 2, 6 + tile % 2)
        for tile in range(4):
            offset = tile // 2 * LINES * SUMS_ROW + tile % 2 * ROW
            instruction("tilestored64", tile, *memory(sums, offset, SUMS_ROW))
        build.ret_void()
        return function

    write_block.__name__ = f"amx_block_{parts}"
    return write_block


DOT_ROWS = 8  # 8 x 2 sums, 2 vectors of b and 1 of a in the 32 registers


def dot_block(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    """Write (or find) sums (32, 32) of one part of a strip of a and one of b, by VDPBF16PS; see amx_block."""
    function = internal_function(module, "bf16_dot_block", [I64] * 4)
    if not function.is_declaration:
        return function
    steps, a, b, sums = function.args
    v = Vectors(function, isa, real)
    build = v.builder
    dot = v.declare("llvm.x86.avx512bf16.dpbf16ps.512", v.type, v.type, WORDS, WORDS)
    half = LINES // DOT_ROWS
    cells = [cgutils.alloca_once(build, v.type) for _ in range(2 * DOT_ROWS)]
    groups = ir.Constant(I64, STRIP // DOT_ROWS)
    with _counted(build, groups, (ir.Constant(I64, 0), 1), (sums, DOT_ROWS * SUMS_ROW)) as (group, to):
        tile = build.mul(build.udiv(group, ir.Constant(I64, half)), ir.Constant(I64, TILE))
        inside = build.mul(build.urem(group, ir.Constant(I64, half)), ir.Constant(I64, DOT_ROWS * ROW))
        for cell in cells:
            build.store(ir.Constant(v.type, None), cell)
        with _counted(build, steps, (build.add(build.add(a, tile), inside), STEP), (b, STEP)) as (a_at, b_at):
            total = [build.load(cell) for cell in cells]
            for pair in range(LINES):
                columns = []
                for j in range(2):
                    at = build.add(b_at, ir.Constant(I64, j * TILE + pair * ROW))
                    columns.append(build.load(build.inttoptr(at, WORDS.as_pointer()), align=ROW))
                for r in range(DOT_ROWS):
                    row = build.bitcast(v.broadcast(build.add(a_at, ir.Constant(I64, r * ROW + 4 * pair))), WORDS)
                    for j, column in enumerate(columns):
                        total[2 * r + j] = build.call(dot, [total[2 * r + j], row, column])
            for value, cell in zip(total, cells, strict=True):
                build.store(value, cell)
        for n, cell in enumerate(cells):
            v.store(build.load(cell), build.add(to, ir.Constant(I64, n // 2 * SUMS_ROW + n % 2 * ROW)))
    build.ret_void()
    return function


def finite_block(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    """Write (or find) whether all of a block's sums are finite: (sums, address of the answer, an int64)."""
    function = internal_function(module, "bf16_finite_block", [I64] * 2)
    if not function.is_declaration:
        return function
    sums, answer = function.args
    v = Vectors(function, isa, real)
    build, nothing = v.builder, ir.Constant(v.type, None)
    totals = [cgutils.alloca_once_value(build, nothing) for _ in range(4)]
    with _counted(build, ir.Constant(I64, STRIP * STRIP // (4 * v.lanes)), (sums, 4 * ROW)) as (at,):
        for n, total in enumerate(totals):  # 0, or NaN once there was an infinity or a NaN
            build.store(v.multiply_add(v.load(v.offset(at, n)), nothing, build.load(total)), total)
    total = build.load(totals[0])
    for other in totals[1:]:
        total = build.fadd(total, build.load(other))
    bits = build.bitcast(build.fcmp_unordered("uno", total, total), ir.IntType(v.lanes))
    all_finite = build.icmp_unsigned("==", bits, ir.Constant(bits.type, 0))
    build.store(build.zext(all_finite, I64), build.inttoptr(answer, I64.as_pointer()))
    build.ret_void()
    return function


def finished_block(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    """Write (or find) c = max(init + sums, floor): (rows, columns, sums, c, ldc, init, ldi, floor). NaN passes."""
    function = internal_function(module, "bf16_finished_block", [*[I64] * 7, element(real)])
    if not function.is_declaration:
        return function
    rows, columns, sums, c, ldc, init, ldi, floor = function.args
    v = Vectors(function, isa, real)
    build = v.builder
    least, masks, zero = v.splat(floor), [], ir.Constant(I64, 0)
    for n in range(2):
        left = build.sub(columns, ir.Constant(I64, n * v.lanes))
        v.keep_first(build.select(build.icmp_signed(">", left, zero), left, zero))
        masks.append(v.mask)
    with _counted(build, rows, (sums, SUMS_ROW), (c, ldc), (init, ldi)) as (sums_at, c_at, init_at):
        for n, v.mask in enumerate(masks):
            value = build.fadd(v.load(v.offset(init_at, n), True), v.load(v.offset(sums_at, n)))
            value = build.select(build.fcmp_ordered(">", least, value), least, value)
            v.store(value, v.offset(c_at, n), True)
    build.ret_void()
    return function


@contextmanager
def _counted(build: Any, count: Any, *addresses: tuple[Any, Any]) -> Iterator[list[Any]]:
    """A loop of `count` rounds, 1 or more, over addresses with their steps."""
    before, body, after = build.block, build.append_basic_block("loop"), build.append_basic_block("loop.end")
    build.branch(body)
    build.position_at_end(body)
    left, *now = (build.phi(I64) for _ in range(1 + len(addresses)))
    yield now
    end = build.block
    for node, start, step in [(left, count, -1), *((node, *one) for node, one in zip(now, addresses, strict=True))]:
        node.add_incoming(start, before)
        node.add_incoming(build.add(node, ir.Constant(I64, step) if isinstance(step, int) else step), end)
    build.cbranch(build.icmp_unsigned("!=", left, ir.Constant(I64, 1)), body, after)
    build.position_at_end(after)


@intrinsic
def _configure_tiles(typingctx: Any, address: Any) -> Any:
    """Give the thread eight tiles of 16 rows of 64 bytes, as the 64 bytes at an address say."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fnty = ir.FunctionType(ir.VoidType(), [ir.PointerType()])
        function = cgutils.get_or_insert_function(builder.module, fnty, "llvm.x86.ldtilecfg")
        builder.call(function, [builder.inttoptr(args[0], ir.PointerType())])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def release_tiles(typingctx: Any) -> Any:
    """Give the tiles back: a thread that holds them takes longer to switch to."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fnty = ir.FunctionType(ir.VoidType(), [])
        builder.call(cgutils.get_or_insert_function(builder.module, fnty, "llvm.x86.tilerelease"), [])
        return context.get_dummy_value()

    return types.void(), codegen


def configuration() -> Any:
    """A function for use inside kernels: give the thread its tiles, by 64 bytes at an address that it may write."""
    integers, octets = memory.pointer(types.int64), memory.pointer(types.uint8)

    @jit.inline
    def configure(at):
        """Palette 1; eight tiles of 64 bytes a row and 16 rows, as the manual lays that out in 64 bytes."""
        for n in range(8):
            integers(at)[n] = 0
        octets(at)[0] = 1
        for n in range(8):
            octets(at)[16 + 2 * n], octets(at)[48 + n] = ROW, LINES
        _configure_tiles(at)

    return configure
