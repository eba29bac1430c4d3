"""Optimisers: what to do with a gradient, as plain values. Their state lives in the model.

They are declared in kernels.optimizers; all that are known are here under the names of their classes. One of your own
is declared as they are, see docs/optimizers.md.
"""

from typing import Any

from kernels.optimizers import known
from kernels.optimizers.adam import Adam as Adam
from kernels.optimizers.declaration import ClipNorm as ClipNorm
from kernels.optimizers.declaration import Flag as Flag
from kernels.optimizers.declaration import NotNegative as NotNegative
from kernels.optimizers.declaration import Optimizer as Optimizer
from kernels.optimizers.declaration import Positive as Positive
from kernels.optimizers.declaration import Rate as Rate
from kernels.optimizers.declaration import Share as Share
from kernels.optimizers.declaration import ShareBelowOne as ShareBelowOne
from kernels.optimizers.declaration import Update as Update
from kernels.optimizers.declaration import declare as declare
from kernels.optimizers.sgd import SGD as SGD


def get(value: Optimizer | str) -> Optimizer:
    """The optimiser that a value stands for.

    Parameters
    ----------
    value : Optimizer or str
        An instance, which is one already, or a name, which stands for the one with its defaults.

    Returns
    -------
    Optimizer
        The instance.

    Raises
    ------
    ValueError
        For anything else.
    """
    if isinstance(value, Optimizer):
        return value
    if value in known:
        return known[value]()
    names = ", ".join(map(repr, known))
    raise ValueError(f"optimizer must be one of {names} or an instance such as Adam(1e-3), got {value!r}")


def __getattr__(name: str) -> Any:
    """The optimiser whose class has this name."""
    for each in known:
        if known[each].__name__ == name:
            return known[each]
    raise AttributeError(f"module 'fastnn.optimizers' has no attribute {name!r}")
