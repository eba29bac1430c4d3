"""Memory by address inside kernels: pointers, atomics, calls through a pointer."""

import ctypes
import os
from types import SimpleNamespace
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from . import jit

# A pause takes 10 (AMD Zen 4) to 140 (Intel since Skylake) cycles, so this is 5 to 50 us of waiting at full speed
PAUSES = 1000


def pointer(dtype: Any) -> Any:
    """An intrinsic: address (int64) -> pointer to `dtype`, indexed as p[i], without bounds."""

    @intrinsic
    def as_pointer(typingctx: Any, address: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

        return types.CPointer(dtype)(types.int64), codegen

    return as_pointer


@intrinsic
def fetch_add(typingctx: Any, address: Any, value: Any) -> Any:
    """Add to the int64 at an address; returns what was there before. Sequentially consistent."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _int64_pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def load(typingctx: Any, address: Any) -> Any:
    """The int64 at an address, with acquire order."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_int64_pointer(builder, args[0]), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def store(typingctx: Any, address: Any, value: Any) -> Any:
    """Write the int64 at an address, sequentially consistent."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[1], _int64_pointer(builder, args[0]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(typingctx: Any, address: Any, expected: Any, value: Any) -> Any:
    """Write value to the int64 at an address if it is `expected`; whether it was. Sequentially consistent."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _int64_pointer(builder, args[0])
        return builder.extract_value(builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst"), 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def float_of_bits(typingctx: Any, bits: Any) -> Any:
    """The float32 whose bits are those of an int32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def stack(typingctx: Any, size: Any) -> Any:
    """The 64-byte-aligned address of `size` bytes (a literal) on this function's stack."""
    if not isinstance(size, types.IntegerLiteral):
        return None
    length = size.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        with builder.goto_entry_block():
            block = builder.alloca(ir.ArrayType(ir.IntType(8), length))
            block.align = 64
        return builder.ptrtoint(block, ir.IntType(64))

    return types.int64(size), codegen


@intrinsic
def address_of(typingctx: Any, values: Any) -> Any:
    """The address of a tuple's values, on this function's stack."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(cgutils.alloca_once_value(builder, args[0]), ir.IntType(64))

    return types.int64(values), codegen


@intrinsic
def pause(typingctx: Any) -> Any:
    """Tell the core that this is a spin loop (x86 only; nothing elsewhere)."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            fnty = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, fnty, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx: Any) -> Any:
    """Let another thread have the core."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.IntType(32), []), YIELD), [])
        return context.get_dummy_value()

    return types.void(), codegen


# MXCSR of x86: flush to zero, denormals are zero. FPCR of 64-bit Arm: flush to zero
_FLUSH_X86, _FLUSH_ARM = 0x8040, 1 << 24


@intrinsic
def flush_subnormals(typingctx: Any) -> Any:
    """From here on this thread takes subnormal numbers for zero; returns what `restore` wants to undo it.

    Nothing happens on machines other than x86-64 and 64-bit Arm.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i32, i64, void = ir.IntType(32), ir.IntType(64), ir.VoidType()
        if builder.module.triple.startswith("x86_64"):
            here = cgutils.alloca_once(builder, i32)
            pointer = builder.bitcast(here, ir.IntType(8).as_pointer())
            access = ir.FunctionType(void, [pointer.type])
            builder.call(cgutils.get_or_insert_function(builder.module, access, "llvm.x86.sse.stmxcsr"), [pointer])
            before = builder.load(here)
            builder.store(builder.or_(before, ir.Constant(i32, _FLUSH_X86)), here)
            builder.call(cgutils.get_or_insert_function(builder.module, access, "llvm.x86.sse.ldmxcsr"), [pointer])
            return builder.zext(before, i64)
        if builder.module.triple.startswith(("aarch64", "arm64")):
            get = cgutils.get_or_insert_function(builder.module, ir.FunctionType(i64, []), "llvm.aarch64.get.fpcr")
            put = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [i64]), "llvm.aarch64.set.fpcr")
            before = builder.call(get, [])
            builder.call(put, [builder.or_(before, ir.Constant(i64, _FLUSH_ARM))])
            return before
        return ir.Constant(i64, 0)

    return types.int64(), codegen


