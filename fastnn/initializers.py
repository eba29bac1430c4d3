"""Initial weights. Biases start at zero.

Each scheme draws from a distribution of mean 0 whose variance depends on the layer's widths:

    he        2 / fan_in               He et al. 2015, "Delving deep into rectifiers", equation 10
    xavier    2 / (fan_in + fan_out)   Glorot & Bengio 2010, "Understanding the difficulty ...", equation 16
    lecun     1 / fan_in               LeCun et al. 1998, "Efficient backprop", section 4.6
    normal    scale^2                  the naive one: the widths play no part
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from kernels.declarations.ranges import check_number

AT_ONCE = 1 << 20  # weights that NumPy draws in one call: Ctrl-C waits for it

_VARIANCES: dict[str, Callable[[int, int], float]] = {
    "he": lambda fan_in, fan_out: 2.0 / fan_in,
    "xavier": lambda fan_in, fan_out: 2.0 / (fan_in + fan_out),
    "lecun": lambda fan_in, fan_out: 1.0 / fan_in,
}
_ALIASES = {
    "he": "he_normal",
    "xavier": "xavier_uniform",
    "lecun": "lecun_normal",
    "glorot": "xavier_uniform",
    "glorot_normal": "xavier_normal",
    "glorot_uniform": "xavier_uniform",
}
NAMES = (
    "he_normal",
    "he_uniform",
    "xavier_normal",
    "xavier_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "zeros",
)


def draw(
    name: str | tuple[str, float],
    fan_in: int,
    fan_out: int,
    rng: np.random.Generator,
    dtype: npt.DTypeLike,
    scale: float | None = None,
) -> np.ndarray:
    """Draw the weights of one layer.

    The numbers are drawn in float64 and then rounded, so models of one seed agree whatever their dtype. The normal
    distributions are not truncated.

    Parameters
    ----------
    name : str or tuple
        One of NAMES. "he" is he_normal, "xavier" and "glorot" are xavier_uniform, "lecun" is lecun_normal, and
        "glorot_normal" and "glorot_uniform" are those of xavier. ("normal", 0.1) gives the scale as well.
    fan_in, fan_out : int
        The layer's inputs and outputs.
    rng : numpy.random.Generator
        Where the numbers come from.
    dtype : dtype
        float32 or float64.
    scale : float, optional
        The standard deviation of "normal", above 0; 1.0 by default.

    Returns
    -------
    ndarray (fan_in, fan_out) of `dtype`
        The weights.

    Raises
    ------
    TypeError, ValueError
        For an unknown name, and for a scale that is not above 0 or belongs to another scheme.
    """
    name, scale = _resolve(name, scale)
    sample = _distribution(name, scale, fan_in, fan_out, rng)
    weights = np.empty((fan_in, fan_out), dtype)
    flat = weights.reshape(-1)
    for first in range(0, len(flat), AT_ONCE):
        part = flat[first : first + AT_ONCE]
        part[...] = sample(len(part))
    return weights


def _distribution(
    name: str, scale: float, fan_in: int, fan_out: int, rng: np.random.Generator
) -> Callable[[int], np.ndarray]:
    """What draws n weights, in float64."""
    if name == "zeros":
        return np.zeros
    if name == "normal":
        return lambda n: scale * rng.standard_normal(n)
    scheme, shape = name.split("_")
    variance = _VARIANCES[scheme](fan_in, fan_out)
    if shape == "normal":
        return lambda n: math.sqrt(variance) * rng.standard_normal(n)
    limit = math.sqrt(3.0 * variance)  # the variance of a uniform distribution on (-limit, limit) is limit^2 / 3
    return lambda n: rng.uniform(-limit, limit, n)


def _resolve(name: str | tuple[str, float], scale: float | None) -> tuple[str, float]:
    """The scheme's full name and the scale, checked."""
    if isinstance(name, (tuple, list)):
        if len(name) != 2 or scale is not None:
            raise ValueError(
                f'init must be a name or a pair such as ("normal", 0.1), got {name!r} with scale={scale!r}'
            )
        name, scale = name
    full = _ALIASES.get(name, name) if isinstance(name, str) else None
    if full not in NAMES:
        raise ValueError(f"init must be one of {', '.join((*NAMES, *_ALIASES))}, got {name!r}")
    if scale is None:
        return full, 1.0
    if full != "normal":
        raise ValueError(f"init {name!r} takes no scale, only 'normal' does, got scale={scale!r}")
    check_number("scale", scale, 0, closed="neither")
    return full, scale
