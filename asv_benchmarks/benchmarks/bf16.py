"""The CPU's products of bfloat16 numbers, where it has them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from kernels.cpu.ir.instruction_sets import bf16_unit
from kernels.cpu.product import gemm_bf16

from .common import Sampled, once, sweep
from .kernels import PRODUCTS, empty, error, normal, sizes
from .peak import product


class Bfloat16Product(Sampled):
    """Products of bfloat16 numbers on one thread: of factors that are rounded, or in the three parts of float32's."""

    params = [PRODUCTS, sweep("512x512x512", "512x1024x2048", "1024x1024x1024"), sweep("bf16", "float32")]
    param_names = ["product", "shape", "precision"]

    @once
    def setup(self, name: str, shape: str, precision: str) -> Callable[[], Any]:
        B, I, O = sizes(shape)
        family = gemm_bf16.product_for(precision, np.dtype("float32"), I, O, B)
        if not bf16_unit() or family not in gemm_bf16.PRODUCTS:
            raise NotImplementedError(f"no product of bfloat16 numbers for {precision} on this CPU")
        x, w, dz = normal(0, B, I), normal(1, I, O), normal(2, B, O)
        self.operands = a, b = {"x @ w": (x, w), "x.T @ dz": (x.T, dz), "dz @ w.T": (dz, w.T)}[name]
        self.out = empty(a.shape[0], b.shape[1])
        return product(a, b, self.out, family)

    def time_product(self, name: str, shape: str, precision: str) -> None:
        self.call()

    def track_error(self, name: str, shape: str, precision: str) -> float:
        a, b = (operand.astype(float) for operand in self.operands)
        return error(self.out, a @ b, np.abs(a) @ np.abs(b))

    track_error.unit = "eps"
