"""What an optimiser remembers between steps, and what dropout's bits are drawn by."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.optimizers import Optimizer
from kernels.layout import aligned_copy, aligned_zeros


@dataclass
class Noise:
    """What dropout's bits are drawn by: a network's seed, and how many steps it has made in all its trainings."""

    seed: int
    step: int = 0


@dataclass
class Memory:
    """What an optimiser remembers: its arrays, laid out like the parameters, and how many steps it has made."""

    optimizer: Optimizer
    arrays: list[Any]  # NumPy's, or numba-cuda's once a GPU has them
    noise: Noise  # the network's own
    step: int = 0
    learning_rate: float = 0.0  # of the last step

    @classmethod
    def fresh(cls, model: Any, optimizer: Optimizer) -> "Memory":
        """That of an optimiser before its first step."""
        arrays = [aligned_zeros(len(model.parameters), model.dtype) for _ in optimizer.slots]
        return cls(optimizer, arrays, model.noise)

    def __getstate__(self) -> dict[str, Any]:
        on_host = [array if isinstance(array, np.ndarray) else array.copy_to_host() for array in self.arrays]
        return {**self.__dict__, "arrays": on_host}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.arrays = [aligned_copy(array) for array in self.arrays]


def are_ours(arrays: Sequence[Any], parameters: np.ndarray) -> bool:
    """Whether compiled code may write to these, each in memory of its own, as those on a GPU are."""
    on_host = [array for array in arrays if isinstance(array, np.ndarray)]
    return all(array.flags.writeable and array.flags.aligned for array in on_host) and not any(
        np.may_share_memory(a, b) for a, b in itertools.combinations([parameters, *on_host], 2)
    )
