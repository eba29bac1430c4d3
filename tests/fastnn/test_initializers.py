import math

import numpy as np
import pytest

from fastnn import initializers
from fastnn.initializers import draw

FAN_IN, FAN_OUT = 400, 250
VARIANCES = {"he": 2 / FAN_IN, "xavier": 2 / (FAN_IN + FAN_OUT), "lecun": 1 / FAN_IN}


def rng(seed=0):
    return np.random.default_rng(seed)


def sample(name, dtype=np.float64, seed=0, **kwargs):
    return draw(name, FAN_IN, FAN_OUT, rng(seed), dtype, **kwargs)


def assert_mean_and_variance(w, variance, kurtosis):
    """Within five standard errors of a sample of w.size; `kurtosis` is E[x^4] / variance^2 of the distribution."""
    assert abs(w.mean()) < 5 * math.sqrt(variance / w.size)
    assert abs(w.var() / variance - 1) < 5 * math.sqrt((kurtosis - 1) / w.size)


@pytest.mark.parametrize("scheme", VARIANCES)
def test_normal_schemes(scheme):
    w = sample(f"{scheme}_normal")
    assert_mean_and_variance(w, VARIANCES[scheme], kurtosis=3)
    assert np.abs(w).max() > 3.5 * math.sqrt(VARIANCES[scheme])  # not truncated


@pytest.mark.parametrize("scheme", VARIANCES)
def test_uniform_schemes(scheme):
    w, limit = sample(f"{scheme}_uniform"), math.sqrt(3 * VARIANCES[scheme])
    assert_mean_and_variance(w, VARIANCES[scheme], kurtosis=9 / 5)
    assert 0.999 * limit < np.abs(w).max() <= limit


def test_normal_ignores_the_widths_and_takes_a_scale():
    assert_mean_and_variance(sample("normal"), 1.0, kurtosis=3)
    assert_mean_and_variance(sample(("normal", 0.1)), 0.01, kurtosis=3)
    np.testing.assert_array_equal(sample("normal", scale=0.1), sample(("normal", 0.1)))
    np.testing.assert_array_equal(sample(["normal", 0.1]), sample(("normal", 0.1)))


@pytest.mark.parametrize("name", initializers.NAMES)
def test_weights_that_are_drawn_in_parts_are_the_same(name, monkeypatch):
    whole = sample(name)
    monkeypatch.setattr(initializers, "AT_ONCE", 999)
    np.testing.assert_array_equal(sample(name), whole)


def test_zeros():
    np.testing.assert_array_equal(sample("zeros"), np.zeros((FAN_IN, FAN_OUT)))


@pytest.mark.parametrize(
    "alias, name",
    [
        ("he", "he_normal"),
        ("xavier", "xavier_uniform"),
        ("glorot", "xavier_uniform"),
        ("lecun", "lecun_normal"),
        ("glorot_normal", "xavier_normal"),
        ("glorot_uniform", "xavier_uniform"),
    ],
)
def test_aliases(alias, name):
    np.testing.assert_array_equal(sample(alias), sample(name))


@pytest.mark.parametrize("name", initializers.NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (25, 1), (3, 10)])
def test_shape_and_one_seed_in_both_dtypes(name, shape):
    double, single = (draw(name, *shape, rng(7), dtype) for dtype in ("float64", "float32"))
    assert double.shape == single.shape == shape
    assert (double.dtype, single.dtype) == (np.float64, np.float32)
    np.testing.assert_array_equal(double.astype(np.float32), single)


@pytest.mark.parametrize("name", [n for n in initializers.NAMES if n != "zeros"])
def test_the_seed_decides(name):
    np.testing.assert_array_equal(sample(name, seed=3), sample(name, seed=3))
    assert (sample(name, seed=3) != sample(name, seed=4)).mean() > 0.99


def test_draws_follow_one_another():
    generator = rng()
    first, second = (draw("he", 5, 5, generator, np.float64) for _ in range(2))
    assert (first != second).all()


@pytest.mark.parametrize(
    "name", ["kaiming", "He", "", None, 3, np.zeros(2), ("he",), ("normal", 1.0, 2.0), (2.0, "normal")]
)
def test_an_unknown_name_is_refused(name):
    with pytest.raises(ValueError, match=r"^init must be .*, got [^\n]*$"):
        sample(name)


@pytest.mark.parametrize("name", ["he", "xavier_uniform", "zeros"])
def test_a_scale_belongs_to_normal_alone(name):
    with pytest.raises(ValueError, match=r"takes no scale"):
        sample((name, 0.1))
    with pytest.raises(ValueError, match=r"takes no scale"):
        sample(name, scale=0.1)


@pytest.mark.parametrize("scale", [0, -1.0, math.nan, math.inf])
def test_a_scale_is_positive_and_finite(scale):
    with pytest.raises(ValueError, match=r"^scale must be a finite number in"):
        sample(("normal", scale))


@pytest.mark.parametrize("scale", ["0.1", True, [1]])
def test_a_scale_is_a_number(scale):
    with pytest.raises(TypeError, match=r"^scale must be a finite number in"):
        sample(("normal", scale))


def test_two_scales_are_refused():
    with pytest.raises(ValueError, match=r"^init must be a name or a pair"):
        sample(("normal", 0.1), scale=0.2)


@pytest.mark.parametrize("name", ["kaiming", ("normal", -1.0), ("he", 2.0)])
def test_a_refusal_draws_nothing(name):
    generator = rng()
    with pytest.raises(ValueError, match=r"init|scale"):
        draw(name, 3, 3, generator, np.float64)
    assert generator.bit_generator.state == rng().bit_generator.state
