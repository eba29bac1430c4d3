"""The counter-based generator: the published answers, and what dropout makes of it."""

import numpy as np
import pytest
from numba import njit

from kernels import reference
from kernels.cpu.compiler import jit
from kernels.maths import random

# Random123 1.14.0, tests/kat_vectors: counter, key, words of philox4x32 with 10 rounds
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def numbers(text):
    return [int(word, 16) for word in text.split()]


class TestPhilox:
    @pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
    def test_the_published_answers(self, counter, key, words):
        arguments = [np.uint64(word) for word in numbers(counter) + numbers(key)]
        inlined = random.philox(jit.plain)
        for philox in (njit(lambda *words: inlined(*words)), random.philox(lambda function: function)):
            assert [int(word) % 2**32 for word in philox(*arguments)] == numbers(words)
        assert reference.philox(numbers(counter), numbers(key)).tolist() == numbers(words)

    def test_the_reference_takes_many_counters_at_once(self):
        counters = np.random.default_rng(0).integers(2**32, size=(3, 5, 4))
        words = reference.philox(counters, [7, 8])
        assert words.shape == counters.shape
        np.testing.assert_array_equal(words[2, 3], reference.philox(counters[2, 3], [7, 8]))


class TestDropoutFactors:
    @pytest.mark.parametrize("rate", [0.1, 0.5, 0.75, 0.999])
    def test_their_mean_is_1_and_their_share_of_zeros_the_rate(self, rate):
        """Within five standard deviations of what independent draws would give, for each layer, step and seed."""
        n = 200 * 300
        for where in ({"layer": 0, "step": 0}, {"layer": 1, "step": 0}, {"layer": 0, "step": 2**31}):
            factors = reference.dropout_factors(rate, seed=3, rows=200, columns=300, **where)
            assert set(np.unique(factors)) == {0.0, factors.max()}
            assert abs(factors.max() * (1 - rate) - 1) < 1e-6
            assert abs((factors == 0).mean() - rate) < 5 * np.sqrt(rate * (1 - rate) / n)

    def test_no_two_places_share_their_bits(self):
        """Neighbouring rows, columns, layers, steps and seeds agree as often as independent ones do."""
        stays = reference.dropout_factors(0.5, 3, 1, 5, 200, 300) > 0
        others = [stays[1:], stays[:, 1:], stays[4:]] + [
            reference.dropout_factors(0.5, *place, 200, 300) > 0
            for place in ((4, 1, 5), (3 + 2**32, 1, 5), (3, 2, 5), (3, 1, 6))
        ]
        for other in others:
            same = (stays[: len(other), : other.shape[1]] == other).mean()
            assert abs(same - 0.5) < 5 * 0.5 / np.sqrt(other.size)

    def test_a_larger_array_begins_with_the_smaller_one(self):
        large = reference.dropout_factors(0.5, 3, 1, 5, 20, 30)
        np.testing.assert_array_equal(reference.dropout_factors(0.5, 3, 1, 5, 7, 9), large[:7, :9])

    @pytest.mark.parametrize("rate", [0.0, 1e-12, 1 - 1e-12])
    def test_the_ends(self, rate):
        assert random.limit(rate) == (2**32 - 1 if rate > 0.5 else 0)
        factors = reference.dropout_factors(rate, 3, 1, 5, 20, 30)
        assert np.isfinite(factors).all()
        assert (factors == (0 if rate > 0.5 else 1)).all()
