"""Tensor cores, below Python: numbers rounded into words, and mma.sync. Plain stand-ins in the simulator."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from kernels.cuda.compiler.target import SIMULATED, cuda

# How many elements are in a word of 32 bits, what makes one of them, and the instruction that multiplies words
WORD_ELEMENTS = {"tf32": 1, "bf16": 2}
_WORD = {"tf32": ("cvt.rna.tf32.f32 $0, $1;", "=r,f"), "bf16": ("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f")}
_MMA = {
    "tf32": "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32",
    "bf16": "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
}
STEP = 8  # words along k that an instruction multiplies


def word(precision: str) -> Any:
    """word(first, second): a word of float32 numbers, rounded to nearest; of tf32, `second` is not looked at.

    It is passed on as if it were a float32, which one of tf32 is. Needs compute capability 8.0.
    """
    n = WORD_ELEMENTS[precision]
    if SIMULATED:
        return _tf32_word if n == 1 else _bf16_word

    from numba.cuda.extending import intrinsic

    text, constraints = _WORD[precision]

    @intrinsic
    def word(typingctx: Any, first: Any, second: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            asm = ir.InlineAsm(ir.FunctionType(ir.IntType(32), [ir.FloatType()] * n), text, constraints)
            return builder.bitcast(builder.call(asm, args[:n]), ir.FloatType())

        return types.float32(types.float32, types.float32), codegen

    return word


def _tf32_word(first: Any, second: Any) -> Any:
    """A tie goes away from zero. 13 of 24 bits go."""
    bits = np.float32(first).view(np.uint32)
    return first if np.isnan(first) else ((bits + np.uint32(1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def _bf16_word(first: Any, second: Any) -> Any:
    """A tie goes to the even one. The first is the lower half."""

    def half(x: Any) -> int:
        bits = int(np.float32(x).view(np.uint32))
        return 0x7FFF if np.isnan(x) else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16

    return np.uint32(half(second) << 16 | half(first)).view(np.float32)


# A load of side-by-side words: at which offset, and what they are called. A product: the words of a and of b that an
# instruction takes, and where in c its sums are.
Loads = tuple[tuple[int, tuple[Any, ...]], ...]
Products = tuple[tuple[tuple[Any, ...], tuple[Any, ...], tuple[int, ...]], ...]


def matrix_products(
    precision: str, steps: int, a_loads: Loads, a_step: int, b_loads: Loads, b_step: int, products: Products
) -> Any:
    """add(c, a, a_at, b, b_at): c, in registers, += the products of a warp's threads, in `steps` steps of STEP words.

    Step p reads words at a_at + p * a_step and b_at + p * b_step. A warp's 32 threads call it together. All of it is
    one run of loads at fixed offsets and of mma.sync. Needs compute capability 8.0.
    """
    if SIMULATED:
        return _simulated_products(precision, steps, a_loads, a_step, b_loads, b_step, products)

    from numba.cuda.extending import intrinsic

    element, i32, i64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
    sums_type = ir.LiteralStructType([element] * 4)
    mma = ir.InlineAsm(
        ir.FunctionType(sums_type, [i32] * 6 + [element] * 4),
        f"{_MMA[precision]} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};",
        "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f",
    )

    @intrinsic
    def matrix_products(typingctx: Any, c: Any, a: Any, a_at: Any, b: Any, b_at: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            def data(n: int) -> Any:
                return context.make_array(sig.args[n])(context, builder, args[n]).data

            def start(n: int) -> Any:
                return builder.gep(data(n), [context.cast(builder, args[n + 1], sig.args[n + 1], types.int64)])

            def read(first: Any, at: int, loads: Loads) -> dict[Any, Any]:
                words = {}
                for offset, names in loads:
                    here = builder.gep(first, [ir.Constant(i64, at + offset)])
                    vector = ir.VectorType(i32, len(names))
                    loaded = builder.load(builder.bitcast(here, vector.as_pointer()), align=4 * len(names))
                    for q, name in enumerate(names):
                        words[name] = builder.extract_element(loaded, ir.Constant(i32, q))
                return words

            places = {n: builder.gep(data(0), [ir.Constant(i64, n)]) for *_, used in products for n in used}
            sums = {n: builder.load(place) for n, place in places.items()}
            a_start, b_start = start(1), start(3)
            for p in range(steps):
                x, y = read(a_start, p * a_step, a_loads), read(b_start, p * b_step, b_loads)
                for a_names, b_names, used in products:
                    operands = [x[name] for name in a_names] + [y[name] for name in b_names]
                    added = builder.call(mma, operands + [sums[n] for n in used], attrs=("convergent",))
                    for q, n in enumerate(used):
                        sums[n] = builder.extract_value(added, q)
            for n, place in places.items():
                builder.store(sums[n], place)
            return context.get_dummy_value()

        return types.void(c, a, a_at, b, b_at), codegen

    return matrix_products


def _simulated_products(
    precision: str, steps: int, a_loads: Loads, a_step: int, b_loads: Loads, b_step: int, products: Products
) -> Any:
    """Each thread shows what it has read to the others of its warp, and takes what mma.sync takes: see `tensor`."""

    def show(held: np.ndarray, source: Any, at: int, step: int, loads: Loads) -> dict[Any, int]:
        places: dict[Any, int] = {}
        thread = cuda.threadIdx.x
        for offset, names in loads:
            assert (at + offset) % len(names) == 0, "what is loaded at once must be aligned"
            for q, name in enumerate(names):
                places[name] = len(places)
                for p in range(steps):
                    held[thread, p, places[name]] = source[at + p * step + offset + q]
        return places

    def numbers(words: np.ndarray) -> np.ndarray:
        if WORD_ELEMENTS[precision] == 1:
            return words.astype(np.float64)
        halves = np.ascontiguousarray(words).view(np.uint16).astype(np.uint32)
        return (halves << 16).view(np.float32).astype(np.float64)

    def add(c: Any, a: Any, a_at: int, b: Any, b_at: int) -> None:
        threads, lane = cuda.blockDim.x, cuda.threadIdx.x % 32
        group, member, warp = lane // 4, lane % 4, cuda.threadIdx.x - lane
        a_held = cuda.shared.array(threads * steps * sum(len(names) for _, names in a_loads), types.float32)
        b_held = cuda.shared.array(threads * steps * sum(len(names) for _, names in b_loads), types.float32)
        a_held, b_held = a_held.reshape(threads, steps, -1), b_held.reshape(threads, steps, -1)
        x, y = show(a_held, a, a_at, a_step, a_loads), show(b_held, b, b_at, b_step, b_loads)
        cuda.syncthreads()

        def line(held: np.ndarray, lanes: int, step: int, places: list[int]) -> np.ndarray:
            """A row of a or a column of b, from the four threads that hold it."""
            return numbers(held[warp + 4 * lanes : warp + 4 * lanes + 4, step, places].T.reshape(-1))

        for a_names, b_names, used in products:
            for q, n in enumerate(used):
                down, column = q // 2, 2 * member + q % 2  # rows `group` and group + 8
                for p in range(steps):
                    row = line(a_held, group, p, [x[a_names[down]], x[a_names[down + 2]]])
                    c[n] += np.float32(row @ line(b_held, column, p, [y[name] for name in b_names]))
        cuda.syncthreads()

    return add
