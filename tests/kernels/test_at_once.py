"""What one call from Python goes over at a time, so that Ctrl-C does not wait for all of it, changes no result."""

import numpy as np
import pytest

import kernels
from kernels.cpu import tuning
from kernels.losses import LOSSES
from tests.oracle import loss_of, random_arrays, random_labels, random_row_weights, random_target


@pytest.mark.parametrize("loss", list(LOSSES))
def test_losses(loss, monkeypatch):
    z, weight = random_arrays(0, (90, 7))[0], random_row_weights(1, 90)
    for target in (random_target(2, loss, 90, 7), random_labels(3, 90, 7))[: 1 + LOSSES[loss].targets.labels]:
        whole, dz = loss_of(kernels, loss)(z, target, weight)
        with monkeypatch.context() as patched:
            patched.setattr(tuning, "ELEMENTS_A_CALL", 64)
            parts, dz_of_parts = loss_of(kernels, loss)(z, target, weight)
        np.testing.assert_array_equal(dz_of_parts, dz)
        np.testing.assert_allclose(parts, whole, rtol=1e-14)


@pytest.mark.parametrize("shape", [(300,), (1, 300), (30, 7)])
def test_updates(shape, monkeypatch):
    arrays = random_arrays(4, *[shape] * 4)
    arrays[3] **= 2
    results = []
    for at_once in (tuning.ELEMENTS_A_CALL, 64):
        monkeypatch.setattr(tuning, "ELEMENTS_A_CALL", at_once)
        w, dw, m, v = (array.copy() for array in arrays)
        kernels.adam(w, dw, m, v, step=3)
        kernels.sgd(w, dw, m, learning_rate=0.1, momentum=0.9)
        results.append((w, m, v))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)
        assert not np.array_equal(one, arrays[0])
