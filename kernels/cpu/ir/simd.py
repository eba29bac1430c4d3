"""Vector code, written as LLVM IR for one instruction set: loads, stores, arithmetic, the square transpose, copies."""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from kernels.cpu.compiler import calls
from kernels.cpu.ir.instruction_sets import InstructionSet, chosen, itemsize

I16, I32, I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def element(real: Any) -> ir.Type:
    """LLVM's type of one element."""
    return ir.FloatType() if str(real) == "float32" else ir.DoubleType()


class Vectors:
    """Loads, stores and arithmetic on vectors of one type in one function that is being written."""

    def __init__(self, function: ir.Function, isa: InstructionSet, real: Any) -> None:
        self.function, self.module, self.isa = function, function.module, isa
        self.size, self.lanes = itemsize(real), isa.lanes(itemsize(real))
        self.element = element(real)
        self.type = ir.VectorType(self.element, self.lanes)
        self.suffix = f"v{self.lanes}f{8 * self.size}"
        self.builder = ir.IRBuilder(function.append_basic_block("entry"))
        self.mask: Any = None

    def declare(self, name: str, restype: ir.Type, *argtypes: ir.Type) -> Any:
        return cgutils.get_or_insert_function(self.module, ir.FunctionType(restype, argtypes), name)

    def offset(self, address: Any, vector: int) -> Any:
        n = vector * self.lanes * self.size
        return self.builder.add(address, ir.Constant(I64, n)) if n else address

    def keep_first(self, count: Any) -> None:
        """From here on, masked accesses touch the first `count` lanes alone."""
        b, lanes = self.builder, ir.VectorType(I32, self.lanes)
        self.mask = b.icmp_unsigned(
            "<", ir.Constant(lanes, list(range(self.lanes))), self._splat(b.trunc(count, I32), lanes)
        )

    def load(self, address: Any, masked: bool = False) -> Any:
        b, pointer = self.builder, self.builder.inttoptr(address, self.type.as_pointer())
        if not masked:
            return b.load(pointer, align=self.size)
        function = self.declare(
            f"llvm.masked.load.{self.suffix}.p0", self.type, pointer.type, I32, self.mask.type, self.type
        )
        return b.call(function, [pointer, ir.Constant(I32, self.size), self.mask, ir.Constant(self.type, None)])

    def store(self, value: Any, address: Any, masked: bool = False) -> None:
        b, pointer = self.builder, self.builder.inttoptr(address, self.type.as_pointer())
        if not masked:
            b.store(value, pointer, align=self.size)
            return
        function = self.declare(
            f"llvm.masked.store.{self.suffix}.p0", ir.VoidType(), self.type, pointer.type, I32, self.mask.type
        )
        b.call(function, [value, pointer, ir.Constant(I32, self.size), self.mask])

    def broadcast(self, address: Any) -> Any:
        """A vector of the one element at an address."""
        pointer = self.builder.inttoptr(address, self.element.as_pointer())
        return self._splat(self.builder.load(pointer, align=self.size), self.type)

    def splat(self, value: Any) -> Any:
        return self._splat(value, self.type)

    def _splat(self, value: Any, vector: ir.VectorType) -> Any:
        undefined = ir.Constant(vector, ir.Undefined)
        one = self.builder.insert_element(undefined, value, ir.Constant(I32, 0))
        return self.builder.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, vector.count), None))

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        name = "llvm.fma" if self.isa.fma else "llvm.fmuladd"
        return self.builder.call(self.declare(f"{name}.{self.suffix}", self.type, *[self.type] * 3), [a, b, c])

    def shuffle(self, a: Any, b: Any, lanes: list[int]) -> Any:
        return self.builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def internal_function(module: ir.Module, name: str, argtypes: list[ir.Type]) -> ir.Function:
    """The module's own function of that name, never inlined; a declaration until its body has been written."""
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), argtypes), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function


