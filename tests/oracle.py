"""What the tests share: finite differences, tolerances derived from rounding, comparisons, seeded data."""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

import kernels
from kernels.losses import LOSSES, LossChoice, loss_and_parameter

# Every kernel is right at these: one, few, one less and one more than a tile, and a size that no tile divides.
AWKWARD_SIZES = (1, 2, 15, 16, 17, 63, 64, 65, 1000)

# Roundings outside the sums: an activation's approximation (4.5 ulp are 9 units), its derivative, bias, scaling.
ELEMENTWISE_ROUNDINGS = 16

# Of the losses that have one, their parameter: its name, and a value to test with.
LOSS_PARAMETERS = {
    name: (LOSSES[name].parameter.name, {"huber": 0.7, "quantile": 0.9}.get(name, LOSSES[name].parameter.least + 0.3))
    for name in LOSSES
    if LOSSES[name].parameter is not None
}

# Losses by name, tested with that parameter; and those whose parameter has a default, with that.
LOSS_CASES: list[LossChoice] = [*LOSSES]
LOSS_CASES += [
    (name, LOSSES[name].parameter.default) for name in LOSS_PARAMETERS if LOSSES[name].parameter.default is not None
]

# Central differences err by eps^2 |f'''| / 6 + u |f| / eps for unit roundoff u; this eps balances the two.
DIFFERENCE_STEP = float(np.cbrt(np.finfo(np.float64).eps / 2.0))


def unit_roundoff(dtype: DTypeLike) -> float:
    """Largest relative error of rounding once to `dtype`: half its machine epsilon."""
    return float(np.finfo(dtype).eps) / 2.0


def tolerance(dtype: DTypeLike, depth: int) -> float:
    """Relative tolerance for a result in which `depth` terms were accumulated one after another, or through layers.

    It is gamma_n = n u / (1 - n u) with unit roundoff u and n = depth + ELEMENTWISE_ROUNDINGS (Higham 2002, section
    3.1): an inner product computed in any order, with or without FMA, errs by at most gamma_n |x| @ |w|. Relative to
    max |x @ w| it is not a bound, but random data stay far below it: their error is about sqrt(n) u of that.
    For y = f(x @ w + b), depth is I; for a network, see `network_depth`.
    """
    n_units = (depth + ELEMENTWISE_ROUNDINGS) * unit_roundoff(dtype)
    if n_units >= 0.5:
        raise ValueError(f"depth: {depth} terms leave no accurate digit in {np.dtype(dtype)}")
    return n_units / (1.0 - n_units)


def network_depth(sizes: Sequence[int], batch: int) -> int:
    """Terms accumulated on the way to a weight's gradient in a network of these widths, inputs and outputs included.

    A sum over each layer's inputs forward, over the outputs in the loss, over each layer's outputs backward, over the
    batch; and in each layer, forward and backward, what is done element by element.
    """
    elementwise = 2 * ELEMENTWISE_ROUNDINGS * (len(sizes) - 1)
    return sum(sizes[:-1]) + sizes[-1] + sum(sizes[1:]) + batch + elementwise


def assert_close(
    actual: ArrayLike, expected: ArrayLike, dtype: DTypeLike, depth: int, scale: ArrayLike | None = None
) -> None:
    """Fail unless |actual - expected| <= tolerance(dtype, depth) * scale in every element, for `actual` in `dtype`.

    `scale`, a number or an array that broadcasts to `expected`, is the magnitude that was summed, |x| @ |w| + |b| say;
    without it, max |expected|. NaN and infinities must stand where they are expected. An all-zero `actual` fails if
    `expected` is not zero: where `scale` is so large that zeros would pass, the comparison itself is refused.
    """
    if isinstance(actual, np.ndarray) and actual.ndim > 0:
        assert actual.dtype == np.dtype(dtype), f"expected dtype {np.dtype(dtype)}, got {actual.dtype}"
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape, f"expected shape {expected.shape}, got {actual.shape}"

    finite = np.isfinite(expected)
    np.testing.assert_array_equal(actual[~finite], expected[~finite], err_msg="NaN and infinities")
    actual, expected = np.where(finite, actual, 0.0), np.where(finite, expected, 0.0)
    if scale is None:
        scale = np.max(np.abs(expected), initial=0.0)
    # Results below the smallest normal number of the dtype may lose all digits.
    relative = tolerance(dtype, depth)
    allowed = np.where(finite, relative * np.asarray(scale, dtype=np.float64) + float(np.finfo(dtype).tiny), np.inf)
    context = f"{np.dtype(dtype)}, depth {depth}, relative tolerance {relative:.2g}"
    if np.any(expected):
        assert np.any(np.abs(expected) > allowed), f"the tolerance is so wide that zeros would pass ({context})"
    _assert_within(actual, expected, allowed, context)


