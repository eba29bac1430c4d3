"""The machine's ceilings: multiply-adds on registers alone, and bytes a second to and from a cache or the memory."""

import time
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from kernels.cpu.compiler import jit
from kernels.cpu.compiler.declaration import Address, Size
from kernels.cpu.ir.instruction_sets import InstructionSet, bf16_unit, chosen
from kernels.cpu.ir.simd import I64, Vectors, calling, internal_function
from kernels.cpu.product import bf16
from kernels.cpu.product.bf16_tiles import DEPTH, STEP, STRIP, SUMS_ROW
from kernels.layout import address, aligned_zeros


def multiply_add_loop(real: Any) -> Any:
    """An intrinsic: `steps` rounds of MR * NV independent multiply-adds on the vectors at `target`, kept in
    registers."""
    isa = chosen()

    @intrinsic
    def loop(typingctx: Any, steps: Any, target: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            function = _multiply_add_function(builder.module, isa, real)
            builder.call(function, args)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), codegen

    return loop


def _multiply_add_function(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    function = internal_function(module, f"peak_{isa.name}_{real}", [I64, I64])
    steps, target = function.args
    v = Vectors(function, isa, real)
    build, entry = v.builder, v.builder.block
    starts = [v.load(v.offset(target, i)) for i in range(isa.mr * isa.nv)]  # different ones, for all LLVM knows
    factor = starts[0]
    loop, done = function.append_basic_block("loop"), function.append_basic_block("done")
    build.branch(loop)
    build.position_at_end(loop)
    left = build.phi(I64)
    left.add_incoming(steps, entry)
    sums = [build.phi(v.type) for _ in starts]
    new = [v.multiply_add(factor, factor, one) for one in sums]
    for one, start, after in zip(sums, starts, new, strict=True):
        one.add_incoming(start, entry)
        one.add_incoming(after, loop)
    left.add_incoming(build.sub(left, ir.Constant(I64, 1)), loop)
    build.cbranch(build.icmp_unsigned("!=", left, ir.Constant(I64, 1)), loop, done)
    build.position_at_end(done)
    total = new[0]
    for one in new[1:]:
        total = build.fadd(total, one)
    v.store(total, target)
    build.ret_void()
    return function


@jit.kernel
def multiply_adds(real: Any) -> Any:
    """`steps` rounds of MR * NV vector multiply-adds, on as many vectors at an address."""
    loop = multiply_add_loop(real)

    def function(steps: Size, target: Address) -> None:
        loop(steps, target)

    return function


def flops(dtype: str = "float32", seconds: float = 0.002) -> float:
    """Floating-point operations a second of one core, measured now, for about so long."""
    isa, kernel, steps = chosen(), multiply_adds[dtype], 1000
    target = np.zeros(isa.mr * isa.nv * isa.register_bytes, np.uint8)
    kernel(steps, address(target))
    while True:
        start = time.perf_counter()
        kernel(steps, address(target))
        taken = time.perf_counter() - start
        if taken >= seconds / 2:
            return 2 * steps * isa.mr * isa.nv * isa.lanes(np.dtype(dtype).itemsize) / taken
        steps *= 2


STEPS = 8  # of a strip, which with another stays in L1


@jit.kernel
def amx_products(real: Any) -> Any:
    """`rounds` products of one strip by one: (rounds, a, b, sums), STEPS steps each, which stay in L1."""
    return _rounds(real, bf16.amx_block(1), tiles=True)


@jit.kernel
def dot_products(real: Any) -> Any:
    """`rounds` products of one strip by one, by AVX-512's dot products."""
    return _rounds(real, bf16.dot_block, tiles=False)


def _rounds(real: Any, write_block: Any, tiles: bool) -> Any:
    block, configure = calling(write_block, real, 4), bf16.configuration()

    def function(rounds: Size, a: Address, b: Address, sums: Address) -> None:
        if tiles:
            configure(sums)
        for _ in range(rounds):
            block(STEPS, a, b, sums)
        if tiles:
            bf16.release_tiles()

    return function


def bf16_flops(seconds: float = 0.002) -> float:
    """Floating-point operations a second of one core in products of bfloat16 factors out of its L1."""
    kernel, rounds = (amx_products if bf16_unit() == "amx" else dot_products)["float32"], 1000
    strips = aligned_zeros((2 * STEPS * STEP + STRIP * SUMS_ROW) // 4, np.float32)
    # on zeros AMX makes 2.8 TFLOP/s, on numbers 1.2 to 1.5: its clock depends on how many bits change (Intel Xeon)
    strips[...] = np.random.default_rng(0).standard_normal(len(strips))
    a, b = address(strips), address(strips) + STEPS * STEP
    kernel(rounds, a, b, b + STEPS * STEP)
    while True:
        start = time.perf_counter()
        kernel(rounds, a, b, b + STEPS * STEP)
        taken = time.perf_counter() - start
        if taken >= seconds / 2:
            return 2 * rounds * STRIP**2 * STEPS * DEPTH / taken
        rounds *= 2


def stream_loop(real: Any) -> Any:
    """An intrinsic: y += x * x over `blocks` blocks of STREAM vectors, at addresses x and y."""
    isa = chosen()

    @intrinsic
    def loop(typingctx: Any, blocks: Any, x: Any, y: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            builder.call(_stream_function(builder.module, isa, real), args)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, types.int64), codegen

    return loop


STREAM = 4  # vectors in a round of the loop
LEAST_BUFFER = 4096


def _stream_function(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    function = internal_function(module, f"stream_{isa.name}_{real}", [I64] * 3)
    v = Vectors(function, isa, real)
    build, entry = v.builder, v.builder.block
    loop, done = function.append_basic_block("loop"), function.append_basic_block("done")
    build.branch(loop)
    build.position_at_end(loop)
    left, x, y = (build.phi(I64) for _ in range(3))
    for node, start in zip((left, x, y), function.args, strict=True):
        node.add_incoming(start, entry)
    for i in range(STREAM):
        factor = v.load(v.offset(x, i))
        v.store(v.multiply_add(factor, factor, v.load(v.offset(y, i))), v.offset(y, i))
    step = ir.Constant(I64, STREAM * isa.register_bytes)
    left.add_incoming(build.sub(left, ir.Constant(I64, 1)), loop)
    x.add_incoming(build.add(x, step), loop)
    y.add_incoming(build.add(y, step), loop)
    build.cbranch(build.icmp_unsigned("!=", left, ir.Constant(I64, 1)), loop, done)
    build.position_at_end(done)
    build.ret_void()
    return function


@jit.kernel
def stream(real: Any) -> Any:
    """`rounds` times y += x * x over `blocks` blocks of STREAM vectors, at addresses x and y."""
    loop = stream_loop(real)

    def function(rounds: Size, blocks: Size, x: Address, y: Address) -> None:
        for _ in range(rounds):
            loop(blocks, x, y)

    return function


def bandwidth(buffer: np.ndarray, seconds: float = 0.002) -> float:
    """Bytes a second that one core reads and writes in a zero buffer, measured now, for about so long.

    Two are read for each that is written, as in a step of an optimiser. The buffer's size, at least LEAST_BUFFER,
    decides which cache, or the memory, is measured.
    """
    kernel, half, rounds = stream["float32"], buffer.nbytes // 2, 1
    block = STREAM * chosen().register_bytes
    blocks = half // block
    x, y = address(buffer), address(buffer) + blocks * block
    kernel(1, blocks, x, y)
    while True:
        start = time.perf_counter()
        kernel(rounds, blocks, x, y)
        taken = time.perf_counter() - start
        if taken >= seconds / 2:
            return 3 * rounds * blocks * block / taken
        rounds *= 2
