"""Functions that are compiled only to become part of others.

Numba optimises each jitted function, makes machine code of it and wraps it for Python, and does so once more for an
argument that is a constant. None of that is done here, as nothing but inlined copies is ever run: a first fit compiles
in two thirds of the time.
"""

from collections.abc import Callable
from typing import Any

from numba import _dynfunc, njit, types  # type: ignore[attr-defined]
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import AnalysisPass, register_pass

from kernels.cpu.compiler.attributes import OPTIONS
from kernels.cpu.compiler.lowering import Lowering, LoweringOfAddresses, pipeline


class _LinkedCode(JITCodeLibrary):
    """Code to be linked into its callers' as it is."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=True)
class _Offer(AnalysisPass):
    """Make the function known to its callers, as lowering does with what it has compiled."""

    _name = "fastnn_offer"

    def __init__(self) -> None:
        AnalysisPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        lowered = state.cr
        name, library = lowered.fndesc.qualname.rpartition(".")[2], state.library
        # Numba wants a built-in function to know it by; with address 0 it is not to be called
        known_by = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, "", 0, lowered.env, (library,))
        state.targetctx.insert_user_function(known_by, lowered.fndesc, [library])
        state.cr = lowered._replace(cfunc=known_by)
        return False


class _Inlining(CompilerBase):
    lowering = Lowering

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.library = _LinkedCode(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = state.flags.no_cpython_wrapper = state.flags.no_cfunc_wrapper = True
        passes = pipeline(state, self.lowering)
        passes.add_pass_after(_Offer, self.lowering)
        passes.finalize()
        return [passes]


class _InliningOfAddresses(_Inlining):
    lowering = LoweringOfAddresses


def inlined(function: Callable[..., Any], addresses: bool) -> Callable[..., Any]:
    """The function for use inside compiled functions; Python cannot call it.

    addresses: whether it makes pointers of addresses, see attributes.py.
    """
    compiler = _InliningOfAddresses if addresses else _Inlining
    dispatcher = njit(forceinline=True, pipeline_class=compiler, **OPTIONS)(function)
    template = dispatcher.get_call_template

    def without_literals(args: Any, kws: Any) -> Any:
        return template([types.unliteral(argument) for argument in args], kws)

    dispatcher.get_call_template = without_literals
    return dispatcher