@intrinsic
def restore(typingctx: Any, before: Any) -> Any:
    """Undo `flush_subnormals`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i32, i64, void = ir.IntType(32), ir.IntType(64), ir.VoidType()
        if builder.module.triple.startswith("x86_64"):
            here = cgutils.alloca_once_value(builder, builder.trunc(args[0], i32))
            pointer = builder.bitcast(here, ir.IntType(8).as_pointer())
            access = ir.FunctionType(void, [pointer.type])
            builder.call(cgutils.get_or_insert_function(builder.module, access, "llvm.x86.sse.ldmxcsr"), [pointer])
        elif builder.module.triple.startswith(("aarch64", "arm64")):
            put = cgutils.get_or_insert_function(builder.module, ir.FunctionType(void, [i64]), "llvm.aarch64.set.fpcr")
            builder.call(put, args)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


YIELD = "fastnn_yield"
if os.name == "nt":
    llvm.add_symbol(YIELD, ctypes.cast(ctypes.windll.kernel32.SwitchToThread, ctypes.c_void_p).value)  # type: ignore[attr-defined]
else:
    llvm.add_symbol(YIELD, ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value)


def _of_python(name: str, *constants: int, returns: bool = False) -> Any:
    """An intrinsic f(int64) that calls a function of CPython's C interface which asks nothing of the GIL."""
    symbol = f"fastnn_{name}"
    llvm.add_symbol(symbol, ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value)

    @intrinsic
    def call(typingctx: Any, argument: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            i32, i64 = ir.IntType(32), ir.IntType(64)
            fnty = ir.FunctionType(i64 if returns else ir.VoidType(), [i64, *[i32] * len(constants)])
            function = cgutils.get_or_insert_function(builder.module, fnty, symbol)
            result = builder.call(function, [*args, *(ir.Constant(i32, n) for n in constants)])
            return result if returns else context.get_dummy_value()

        return (types.int64 if returns else types.void)(types.int64), codegen

    return call


acquire = _of_python("PyThread_acquire_lock", 1)
release = _of_python("PyThread_release_lock")
allocate = _of_python("PyMem_RawMalloc", returns=True)  # bytes -> address, 0 where there is no memory
free = _of_python("PyMem_RawFree")


@jit.inline
def wait(spins):
    """One turn of a spin loop: a pause at first, the core given away after a while. Returns spins + 1."""
    if spins < PAUSES:
        pause()
    else:
        yield_core()
    return spins + 1


def _int64_pointer(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())


def float_bits(real: Any) -> Any:
    """The functions on a float's bits that `kernels.scalar` asks of a backend."""
    single = str(real) == "float32"
    whole = ir.IntType(32 if single else 64)
    element = ir.FloatType() if single else ir.DoubleType()
    mantissa, bias = (23, 127) if single else (52, 1023)
    # adding this to the bits of x carries into the exponent when the mantissa is at least sqrt(2)'s
    round_up = (0x3F800000 - 0x3F3504F3) if single else (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)

    def constant(value: int) -> ir.Constant:
        return ir.Constant(whole, value)

    @intrinsic
    def power_of_two(typingctx: Any, n: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            biased = builder.add(builder.fptosi(args[0], whole), constant(bias))
            return builder.bitcast(builder.shl(biased, constant(mantissa)), element)

        return real(real), codegen

    def exponent_of(builder: Any, x: Any) -> Any:
        bits = builder.add(builder.bitcast(x, whole), constant(round_up))
        return builder.sub(builder.lshr(bits, constant(mantissa)), constant(bias))

    @intrinsic
    def exponent(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.sitofp(exponent_of(builder, args[0]), element)

        return real(real), codegen

    @intrinsic
    def scale(typingctx: Any, x: Any, e: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            shift = builder.shl(exponent_of(builder, args[0]), constant(mantissa))
            return builder.bitcast(builder.sub(builder.bitcast(args[0], whole), shift), element)

        return real(real, real), codegen

    @intrinsic
    def select(typingctx: Any, condition: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.select(*args)

        return real(types.boolean, real, real), codegen

    @intrinsic
    def sqrt(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            name = f"llvm.sqrt.f{32 if single else 64}"
            function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(element, [element]), name)
            return builder.call(function, args)

        return real(real), codegen

    return SimpleNamespace(power_of_two=power_of_two, exponent=exponent, scale=scale, select=select, sqrt=sqrt)
