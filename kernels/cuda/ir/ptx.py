"""What kernels need below Python: vector loads and stores, the bits of a float. Plain stand-ins in the simulator."""

import functools
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from kernels.cuda.compiler.jit import inline
from kernels.cuda.compiler.target import SIMULATED
from kernels.maths import float_bits
from kernels.maths.functions import Bits, Maths, functions

VECTOR_BYTES = 16  # the widest load and store of one thread


def lanes(real: Any) -> int:
    """Elements of the widest load."""
    return VECTOR_BYTES // np.dtype(str(real)).itemsize


@functools.cache
def vector_copy(real: Any, width: int = 0) -> Any:
    """copy(target, at, source, first): target[at : at + width] = source[first : first + width], at once.

    width: elements, by default `lanes`. Both arrays (n,) are contiguous, in any memory; both ends must be aligned to
    what is copied. An array in registers, made by `cuda.local.array` and indexed by what the compiler knows, costs
    nothing.
    """
    width = width or lanes(real)
    if SIMULATED:

        def copy(target: Any, at: int, source: Any, first: int) -> None:
            assert at % width == first % width == 0, "what is copied at once must be aligned"
            for q in range(width):
                target[at + q] = source[first + q]

        return copy

    from numba.cuda.extending import intrinsic

    vector, size = ir.VectorType(_element(real), width), width * VECTOR_BYTES // lanes(real)

    @intrinsic
    def vector_copy(typingctx: Any, target: Any, at: Any, source: Any, first: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def pointer(n: int) -> Any:
                array = context.make_array(sig.args[n])(context, builder, args[n])
                index = context.cast(builder, args[n + 1], sig.args[n + 1], types.int64)
                return builder.bitcast(builder.gep(array.data, [index]), vector.as_pointer())

            value = builder.load(pointer(2), align=size)
            builder.store(value, pointer(0), align=size)
            return context.get_dummy_value()

        return types.void(target, at, source, first), codegen

    return vector_copy


@functools.cache
def vector_read(real: Any, aligned: bool) -> Any:
    """read(x, at, left, registers, to): registers[to : to + lanes] = x[at : at + left], then zeros.

    aligned: 16 bytes are read at once where they are left.
    """
    width, zero, copy = lanes(real), real(0.0), vector_copy(real)

    @inline
    def read(x: Any, at: int, left: int, registers: Any, to: int) -> None:
        if aligned and left >= width:
            copy(registers, to, x, at)
        else:
            for q in range(width):
                registers[to + q] = x[at + q] if q < left else zero

    return read


@functools.cache
def vector_write(real: Any, aligned: bool) -> Any:
    """write(x, at, left, registers): x[at : at + lanes] = registers, but no more than `left`. aligned: as above."""
    width, copy = lanes(real), vector_copy(real)

    @inline
    def write(x: Any, at: int, left: int, registers: Any) -> None:
        if aligned and left >= width:
            copy(x, at, registers, 0)
        else:
            for q in range(width):
                if q < left:
                    x[at + q] = registers[q]

    return write


def row_copy(real: Any, rows: int, columns: int, spacing: int) -> Any:
    """copy(r, registers, target, at): row r of registers (rows * columns,), in groups of 16 bytes, into target.

    Group g goes to target[at + g * spacing :]. Registers have numbers, not addresses, so this is a switch over r with
    a case for each row: a loop would leave it to the compiler's unrolling, which gives up on long bodies and then
    keeps the registers in memory.
    """
    width = lanes(real)
    groups = columns // width
    if SIMULATED:

        def copy(r: int, registers: Any, target: Any, at: int) -> None:
            for g in range(groups):
                for q in range(width):
                    target[at + g * spacing + q] = registers[r * columns + g * width + q]

        return copy

    from numba.cuda.extending import intrinsic

    vector = _vector(real)

    @intrinsic
    def row_copy(typingctx: Any, r: Any, registers: Any, target: Any, at: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def pointer(n: int, index: Any) -> Any:
                array = context.make_array(sig.args[n])(context, builder, args[n])
                return builder.bitcast(builder.gep(array.data, [index]), vector.as_pointer())

            def constant(n: int) -> Any:
                return ir.Constant(ir.IntType(64), n)

            row = context.cast(builder, args[0], sig.args[0], types.int64)
            first = context.cast(builder, args[3], sig.args[3], types.int64)
            done = builder.append_basic_block("done")
            switch = builder.switch(row, done)
            for number in range(rows):
                case = builder.append_basic_block(f"row{number}")
                switch.add_case(constant(number), case)
                builder.position_at_end(case)
                for g in range(groups):
                    value = builder.load(pointer(1, constant(number * columns + g * width)), align=VECTOR_BYTES)
                    builder.store(value, pointer(2, builder.add(first, constant(g * spacing))), align=VECTOR_BYTES)
                builder.branch(done)
            builder.position_at_end(done)
            return context.get_dummy_value()

        return types.void(r, registers, target, at), codegen

    return row_copy


def outer_products(
    real: Any, rows: int, columns: int, depth: int, a_steps: tuple[int, int], b_steps: tuple[int, int]
) -> Any:
    """add(c, a, a_at, b, b_at): c (rows * columns,), in registers, += a.T @ b over `depth` rows of both.

    a_steps: the distances of a's rows, the first of which begins at a_at, and of the groups of 16 bytes in which a row
    is read; b_steps: b's. All of it is one run of loads at fixed offsets and of multiply-adds, without a loop.
    """
    width, (a_stride, a_spacing), (b_stride, b_spacing) = lanes(real), a_steps, b_steps
    if SIMULATED:

        def add(c: Any, a: Any, a_at: int, b: Any, b_at: int) -> None:
            for p in range(depth):
                for r in range(rows):
                    x = a[a_at + p * a_stride + r // width * a_spacing + r % width]
                    for s in range(columns):
                        c[r * columns + s] += x * b[b_at + p * b_stride + s // width * b_spacing + s % width]

        return add

    from numba.cuda.extending import intrinsic

    element, vector, i64 = _element(real), _vector(real), ir.IntType(64)

    @intrinsic
    def outer_products(typingctx: Any, c: Any, a: Any, a_at: Any, b: Any, b_at: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def data(n: int) -> Any:
                return context.make_array(sig.args[n])(context, builder, args[n]).data

            def start(n: int) -> Any:
                return builder.gep(data(n), [context.cast(builder, args[n + 1], sig.args[n + 1], types.int64)])

            def row(first: Any, at: int, count: int, spacing: int) -> list[Any]:
                values = []
                for group in range(count // width):
                    here = builder.gep(first, [ir.Constant(i64, at + group * spacing)])
                    loaded = builder.load(builder.bitcast(here, vector.as_pointer()), align=VECTOR_BYTES)
                    lane = (ir.Constant(ir.IntType(32), q) for q in range(width))
                    values += [builder.extract_element(loaded, q) for q in lane]
                return values

            name = f"llvm.fma.f{8 * VECTOR_BYTES // width}"
            fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(element, [element] * 3), name)
            places = [builder.gep(data(0), [ir.Constant(i64, n)]) for n in range(rows * columns)]
            sums = [builder.load(place) for place in places]
            a_start, b_start = start(1), start(3)
            for p in range(depth):
                x = row(a_start, p * a_stride, rows, a_spacing)
                y = row(b_start, p * b_stride, columns, b_spacing)
                for n in range(rows * columns):
                    sums[n] = builder.call(fma, [x[n // columns], y[n % columns], sums[n]])
            for place, value in zip(places, sums, strict=True):
                builder.store(value, place)
            return context.get_dummy_value()

        return types.void(c, a, a_at, b, b_at), codegen

    return outer_products


def _element(real: Any) -> Any:
    return ir.FloatType() if str(real) == "float32" else ir.DoubleType()


def _vector(real: Any) -> Any:
    return ir.VectorType(_element(real), lanes(real))


@functools.cache
def maths_of(real: Any) -> Maths:
    """The maths of a type, for all kernels: each function and rule is compiled once in a process."""
    return functions(real, inline, _float_bits(real))


def _float_bits(real: Any) -> Bits:
    if SIMULATED:
        return _simulated_bits(np.dtype(str(real)).type)
    from numba.cuda.extending import intrinsic

    return float_bits.bits(real, intrinsic)


def _simulated_bits(real: Any) -> Bits:
    """The same, of NumPy's numbers of a type."""

    def exponent(x: Any) -> Any:
        mantissa, e = np.frexp(x)  # in [1/2, 1)
        return real(e - (mantissa < np.sqrt(0.5)))

    def select(condition: Any, a: Any, b: Any) -> Any:
        return real(a if condition else b)

    return Bits(lambda n: np.ldexp(real(1.0), int(n)), exponent, lambda x, e: np.ldexp(x, -int(e)), select, np.sqrt)
