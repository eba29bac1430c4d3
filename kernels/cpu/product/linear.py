"""Matmul-bias-activation: forward, and below it backward."""

from typing import Any

from kernels.cpu import tuning
from kernels.cpu.compiler import calls, jit
from kernels.cpu.compiler.declaration import Address, Flag, Size, Stride
from kernels.cpu.ir import memory
from kernels.cpu.ir.simd import chosen, itemsize
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
    """y (m, n) = f(x (m, k) @ w (k, n) + b), overwritten, on the calling thread; row strides in bytes.

    b: address 0 for none. fused: 1 for ReLU. f: the address of another activation's kernel, 0 for none. pre: where x @
    w + b goes as well, address 0 for nowhere. lanes_exist: as for gemm.
    """
    product, activation = gemm(real), calls.by_address(Activation, real)
    size = itemsize(real)
    none, zero = real(float("-inf")), real(0.0)

    def function(
        m: Size, n: Size, k: Size, x: Address, ldx: Stride, w: Address, ldw: Stride, b: Address, fused: Flag,
        f: Address, pre: Address, ldpre: Stride, y: Address, ldy: Stride, lanes_exist: Flag,
    ) -> None:  # fmt: skip
        z, ldz = (pre, ldpre) if pre != 0 else (y, ldy)
        product(m, n, k, x, ldx, size, w, ldw, z, ldz, b, 0, zero if fused else none, 0, lanes_exist)
        if f != 0:
            activation(f, m, n, z, ldz, y, ldy)

    return function


@jit.kernel
def linear_backward(real: Any) -> Any:
    """dz = dy * f'(.), dx = dz @ w.T, dw = x.T @ dz, db = the sum of dz's rows; overwritten, on the calling thread.

    dy, dz (m, n), x, dx (m, k), w, dw (k, n), db (n,); row strides in bytes. f: the address of the activation's
    backward kernel, with `saved` as it wants it; or address 0 for the identity, when dz is not used.
    """
    backward, product, transpose = calls.by_address(ActivationBackward, real), gemm(real), transpose_kernel(real)
    size = itemsize(real)
    lanes = chosen().lanes(size)
    none, elements = real(float("-inf")), memory.pointer(real)

    def function(
        m: Size, n: Size, k: Size, dy: Address, lddy: Stride, saved: Address, lds: Stride, f: Address, x: Address,
        ldx: Stride, w: Address, ldw: Stride, dz: Address, lddz: Stride, dx: Address, lddx: Stride, dw: Address,
        lddw: Stride, db: Address,
    ) -> None:  # fmt: skip
        if f == 0:
            dz, lddz = dy, lddy
        else:
            backward(f, m, n, dy, lddy, saved, lds, dz, lddz)
        product(m, k, n, dz, lddz, size, w, ldw, dx, lddx, 0, 0, none, 1, 0)
        dw_transposed = memory.allocate(n * k * size) if _transposed_dw_pays(m, k, n, lanes) else 0
        if dw_transposed != 0:
            product(n, k, m, dz, size, lddz, x, ldx, dw_transposed, k * size, 0, 0, none, 0, 0)
            transpose(n, k, dw_transposed, k * size, dw, lddw)
            memory.free(dw_transposed)
        else:
            product(k, n, m, x, size, ldx, dz, lddz, dw, lddw, 0, 0, none, 0, 0)
        one = memory.stack(8)
        elements(one)[0] = real(1.0)
        product(1, n, m, one, 0, 0, dz, lddz, db, 0, 0, 0, none, 0, 0)

    return function
