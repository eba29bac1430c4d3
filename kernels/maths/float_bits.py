"""What the scalar maths asks of a target: functions on a float's bits, written once as LLVM IR for all of them."""

from collections.abc import Callable
from typing import Any

from kernels.deferred import cgutils, intrinsic, ir, types
from kernels.maths.functions import Bits


def bits(real: Any, intrinsic: Callable[..., Any] = intrinsic) -> Bits:
    """The functions for one dtype. intrinsic: the target's decorator."""
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
            return _call(builder, f"llvm.sqrt.f{32 if single else 64}", element, *args)

        return real(real), codegen

    return Bits(power_of_two, exponent, scale, select, sqrt)


def _call(builder: Any, name: str, returns: Any, *args: Any) -> Any:
    fnty = ir.FunctionType(returns, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, fnty, name), args)
