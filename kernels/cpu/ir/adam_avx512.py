"""Adam's step in AVX-512 code, by the instructions that estimate 1 / sqrt(x) and 1 / x.

A square root and a division keep their unit for longer than all the rest of the step takes. An estimate of 14 bits and
a Newton step each, two in float64, are operations that run beside others. Rows of 10 numbers, too, are whole masked
vectors.
"""

from typing import Any

from llvmlite import ir

from kernels.cpu.ir.instruction_sets import InstructionSet, chosen
from kernels.cpu.ir.masked_rows import each_vector
from kernels.cpu.ir.simd import I32, I64, Vectors, calling, element, internal_function

POSITIVE_INFINITY = 0x08  # of vfpclassps
SCALARS = (
    9  # rate, beta1, share1, beta2, share2, epsilon, correction1, correction2, see kernels.optimizers.adam; then l2
)


def rows_step(module: ir.Module, isa: InstructionSet, real: Any) -> ir.Function:
    """Write (or find) a step on rows of parameters: (rows, columns, w, ldw, g, ldg, m, v, *SCALARS).

    w, m and v have rows `ldw` bytes apart, g `ldg`. Estimates and Newton steps err by some 3 units in the last place of
    what w changes by. Where v is infinite nothing changes, as by a division.
    """
    function = internal_function(module, f"adam_{isa.name}_{real}", [*[I64] * 8, *[element(real)] * SCALARS])
    if not function.is_declaration:
        return function
    rows, columns, w, ldw, g, ldg, m, v, *scalars = function.args
    x = Vectors(function, isa, real)
    build = x.builder
    rate, beta1, share1, beta2, share2, epsilon, correction1, correction2, l2 = (x.splat(value) for value in scalars)
    factor = build.fmul(rate, correction1)
    kind, newton_steps, most = ("ps", 1, 2.0**127) if x.size == 4 else ("pd", 2, 2.0**511)
    zero, one, half, largest = (ir.Constant(x.type, [value] * x.lanes) for value in (0.0, 1.0, 0.5, most))
    every = ir.Constant(ir.IntType(x.lanes), -1)

    def estimate(name: str, value: Any) -> Any:
        f = x.declare(f"llvm.x86.avx512.{name}14.{kind}.512", x.type, x.type, x.type, every.type)
        return build.call(f, [value, zero, every])

    def step(at: list[Any], masked: bool) -> None:
        """One vector of parameters, of the gradient and of m and v."""
        w_now, g_now, m_now, v_now = (x.load(address, masked) for address in at)
        g_now = x.multiply_add(l2, w_now, g_now)
        m_now = x.multiply_add(beta1, m_now, build.fmul(share1, g_now))
        v_now = x.multiply_add(beta2, v_now, build.fmul(share2, build.fmul(g_now, g_now)))
        square = build.fmul(v_now, correction2)
        r = estimate("rsqrt", square)
        r = build.select(build.fcmp_ordered("<", r, largest), r, largest)  # of 0 it is infinite
        for _ in range(newton_steps - 1):
            left = x.multiply_add(build.fneg(build.fmul(square, r)), r, one)
            r = x.multiply_add(build.fmul(half, r), left, r)
        root = build.fmul(square, r)
        root = x.multiply_add(build.fmul(half, root), x.multiply_add(build.fneg(root), r, one), root)
        below = build.fadd(root, epsilon)
        q = estimate("rcp", below)
        for _ in range(newton_steps):
            q = x.multiply_add(q, x.multiply_add(build.fneg(below), q, one), q)
        classify = x.declare(f"llvm.x86.avx512.fpclass.{kind}.512", ir.VectorType(ir.IntType(1), x.lanes), x.type, I32)
        infinite = build.call(classify, [square, ir.Constant(I32, POSITIVE_INFINITY)])
        q = build.select(infinite, zero, q)
        w_now = x.multiply_add(build.fneg(build.fmul(factor, m_now)), q, w_now)
        for value, address in zip((w_now, m_now, v_now), (at[0], *at[2:]), strict=True):
            x.store(value, address, masked)

    each_vector(x, rows, columns, [w, g, m, v], [ldw, ldg, ldw, ldw], step)
    build.ret_void()
    return function


def rows_of_adam(real: Any) -> Any:
    """An intrinsic: a step on rows of parameters, see `rows_step`; None where there is no such code."""
    return calling(rows_step, real, 8, SCALARS) if chosen().name == "avx512" else None
