"""Performance without a clock: what the compiler made of the kernels, for every instruction set.

The micro-kernels are compiled for machines that need not be this one; of their loop over k it is known how many
multiply-adds, vector loads and broadcasts it takes, and one instruction more that touches memory is a register spilled.
"""

import functools
import platform
import re
from collections import Counter

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba import types

from kernels.activations import ACTIVATIONS
from kernels.cpu import tuning
from kernels.cpu.ir import instruction_sets
from kernels.cpu.product import micro_kernel
from kernels.losses import LOSSES
from kernels.optimizers.declaration import known_updates
from tests.programs import environment, run

REALS = {"float32": types.float32, "float64": types.float64}
X86 = "x86_64-unknown-linux-gnu"
# kinds of machines that have each instruction set: LLVM orders a loop's instructions by what it knows of the machine
MACHINES = {
    "skylake-avx512": ("avx512", X86),
    "icelake-server": ("avx512", X86),
    "znver4": ("avx512", X86),
    "haswell": ("avx2", X86),
    "x86-64": ("generic", X86),
    "cortex-a72": ("neon", "aarch64-unknown-linux-gnu"),
}
REGISTER = {"avx512": "%zmm", "avx2": "%ymm", "generic": "%xmm"}


@functools.cache
def code(isa, triple, real, blocks, masked, packed):
    """LLVM code of micro-kernels, with their names by block (rows, vectors)."""
    module = ir.Module("micro_kernels")
    module.triple = triple
    names = {}
    for mr, nv in blocks:
        function = micro_kernel.micro_kernel(module, isa, real, mr, nv, masked, packed)
        function.linkage = "external"
        names[mr, nv] = function.name
    return str(module), names


def assembly(cpu, real, blocks, masked, packed):
    """The assembly of micro-kernels, optimised as Numba does, by block (rows, vectors)."""
    name, triple = MACHINES[cpu]
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    written, names = code(instruction_sets.INSTRUCTION_SETS[name], triple, real, tuple(blocks), masked, packed)
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features="", opt=3)
    parsed = llvm.parse_assembly(written)
    parsed.verify()
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    text = machine.emit_assembly(parsed)
    bodies = {}
    for block, name in names.items():
        bodies[block] = re.search(rf"^{name}:\n(.*?)^\.Lfunc_end", text, re.MULTILINE | re.DOTALL)[1]
    return bodies


def loops_of(body):
    """The innermost loops, which go over k: the instructions from each label up to a jump back to it."""
    lines = [line.split("#")[0].split("//")[0].strip() for line in body.splitlines()]
    lines = [line for line in lines if line and (not line.startswith(".") or line.endswith(":"))]
    loops = []
    for end, line in enumerate(lines):
        target = re.search(r"(\.L\w+)$", line)
        if target and f"{target[1]}:" in lines[:end]:
            loop = lines[lines.index(f"{target[1]}:") + 1 : end + 1]
            if not any(line.endswith(":") for line in loop):
                loops.append(loop)
    assert loops
    return loops


def count(isa, real, loop):
    """How often the loop multiplies, adds, loads vectors, broadcasts elements, touches memory or the stack, calls."""
    found = Counter()
    for line in loop:
        name = line.split()[0]
        found["calls"] += name in ("callq", "call", "bl", "blr")
        if isa.name == "neon":
            found["multiply_adds"] += name == "fmla"
            found["vector_loads"] += {"ldr": 1, "ldp": 2}.get(name, 0) * bool(re.match(r"ld[rp]\s+q", line))
            elements = bool(re.match(r"ld(r|ur|p)\s+[sd]\d", line))
            found["broadcasts"] += {"ld1r": 1, "ldr": elements, "ldur": elements, "ldp": 2 * elements}.get(name, 0)
            memory = "[" in line.replace(".s[", "").replace(".d[", "")
            found["memory"] += {"ldp": 2}.get(name, 1) * memory
            found["stack"] += memory and "[sp" in line
            continue
        letter = "s" if real == types.float32 else "d"
        wide, memory = REGISTER[isa.name] in line, "(%" in line and not name.startswith("lea")
        packed = name.endswith(f"p{letter}") and wide
        broadcast = memory and ("{1to" in line or name in (f"vbroadcasts{letter}", "vmovddup", f"movs{letter}"))
        found["multiply_adds"] += packed and name.startswith("vfmadd")
        found["multiplies"] += packed and name.startswith("mul")
        found["adds"] += packed and name.startswith("add")
        found["broadcasts"] += broadcast
        found["vector_loads"] += memory and packed and not broadcast and not line.endswith(")")
        found["memory"] += memory
        found["stack"] += memory and "%rsp" in line
    return found


