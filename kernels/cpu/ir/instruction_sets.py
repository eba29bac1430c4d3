"""Instruction sets: how wide a register is, which register block fits the micro-kernel, what multiplies bfloat16."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from kernels import deferred
from kernels.cpu.compiler.shipped.levels import tiles_allowed
from kernels.cpu.compiler.shipped.library import level_in_force
from kernels.deferred import ir, llvm

compiling = deferred.module("kernels.cpu.compiler.compiling")


@dataclass(frozen=True)
class InstructionSet:
    """One instruction set: the bytes of a register, and the register block of the micro-kernel."""

    name: str
    register_bytes: int
    mr: int  # rows of the register block
    nv: int  # vectors of the register block
    fma: bool  # whether a fused multiply-add is one instruction
    masks: bool  # whether a masked load or store is one instruction
    low: tuple[int, int] = (2, 4)  # rows and vectors of a block that is lower and wider; one row has WIDEST vectors
    tune: str = ""  # the machine whose timing LLVM orders the micro-kernel's instructions by, where not this one

    def lanes(self, itemsize: int) -> int:
        return self.register_bytes // itemsize


# MR * NV accumulators + NV vectors of B + 1 broadcast must fit the registers: 32 of AVX-512 and NEON, 16 else. Fewer
# than 8 accumulators leave the FMA units waiting (4 cycles of latency, 2 a cycle). Of the blocks that fit, on AMD
# Zen 4 (share of the FMA peak, B in L2, K 256): 12x2 99 %, 14x2 99 %, 6x4 98 %, 2x1 49 %; with AVX2 6x2 93 %, 4x3 95 %,
# 3x4 42 % (it spills). 12x2 divides the row counts people use with the least waste.
# One or two rows of NV vectors are too few sums to keep the multiply-add units busy, so those have more vectors: one
# row of 784-256-128-10 takes 10.4 us of kernels with 2 vectors, 7.5 with 8. And 6x4 has half of 12x2's row addresses
# and broadcasts: where b is in L1 it makes 1.05 to 1.15 times 12x2's rate (from 3 rows to 1000; Intel Xeon).
WIDEST = 8
INSTRUCTION_SETS = {
    # by its model of Skylake-X, LLVM loads so early that 3 of 12x2 x 4 steps spill; by the others' none does
    "avx512": InstructionSet("avx512", 64, mr=12, nv=2, fma=True, masks=True, low=(6, 4), tune="icelake-server"),
    "avx2": InstructionSet("avx2", 32, mr=6, nv=2, fma=True, masks=True),
    "neon": InstructionSet("neon", 16, mr=8, nv=3, fma=True, masks=False),
    "generic": InstructionSet("generic", 16, mr=4, nv=2, fma=False, masks=False),
}


@cache
def chosen() -> InstructionSet:
    """The instruction set of the machine that Numba compiles for, NUMBA_CPU_NAME and NUMBA_CPU_FEATURES included."""
    level = level_in_force()
    if level is not None:
        return INSTRUCTION_SETS[level.instruction_set]
    triple, cpu, features = compiling.target_machine()
    assembly = compiling.uninterrupted(lambda: _probe(triple, cpu, features))
    if "zmm" in assembly:
        name = "avx512"
    elif "vfmadd" in assembly and "ymm" in assembly:
        name = "avx2"
    elif "fmla" in assembly:
        name = "neon"
    else:
        name = "generic"
    return INSTRUCTION_SETS[name]


def _probe(triple: str, cpu: str, features: str) -> str:
    """The assembly of one 64-byte fused multiply-add: what registers and instructions the machine has."""
    vector = ir.VectorType(ir.FloatType(), 16)
    module = ir.Module("probe")
    module.triple = triple
    pointer = vector.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, pointer]), "probe")
    builder = ir.IRBuilder(function.append_basic_block())
    a, b = (builder.load(p, align=4) for p in function.args)
    fma = ir.Function(module, ir.FunctionType(vector, [vector] * 3), "llvm.fmuladd.v16f32")
    builder.store(builder.call(fma, [a, b, b]), function.args[0], align=4)
    builder.ret_void()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=1)
    return machine.emit_assembly(llvm.parse_assembly(str(module)))


def itemsize(real: Any) -> int:
    """Bytes of one element."""
    return 4 if str(real) == "float32" else 8


@cache
def bf16_unit() -> str:
    """What multiplies bfloat16 numbers here: "amx", "avx512" or "", nothing."""
    level = level_in_force()
    if level is not None:
        return level.bf16
    features = compiling.target_machine()[2].split(",")
    if "+avx512bf16" not in features or chosen().name != "avx512":
        return ""
    return "amx" if {"+amx-tile", "+amx-bf16"} <= set(features) and tiles_allowed() else "avx512"