def _assert_within(actual: np.ndarray, expected: np.ndarray, allowed: np.ndarray, context: str) -> None:
    error = np.abs(actual - expected)
    wrong = ~(error <= allowed)  # so that a NaN in `actual` is wrong
    if np.any(wrong):
        ratio = np.where(np.isnan(error), np.inf, error / allowed)
        where = np.unravel_index(np.argmax(ratio), error.shape)
        raise AssertionError(
            f"{np.count_nonzero(wrong)} of {error.size} elements differ ({context}); the worst, at index "
            f"{tuple(map(int, where))}: got {actual[where]:.9g}, expected {expected[where]:.9g}, "
            f"{ratio[where]:.3g} times the error allowed"
        )


def finite_difference(f: Callable[[np.ndarray], float], a: ArrayLike, eps: float = DIFFERENCE_STEP) -> np.ndarray:
    """Gradient of the scalar function f at `a` by central differences in float64, of the shape of `a`."""
    a = np.asarray(a, dtype=np.float64)
    gradient = np.empty_like(a)
    for index in np.ndindex(a.shape):
        above, below = a.copy(), a.copy()
        above[index] += eps
        below[index] -= eps
        gradient[index] = (f(above) - f(below)) / (above[index] - below[index])
    return gradient


def assert_gradient(actual: ArrayLike, f: Callable[[np.ndarray], float], a: ArrayLike) -> None:
    """Fail unless the float64 gradient `actual` is that of the scalar function f at `a`, by central differences.

    Allows their error: u |f| / eps for rounding, where f is a sum of some ten rounded terms, and eps^2 |f'''| / 6 for
    truncation, where |f'''| is taken to be at most a hundred times the largest derivative. Refuses a gradient so small
    that zeros would pass.
    """
    expected = finite_difference(f, a)
    rounding = 10.0 * unit_roundoff(np.float64) * abs(f(np.asarray(a, dtype=np.float64))) / DIFFERENCE_STEP
    truncation = 100.0 / 6.0 * DIFFERENCE_STEP**2 * np.max(np.abs(expected))
    allowed = np.asarray(rounding + truncation)
    assert np.any(np.abs(expected) > allowed), "the gradient is so small that zeros would pass (central differences)"
    actual = np.asarray(actual, dtype=np.float64)
    assert actual.shape == expected.shape, f"expected shape {expected.shape}, got {actual.shape}"
    _assert_within(actual, expected, allowed, "central differences")


def random_arrays(seed: int, *shapes: tuple[int, ...], dtype: DTypeLike = np.float64) -> list[np.ndarray]:
    """Standard normal arrays, drawn in float64 and rounded to `dtype`."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def random_row_weights(seed: int, batch: int, dtype: DTypeLike = np.float64) -> np.ndarray:
    """Row weights (batch,) in [0.5, 2), every third one zero if there are three."""
    weight = np.random.default_rng(seed).uniform(0.5, 2.0, batch)
    weight[2::3] = 0.0
    return weight.astype(dtype)


def random_labels(seed: int, batch: int, n_classes: int) -> np.ndarray:
    """Integer labels (batch,) in 0..n_classes - 1, int64."""
    return np.random.default_rng(seed).integers(n_classes, size=batch)


def random_target(seed: int, loss: LossChoice, batch: int, n_outputs: int, dtype: DTypeLike = np.float64) -> np.ndarray:
    """A target (batch, n_outputs) for a loss: probabilities by row, numbers in its range, counts, or normal numbers."""
    rng, targets, shape = np.random.default_rng(seed), loss_and_parameter(loss)[0].targets, (batch, n_outputs)
    if targets.labels:
        return rng.dirichlet(np.ones(n_outputs), batch).astype(dtype)
    if targets.only:
        return rng.choice(targets.only, shape).astype(dtype)
    if targets.most < np.inf:
        return rng.uniform(targets.least, targets.most, shape).astype(dtype)
    return (rng.standard_normal(shape) if targets.least == -np.inf else rng.poisson(1.0, shape)).astype(dtype)


def loss_of(module: Any, loss: LossChoice) -> Callable[..., Any]:
    """A loss, with its parameter where it has one, of the public functions or of a backend."""
    choice = loss_with_parameter(loss)
    if module is not kernels:
        return functools.partial(module.loss_and_gradient, choice)
    if isinstance(choice, str):
        return getattr(module, choice)
    name, value = choice
    return functools.partial(getattr(module, name), **{LOSS_PARAMETERS[name][0]: value})


def loss_with_parameter(loss: LossChoice) -> LossChoice:
    """A loss as networks are told of it; a name alone gets the parameter to test with."""
    return (loss, LOSS_PARAMETERS[loss][1]) if isinstance(loss, str) and loss in LOSS_PARAMETERS else loss


def random_network(
    seed: int, sizes: Sequence[int], dtype: DTypeLike = np.float64
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights (I, O), scaled to keep the variance through the layers, and biases (O,), none of them zero."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal((i, o)) * np.sqrt(2.0 / i) for i, o in itertools.pairwise(sizes)]
    biases = [0.1 * rng.standard_normal(o) for o in sizes[1:]]
    return [w.astype(dtype) for w in weights], [b.astype(dtype) for b in biases]
