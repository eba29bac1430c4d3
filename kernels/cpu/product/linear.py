"""Matmul-bias-activation: forward, and below it backward."""

from typing import Any

from kernels.cpu import tuning
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.declaration import Address, B, Flag, I, Matrix, O
from kernels.cpu.ir import memory
from kernels.cpu.ir.instruction_sets import chosen, itemsize
from kernels.cpu.ir.transpose import transpose as transpose_kernel
from kernels.cpu.product.gemm import gemm
from kernels.cpu.rowwise.elementwise import Activation, ActivationBackward


def transposed_dw_pays(rows: int, inputs: int, outputs: int, lanes: int) -> bool:
    """Whether dw (inputs, outputs) of `rows` rows is made sooner as its transpose, whose rows have less padding."""
    plain, transposed = inputs * ((outputs + lanes - 1) // lanes), outputs * ((inputs + lanes - 1) // lanes)
    percent = 100 if outputs <= lanes else tuning.TRANSPOSED_DW_PERCENT
    return rows >= tuning.TRANSPOSED_DW_ROWS and 100 * plain >= percent * transposed


_transposed_dw_pays = jit.plain(transposed_dw_pays)


@jit.kernel
def linear(real: Any) -> Any:
    """y = f(x @ w + b), overwritten, on the calling thread.

    b (O,): address 0 for none. fused: 1 for ReLU. f: the address of another activation's kernel, 0 for none. pre: where
    x @ w + b goes as well, address 0 for nowhere. lanes_exist: as for gemm.
    """
    product, activation = gemm(real), calls.by_address(Activation, real)
    size = itemsize(real)
    none, zero = real(float("-inf")), real(0.0)

    def function(
        x: Matrix[B, I], w: Matrix[I, O], b: Address, fused: Flag, f: Address, pre: Matrix[B, O], y: Matrix[B, O],
        lanes_exist: Flag,
    ) -> None:  # fmt: skip
        z, floor = pre if pre.address != 0 else y, zero if fused else none
        product(
            x.rows, w.columns, x.columns, x.address, x.stride, size, w.address, w.stride, z.address, z.stride, b, 0,
            floor, 0, lanes_exist,
        )  # fmt: skip
        if f != 0:
            activation(f, z.rows, z.columns, z.address, z.stride, y.address, y.stride)

    return function


@jit.kernel
def linear_backward(real: Any) -> Any:
    """dz = dy * f'(.), dx = dz @ w.T, dw = x.T @ dz, db = the sum of dz's rows; overwritten, on the calling thread.

    db (O,). f: the address of the activation's backward kernel, with `saved` as it wants it; or address 0 for the
    identity, when dz is not used.
    """
    backward, product, transpose = calls.by_address(ActivationBackward, real), gemm(real), transpose_kernel(real)
    size = itemsize(real)
    lanes = chosen().lanes(size)
    none, elements = real(float("-inf")), memory.pointer(real)

    def function(
        dy: Matrix[B, O], saved: Matrix[B, O], f: Address, x: Matrix[B, I], w: Matrix[I, O], dz: Matrix[B, O],
        dx: Matrix[B, I], dw: Matrix[I, O], db: Address,
    ) -> None:  # fmt: skip
        (m, n), k = (dy.rows, dy.columns), x.columns
        z, ldz = dy.address, dy.stride
        if f != 0:
            z, ldz = dz.address, dz.stride
            backward(f, m, n, dy.address, dy.stride, saved.address, saved.stride, z, ldz)
        product(m, k, n, z, ldz, size, w.address, w.stride, dx.address, dx.stride, 0, 0, none, 1, 0)
        dw_transposed = memory.allocate(n * k * size) if _transposed_dw_pays(m, k, n, lanes) else 0
        if dw_transposed != 0:
            product(n, k, m, z, size, ldz, x.address, x.stride, dw_transposed, k * size, 0, 0, none, 0, 0)
            transpose(n, k, dw_transposed, k * size, dw.address, dw.stride)
            memory.free(dw_transposed)
        else:
            product(k, n, m, x.address, size, x.stride, z, ldz, dw.address, dw.stride, 0, 0, none, 0, 0)
        one = memory.stack(8)
        elements(one)[0] = real(1.0)
        product(1, n, m, one, 0, 0, z, ldz, db, 0, 0, 0, none, 0, 0)

    return function
