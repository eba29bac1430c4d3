"""A part of a level's kernels, as object files: python -m kernels.cpu.compiler.shipped.emit PART PARTS FOLDER [usual].

A process of its own, which FASTNN_MAKING tells the level: Numba writes code for one machine. Nothing of it is run.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core.codegen import CPUCodeLibrary, JITCPUCodegen
from numba.core.registry import cpu_target

from kernels.activations import ACTIVATIONS
from kernels.cpu.compiler import compiling
from kernels.cpu.compiler.jit import Family, Kernel
from kernels.cpu.compiler.matrix import flat
from kernels.cpu.compiler.shipped import library
from kernels.cpu.compiler.shipped.levels import Level
from kernels.cpu.engine.operations.gather import gathers
from kernels.cpu.ir import system
from kernels.cpu.product.gemm_bf16 import OF_UNIT, PRODUCTS
from kernels.losses import LOSSES
from kernels.optimizers.declaration import known_updates

DTYPES = ("float32", "float64")
OPTIMISATION = 3  # Numba's own
# Of what networks choose among, what most of them choose
USUAL = {
    "identity", "relu", "sigmoid", "tanh", "sgd", "momentum", "adam",
    "gather_bool", "gather_uint8", "gather_int64", "gather_float32", "gather_float64",
    "loss_mean_squared_error", "loss_sigmoid_cross_entropy", "loss_softmax_cross_entropy",
}  # fmt: skip


class _Library(CPUCodeLibrary):
    """Code that is optimised and kept."""

    def _finalize_specific(self) -> None:
        """It is not linked into this process."""

    def get_pointer_to_function(self, name: str) -> int:
        """Nobody calls it here."""
        return 1


class _Codegen(JITCPUCodegen):
    """What Numba writes code with, for a level."""

    _library_class: Any = _Library

    def __init__(self, level: Level) -> None:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        self.level = level
        super().__init__(f"fastnn for {level.name}")

    def _init(self, llvm_module: Any) -> None:
        self._llvm_module, level = llvm_module, self.level
        self._tm = machine_of(level)
        self._tm_features, self._target_data = level.features, self._tm.target_data
        self._data_layout = str(self._target_data)
        self._loopvect, self._opt_level = False, 0  # as Numba's own: of the first of two passes

    def _create_empty_module(self, name: str) -> Any:
        module = super()._create_empty_module(name)
        module.triple = self.level.triple
        return module

    def _add_module(self, module: Any) -> None:
        """There is nothing to add it to."""

    def set_env(self, env_name: str, env: Any) -> None:
        """Code that is shipped asks for nothing of Python's."""

    def magic_tuple(self) -> tuple[str, str, str]:
        """(triple, CPU, features)."""
        return self.level.triple, self.level.cpu, self.level.features


def machine_of(level: Level) -> Any:
    """LLVM's machine of a level, for code that may be loaded anywhere."""
    target = llvm.Target.from_triple(level.triple)
    return target.create_target_machine(
        cpu=level.cpu, features=level.features, opt=OPTIMISATION, reloc="pic", codemodel="default"
    )


def kernels_of(level: Level, usual: bool = False) -> list[Kernel]:
    """The kernels of a level; usual: those alone that most networks are trained by."""
    importlib.import_module("kernels.cpu.engine.engine")  # which imports all that declare some
    families = [family for family in Family.known.values() if family not in PRODUCTS]
    if usual:
        chosen_among = [*ACTIVATIONS, *(f"loss_{name}" for name in LOSSES), *(each.name for each in known_updates())]
        chosen_among += [family.name for family in gathers.values()]
        rare = {*chosen_among} - USUAL
        return [family["float32"] for family in families if family.name.removesuffix("_backward") not in rare]
    rounding = [family["float32"] for family in OF_UNIT[level.bf16]]
    return [family[dtype] for dtype in DTYPES for family in families] + rounding


def emit(kernel: Kernel, machine: Any) -> tuple[bytes, list[str]]:
    """A kernel as an object file, and what it returns and takes, by Numba's names."""
    module, name = compiling.optimised(kernel)
    module.get_function(name).name = kernel.symbol
    returned, taken = kernel.types
    return machine.emit_object(module), [str(returned), *map(str, flat(taken))]


def calls_of_the_system(level: Level) -> bytes:
    """The functions of system.py, as an object file: each calls what is at an address that the loader writes."""
    i32, i64, void = ir.IntType(32), ir.IntType(64), ir.VoidType()
    kinds = {
        system.YIELD: (i32, []), system.ACQUIRE: (void, [i64, i32]), system.RELEASE: (void, [i64]),
        system.ALLOCATE: (i64, [i64]), system.FREE: (void, [i64]),
    }  # fmt: skip
    module = ir.Module("system")
    module.triple = level.triple
    for name, (returned, taken) in kinds.items():
        kind = ir.FunctionType(returned, taken)
        pointer = ir.GlobalVariable(module, kind.as_pointer(), library.pointer_to(name))
        pointer.initializer = ir.Constant(pointer.value_type, None)
        function = ir.Function(module, kind, name)
        builder = ir.IRBuilder(function.append_basic_block())
        result = builder.call(builder.load(pointer), function.args)
        if returned == void:
            builder.ret_void()
        else:
            builder.ret(result)
    return machine_of(level).emit_object(llvm.parse_assembly(str(module)))


def main(part: int, parts: int, folder: Path, usual: bool) -> None:
    """Write the part's object files and, as JSON, the kernels' signatures by their symbols."""
    level = library.making()
    if level is None:
        raise SystemExit(f"{library.MAKING} must name a level")
    cpu_target.target_context._internal_codegen = _Codegen(level)
    machine, signatures = machine_of(level), {}
    for kernel in kernels_of(level, usual)[part::parts]:
        code, signatures[kernel.symbol] = emit(kernel, machine)
        (folder / f"{kernel.symbol}.o").write_bytes(code)
    if part == 0:
        (folder / "system.o").write_bytes(calls_of_the_system(level))
    (folder / f"part{part}.json").write_text(json.dumps(signatures))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), usual=sys.argv[4:] == ["usual"])
