"""The LLVM functions that kernels are made of, with their attributes, and the C functions that call them."""

import copy
from typing import Any

from llvmlite import ir
from numba.core import lowering
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import InlineOverloads, NativeLowering, NopythonRewrites
from numba.core.untyped_passes import InlineClosureLikes

from kernels.cpu.compiler.attributes import NULL_IS_VALID, WIDE
from kernels.cpu.compiler.matrix import flat, gathered

# Passes for what kernels do not hold: NumPy arrays, functions within functions, overloads to inline
UNUSED = (InlineClosureLikes, InlineOverloads, NopythonRewrites)


class _Lower(lowering.Lower):
    attributes: tuple[str, ...] = (WIDE,)

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        for attribute in self.attributes:  # llvmlite lists neither, but writes what the set holds
            set.add(self.function.attributes, attribute)


class _LowerKernel(_Lower):
    """A kernel's own function becomes the body of a C function, so that a call of a kernel is one call."""

    def setup_function(self, fndesc: Any) -> None:
        body = copy.copy(fndesc)
        body.mangled_name += "_body"
        super().setup_function(body)
        self.function.linkage = "internal"

    def lower_normal_function(self, fndesc: Any) -> None:
        """Lower the function, and write the C function that it goes into."""
        super().lower_normal_function(fndesc)
        context = self.context
        self._write_c_function(fndesc)
        # Numba asks where the function itself is. Nobody calls that
        itself = context.declare_function(self.module, fndesc)
        ir.IRBuilder(itself.append_basic_block("entry")).unreachable()

    def _write_c_function(self, fndesc: Any) -> None:
        """The C function, as Numba writes it, but for matrices, of which it takes single words."""
        context = self.context
        words = [context.get_value_type(kind) for kind in flat(fndesc.argtypes)]
        fnty = ir.FunctionType(context.get_value_type(fndesc.restype), words)
        wrapper = ir.Function(self.module, fnty, fndesc.llvm_cfunc_wrapper_name)
        set.add(wrapper.attributes, WIDE)
        builder = ir.IRBuilder(wrapper.append_basic_block("entry"))
        arguments = gathered(context, builder, fndesc.argtypes, wrapper.args)
        _, result = context.call_conv.call_function(  # kernels raise nothing
            builder, self.function, fndesc.restype, fndesc.argtypes, arguments, attrs=("alwaysinline",)
        )
        builder.ret(result)

    def create_cfunc_wrapper(self) -> None:
        """It is there already."""


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
class LoweringOfKernel(Lowering):
    """The same for a kernel's own function."""

    _name = "fastnn_lowering_of_kernel"

    @property
    def lowering_class(self) -> type:
        """What writes a function's LLVM code."""
        return _LowerKernel


@register_pass(mutates_CFG=True, analysis_only=False)
class LoweringOfAddresses(Lowering):
    """The same for an inlined function that makes pointers of addresses."""

    _name = "fastnn_lowering_of_addresses"

    @property
    def lowering_class(self) -> type:
        """What writes a function's LLVM code."""
        return _LowerAddresses


def pipeline(state: Any, lowering: type[Lowering]) -> Any:
    """Numba's passes, with a lowering of these in the place of its own, and without `UNUSED`; not finalized."""
    passes = DefaultPassBuilder.define_nopython_pipeline(state)
    passes.passes = [
        (lowering, "lowering with attributes") if step is NativeLowering else (step, why)
        for step, why in passes.passes
        if step not in UNUSED
    ]
    return passes


class KernelCompiler(Compiler):
    """The compiler of a kernel's own function."""

    def define_pipelines(self) -> list[Any]:
        """The one list of passes."""
        self.state.flags.forceinline = False  # which Numba hands down from an inlined function that calls the kernel
        passes = pipeline(self.state, LoweringOfKernel)
        passes.finalize()
        return [passes]