def expected(isa, mr, nv):
    """The counts of one step along k."""
    products = {"multiply_adds": mr * nv} if isa.fma else {"multiplies": mr * nv, "adds": mr * nv}
    return products | {"vector_loads": nv, "broadcasts": mr, "memory": mr + nv}


def check(isa, real, mr, nv, body, packed):
    """Every loop takes a whole number of steps along k a round, and nothing more than they need."""
    wanted, rounds = expected(isa, mr, nv), []
    for loop in loops_of(body):
        found = count(isa, real, loop)
        steps = found["multiply_adds" if isa.fma else "multiplies"] // (mr * nv)
        rounds.append(steps)
        if mr * nv >= 8:
            assert {name: n for name, n in found.items() if n} == {name: steps * n for name, n in wanted.items()}
        else:  # which LLVM may unroll, to load several elements of a at once
            assert steps > 0
            assert found["memory"] <= steps * wanted["memory"]
            assert found["stack"] == found["calls"] == 0
    if mr * nv >= 8 and 2 * mr > isa.mr and not packed:
        assert rounds[0] == tuning.UNROLL


@pytest.mark.parametrize("packed", [False, True], ids=["rows", "packed"])
@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("cpu", MACHINES)
def test_micro_kernels(cpu, real, packed):
    isa = instruction_sets.INSTRUCTION_SETS[MACHINES[cpu][0]]
    blocks = micro_kernel.blocks_of(isa)
    # where a masked load is not one instruction, ragged columns take a slow path of their own
    for masked in (False, True) if isa.masks else (False,):
        for (mr, nv), body in assembly(cpu, REALS[real], blocks, masked, packed).items():
            check(isa, REALS[real], mr, nv, body, packed)


@pytest.mark.parametrize("real", REALS)
@pytest.mark.parametrize("cpu", MACHINES)
def test_a_block_that_does_not_fit_is_seen(cpu, real):
    isa = instruction_sets.INSTRUCTION_SETS[MACHINES[cpu][0]]
    registers = 32 if isa.name in ("avx512", "neon") else 16
    rows = registers // isa.nv
    (body,) = assembly(cpu, REALS[real], [(rows, isa.nv)], masked=False, packed=True).values()
    (loop,) = loops_of(body)
    assert count(isa, REALS[real], loop)["stack"] > 0
    with pytest.raises(AssertionError):
        check(isa, REALS[real], rows, isa.nv, body, packed=True)


@pytest.mark.parametrize("isa", instruction_sets.INSTRUCTION_SETS.values(), ids=lambda isa: isa.name)
def test_the_block_fits_the_registers(isa):
    # accumulators, vectors of B, and one broadcast; and enough accumulators to hide the multiply-adds' latency
    registers = 32 if isa.name in ("avx512", "neon") else 16
    assert isa.mr * isa.nv + isa.nv + 1 <= registers
    assert isa.mr * isa.nv >= 8


# Elementwise kernels: compiled afresh in another process, as what is in the cache has no assembly, and left there for
# all that needs them; so these tests come first, see conftest.py
COMPILE = """
import math, os
from pathlib import Path
from kernels.cpu.engine.layers import dropout
from kernels.cpu.engine.operations import update
from kernels.cpu.rowwise import elementwise, loss
from kernels.activations import ACTIVATIONS
from kernels.cpu.compiler import cache, jit
from kernels.optimizers.declaration import known_updates

cache.Cache.load_overload = lambda *args: None

@jit.kernel(like=elementwise.Activation)
def by_libm(real):
    def function(z, y):
        for r in range(z.rows):
            for j in range(z.columns):
                y[r][j] = math.exp(z[r][j])

    return function

families = {**loss.losses, "output": loss.output, "by_libm": by_libm, "dropout": dropout.dropout}
families |= {each.name: update.kernels_of(each) for each in known_updates()}
for name in ACTIVATIONS:
    families[name] = elementwise.forward(ACTIVATIONS[name])
    families[f"{name}_backward"] = elementwise.backward(ACTIVATIONS[name])
for name, family in families.items():
    for dtype in ("float32", "float64"):
        text = family[dtype].load()._library.get_asm_str()
        Path(os.environ["ASSEMBLY"], f"{name}_{dtype}.s").write_text(text)
"""
LIBM = {
    name + suffix
    for name in ("exp", "exp2", "expm1", "tanh", "erf", "erfc", "log", "log2", "log1p", "pow", "sqrt")
    for suffix in ("", "f")
}
PLAIN = {"identity", "identity_backward", "by_libm"}  # nothing to compute, or the one that shows what is looked for


