"""Matrix products of a layer, made in parts between which a job can be given up."""

from collections.abc import Callable
from typing import Any

from kernels.cpu import tuning
from kernels.cpu.compiler import calls, jit
from kernels.cpu.engine.job import stopped
from kernels.cpu.ir.instruction_sets import itemsize
from kernels.cpu.product.gemm import Product

NO_FLOOR = float("-inf")  # what a product's results are at least, where no ReLU is part of it


def columns_at_once(real: Any) -> Callable[..., Any]:
    """A function: (rows, columns, depth) -> how many columns of a product are made at once: all, if that is brief."""
    size = itemsize(real)

    @jit.plain
    def part_of(rows, columns, depth):
        if rows * columns * depth * size <= tuning.PART_BYTES:
            return columns
        return max(1, tuning.PART_BYTES // (rows * depth * size) // tuning.PART_COLUMNS) * tuning.PART_COLUMNS

    return part_of


def gradient_product(real: Any) -> Callable[..., Any]:
    """The product behind dx and dw: c (m, n) = a (m, k) @ b (k, n), or c + that. See gemm for a, b and the flags.

    Where the job is given up, columns of c may be missing.
    """
    size, none = itemsize(real), real(NO_FLOOR)
    product, part_of = calls.by_address(Product, real), columns_at_once(real)

    @jit.inline
    def multiply(job, layer, m, n, k, a, rsa, csa, b, ldb, c, ldc, adds, transposed, lanes_exist):
        part = part_of(m, n, k)
        for j in range(0, n, part):
            if j > 0 and stopped(job):
                return
            at = c + j * size
            product(
                layer.product, m, min(part, n - j), k, a, rsa, csa, b + j * (ldb if transposed != 0 else size), ldb,
                at, ldc, at if adds != 0 else 0, ldc, none, transposed, lanes_exist,
            )  # fmt: skip

    return multiply
