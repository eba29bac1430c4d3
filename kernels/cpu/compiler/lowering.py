"""The LLVM functions that kernels are made of, with their attributes, and the C functions that call them."""

from typing import Any

from llvmlite import ir
from numba.core import lowering
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

from kernels.cpu.compiler.attributes import NULL_IS_VALID, WIDE
from kernels.cpu.compiler.matrix import flat, gathered


class _Lower(lowering.Lower):
    attributes: tuple[str, ...] = (WIDE,)

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        for attribute in self.attributes:  # llvmlite lists neither, but writes what the set holds
            set.add(self.function.attributes, attribute)

    def create_cfunc_wrapper(self) -> None:
        """Write the C function, as Numba does, but for matrices, of which it takes single words."""
        context, fndesc = self.context, self.fndesc
        words = [context.get_value_type(kind) for kind in flat(fndesc.argtypes)]
        module = context.create_module("cfunc_wrapper")
        fnty = context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes)
        callee = ir.Function(module, fnty, fndesc.llvm_func_name)
        fnty = ir.FunctionType(context.get_value_type(fndesc.restype), words)
        wrapper = ir.Function(module, fnty, fndesc.llvm_cfunc_wrapper_name)
        builder = ir.IRBuilder(wrapper.append_basic_block("entry"))
        arguments = gathered(context, builder, fndesc.argtypes, wrapper.args)
        status, result = context.call_conv.call_function(
            builder, callee, fndesc.restype, fndesc.argtypes, arguments, attrs=("noinline",)
        )
        with builder.if_then(status.is_error, likely=False):
            python = context.get_python_api(builder)
            state = python.gil_ensure()
            context.call_conv.raise_error(builder, python, status)
            name = python.string_from_string(context.insert_const_string(builder.module, fndesc.qualname))
            python.err_write_unraisable(name)
            python.decref(name)
            python.gil_release(state)
        builder.ret(result)
        self.library.add_ir_module(module)


class _LowerAddresses(_Lower):
    attributes = (WIDE, NULL_IS_VALID)


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(NativeLowering):
    """Numba's lowering, for wide vectors."""

    _name = "fastnn_lowering"

    @property
    def lowering_class(self) -> type:
        """What writes a function's LLVM code."""
        return _Lower


@register_pass(mutates_CFG=True, analysis_only=False)
class LoweringOfAddresses(Lowering):
    """The same for an inlined function that makes pointers of addresses."""

    _name = "fastnn_lowering_of_addresses"

    @property
    def lowering_class(self) -> type:
        """What writes a function's LLVM code."""
        return _LowerAddresses


def pipeline(state: Any, lowering: type[Lowering]) -> Any:
    """Numba's passes, with a lowering of these in the place of its own; not finalized."""
    passes = DefaultPassBuilder.define_nopython_pipeline(state)
    steps = [step for step, _ in passes.passes]
    passes.passes[steps.index(NativeLowering)] = (lowering, "lowering with attributes")
    return passes


class KernelCompiler(Compiler):
    """The compiler of a kernel's own function."""

    def define_pipelines(self) -> list[Any]:
        """The one list of passes."""
        self.state.flags.forceinline = False  # which Numba hands down from an inlined function that calls the kernel
        passes = pipeline(self.state, Lowering)
        passes.finalize()
        return [passes]
