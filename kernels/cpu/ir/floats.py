"""Floating-point numbers inside kernels: their bits, and how the processor takes subnormal ones."""

from typing import Any

from kernels.cpu.compiler.shipped.library import machine
from kernels.deferred import cgutils, intrinsic, ir, types
from kernels.maths.float_bits import bits as bits

# Subnormal numbers count as zero, as arguments and as results. MXCSR of x86: flush to zero, denormals are zero. FPCR
# of 64-bit Arm: flush to zero. Nothing elsewhere
FLUSH_SUBNORMALS = {"x86_64": 0x8040, "AMD64": 0x8040, "aarch64": 1 << 24, "arm64": 1 << 24}.get(machine(), 0)


@intrinsic
def mode(typingctx: Any) -> Any:
    """This thread's floating-point control register, as int64; 0 on machines other than x86-64 and 64-bit Arm."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        i64 = ir.IntType(64)
        if builder.module.triple.startswith("x86_64"):
            here = cgutils.alloca_once(builder, ir.IntType(32))
            _call(builder, "llvm.x86.sse.stmxcsr", ir.VoidType(), builder.bitcast(here, ir.IntType(8).as_pointer()))
            return builder.zext(builder.load(here), i64)
        if builder.module.triple.startswith(("aarch64", "arm64")):
            return _call(builder, "llvm.aarch64.get.fpcr", i64)
        return ir.Constant(i64, 0)

    return types.int64(), codegen


@intrinsic
def set_mode(typingctx: Any, value: Any) -> Any:
    """Write what `mode` reads."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith("x86_64"):
            here = cgutils.alloca_once_value(builder, builder.trunc(args[0], ir.IntType(32)))
            _call(builder, "llvm.x86.sse.ldmxcsr", ir.VoidType(), builder.bitcast(here, ir.IntType(8).as_pointer()))
        elif builder.module.triple.startswith(("aarch64", "arm64")):
            _call(builder, "llvm.aarch64.set.fpcr", ir.VoidType(), args[0])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def of_bits(typingctx: Any, value: Any) -> Any:
    """The float32 whose bits are those of an int32."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


def _call(builder: Any, name: str, returns: Any, *args: Any) -> Any:
    fnty = ir.FunctionType(returns, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), args)
