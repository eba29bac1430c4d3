"""What a profile of a training step is made with: clocked engine, counts of operations, ceilings of the machine."""

from kernels.cpu.measure.ceilings import LEAST_BUFFER, bandwidth, bf16_flops, flops
from kernels.cpu.measure.counts import step_counts
from kernels.cpu.measure.stamps import PHASES, now
from kernels.cpu.measure.timed_engine import TimedEngine
from kernels.cpu.product.gemm_bf16 import PRODUCTS

__all__ = [
    "LEAST_BUFFER", "PHASES", "PRODUCTS", "TimedEngine", "bandwidth", "bf16_flops", "flops", "now", "step_counts",
]  # fmt: skip