def square_transpose(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    """Write (or find) the transpose of a square of lanes x lanes elements: (source, its row stride, target, its)."""
    function = internal_function(module, f"transpose_{isa.name}_{real}", [I64] * 4)
    if not function.is_declaration:
        return function
    source, lds, target, ldt = function.args
    v = Vectors(function, isa, real)
    rows, at = [], source
    for _ in range(v.lanes):
        rows.append(v.load(at))
        at = v.builder.add(at, lds)
    rows = columns_of(v, rows)
    for row in rows:
        v.store(row, target)
        target = v.builder.add(target, ldt)
    v.builder.ret_void()
    return function


def part_transpose(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    """Write (or find) the transpose of a part of a square: (rows, columns, source, its row stride, target, its, width).

    rows and columns, 1 to lanes, are the source's. Of each of the target's rows `width` lanes are written, which may
    be more than `rows`: those repeat the source's last row.
    """
    function = internal_function(module, f"transpose_part_{isa.name}_{real}", [I64] * 7)
    if not function.is_declaration:
        return function
    rows, columns, source, lds, target, ldt, width = function.args
    v = Vectors(function, isa, real)
    build = v.builder

    def addresses(start: Any, stride: Any, count: Any) -> list[Any]:
        """Where the rows begin, and past the last one, the last one again."""
        found, at = [start], start
        for i in range(1, v.lanes):
            after = build.add(at, stride)
            at = build.select(build.icmp_unsigned("<", ir.Constant(I64, i), count), after, at)
            found.append(at)
        return found

    v.keep_first(columns)
    columns_read = columns_of(v, [v.load(at, masked=True) for at in addresses(source, lds, rows)])
    v.keep_first(width)
    for row, at in reversed(
        [*zip(columns_read, addresses(target, ldt, columns), strict=True)]
    ):  # the last row's own comes last
        v.store(row, at, masked=True)
    build.ret_void()
    return function


def columns_of(v: Vectors, rows: list[Any]) -> list[Any]:
    """The columns of a square of vectors."""
    # log2(lanes) rounds; in each, rows a distance apart swap the halves of blocks of twice that distance
    distance = 1
    while distance < v.lanes:
        low = [i if not i & distance else i - distance + v.lanes for i in range(v.lanes)]
        high = [i + distance if not i & distance else i + v.lanes for i in range(v.lanes)]
        for i in range(v.lanes):
            if not i & distance:
                a, b = rows[i], rows[i + distance]
                rows[i], rows[i + distance] = v.shuffle(a, b, low), v.shuffle(a, b, high)
        distance *= 2
    return rows


def transpose_square(real: Any) -> Any:
    """An intrinsic: transpose one square of lanes x lanes elements, see `square_transpose`."""
    return calling(square_transpose, real, 4)


def transpose_part(real: Any) -> Any:
    """An intrinsic: transpose a part of such a square, see `part_transpose`."""
    return calling(part_transpose, real, 7)


def calling(
    write: Callable[[ir.Module, InstructionSet, Any], ir.Function], real: Any, integers: int, reals: int = 0
) -> Any:
    """An intrinsic that calls what `write` writes, a function of `integers` integers and then `reals` reals."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(write(builder.module, chosen(), real), args)
        return context.get_dummy_value()

    return calls.intrinsic_of(write.__name__, types.void(*[types.int64] * integers, *[real] * reals), codegen)


def panel_copy(module: ir.Module, isa: InstructionSet, real: Any, nv: int) -> ir.Function:
    """Write (or find) the copy of k rows of up to nv vectors: (k, columns, source, its row stride, target, its).

    Whole vectors are written, with zeros past the last column, row after row: with a target stride of less than a
    vector each row overwrites the zeros of the one before.
    """
    function = internal_function(module, f"panel_{isa.name}_{real}_{nv}", [I64] * 6)
    if not function.is_declaration:
        return function
    k, columns, b, ldb, panel, ldp = function.args
    v = Vectors(function, isa, real)
    build = v.builder
    v.keep_first(build.sub(columns, ir.Constant(I64, (nv - 1) * v.lanes)))
    entry = build.block
    loop, done = function.append_basic_block("loop"), function.append_basic_block("done")
    build.branch(loop)
    build.position_at_end(loop)
    left, source, target = (build.phi(I64) for _ in range(3))
    for node, value in ((left, k), (source, b), (target, panel)):
        node.add_incoming(value, entry)
    for j in range(nv):
        v.store(v.load(v.offset(source, j), masked=j == nv - 1), v.offset(target, j))
    left.add_incoming(build.sub(left, ir.Constant(I64, 1)), loop)
    source.add_incoming(build.add(source, ldb), loop)
    target.add_incoming(build.add(target, ldp), loop)
    build.cbranch(build.icmp_unsigned("!=", left, ir.Constant(I64, 1)), loop, done)
    build.position_at_end(done)
    build.ret_void()
    return function


def copy_panel(real: Any) -> Any:
    """An intrinsic: copy `columns` (1 to NV vectors) of k rows, see `panel_copy`."""
    isa = chosen()
    lanes = isa.lanes(itemsize(real))

    @intrinsic
    def pack(typingctx: Any, k: Any, columns: Any, source: Any, lds: Any, target: Any, ldt: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            vectors = builder.udiv(builder.add(args[1], ir.Constant(I64, lanes - 1)), ir.Constant(I64, lanes))
            end = builder.append_basic_block("panel.done")
            impossible = builder.append_basic_block("panel.impossible")
            switch = builder.switch(vectors, impossible)
            for nv in range(1, isa.nv + 1):
                case = builder.append_basic_block(f"panel.{nv}")
                switch.add_case(ir.Constant(I64, nv), case)
                with builder.goto_block(case):
                    builder.call(panel_copy(builder.module, isa, real, nv), args)
                    builder.branch(end)
            with builder.goto_block(impossible):
                builder.unreachable()
            builder.position_at_end(end)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), codegen

    return pack