@pytest.fixture(scope="module")
def elementwise_kernels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assembly")
    run(COMPILE, env=environment(ASSEMBLY=str(folder)))
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.s"))}


def called(text):
    """What the code calls outside itself: by name, or through a register that the name's address is moved into."""
    return set(re.findall(r"(?:\$|call\w*\s+|\bbl\s+)([A-Za-z_]\w*)", text))


def vector_arithmetic(text):
    """How many instructions compute on whole registers of this machine's widest vectors."""
    isa = instruction_sets.chosen().name
    if isa == "neon":
        return len(re.findall(r"\b(?:fmla|fmul|fadd|fmax\w*|fcm\w+)\s+v\d+\.(?:4s|2d)", text))
    register = {"avx512": "[yz]mm", "avx2": "ymm", "generic": "xmm"}[isa]  # compilers prefer ymm on some machines
    return len(re.findall(rf"\bv?(?:max|min|cmp\w*|mul|add|sub|div|f\w+)p[sd]\s.*%{register}", text))


def test_elementwise_kernels_are_vector_code(elementwise_kernels):
    assert len(elementwise_kernels) == 2 * (2 * len([*ACTIVATIONS]) + len([*LOSSES]) + len(known_updates()) + 3)
    for name, text in elementwise_kernels.items():
        family = name.rpartition("_")[0]
        if family not in PLAIN:
            assert not called(text) & LIBM, name
            assert vector_arithmetic(text) >= 1, name
        if family in ("sigmoid", "tanh", "silu", "gelu", "silu_backward", "gelu_backward"):
            assert vector_arithmetic(text) >= 10, name


@pytest.mark.skipif(instruction_sets.chosen().name != "avx512", reason="the estimates are AVX-512's")
def test_adam_neither_divides_nor_takes_roots(elementwise_kernels):
    """Its code is there twice at least, for whole vectors and for the last few columns, and spills nothing."""
    text = elementwise_kernels["adam_float32"]
    body = text[text.index("adam_avx512_float32:") :]
    body = body[: body.index(".Lfunc_end")]
    assert len(re.findall(r"vrsqrt14ps|vrcp14ps", body)) >= 4
    assert not re.findall(r"v(?:sqrt|div)ps", text)
    # %rbp is where the stack is only if it says so: on some machines it is one more pointer into the arrays
    stack = "%r[sb]p" if re.search(r"movq\s+%rsp, %rbp", body) else "%rsp"
    assert not re.findall(rf"v(?:mov\w+|fn?m\w+|\w+)ps\s.*\({stack}\).*%zmm|%zmm\d+, .*\({stack}\)", body), "spills"


def test_a_call_of_libm_is_seen(elementwise_kernels):
    for dtype, symbol in (("float32", "expf"), ("float64", "exp")):
        assert symbol in called(elementwise_kernels[f"by_libm_{dtype}"])
        assert vector_arithmetic(elementwise_kernels[f"by_libm_{dtype}"]) == 0


# For a machine that need not be this one: compiled, and not run. What is computed in `output` is all inlined
WIDE = """
from kernels.activations import ACTIVATIONS
from kernels.cpu.compiler import jit
from kernels.cpu.rowwise import elementwise, loss

for family in (elementwise.forward(ACTIVATIONS["silu"]), loss.output):
    print(family["float32"].load()._library.get_asm_str())
    print("next")
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs a machine that runs x86-64 code")
def test_kernels_use_whole_registers_of_avx512(tmp_path):
    """LLVM takes half of them unless the declaration of kernels says otherwise."""
    target = {"NUMBA_CPU_NAME": "skylake-avx512", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    for text in run(WIDE, env=environment(**target)).stdout.split("next")[:2]:
        assert len(re.findall(r"\bv(?:mul|add|sub|fn?m\w+)ps\s.*%zmm", text)) >= 30
