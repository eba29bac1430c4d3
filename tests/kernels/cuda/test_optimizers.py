"""Every optimiser that is known, on a GPU or in the simulator: against the reference, and whole steps by the CPU's."""

import numpy as np
import pytest

import fastnn
import kernels
from kernels import reference
from kernels.optimizers import known
from tests.capabilities.test_optimizers import call, cases, some_state
from tests.kernels.cuda import device  # noqa: F401 (skips where there is none)
from tests.kernels.cuda.test_kernels import host, placed
from tests.oracle import assert_close, random_arrays, random_labels


@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_step_on_arrays(name, update, options, dtype):
    w, state = some_state(name, update, options, (3, 5), dtype)
    (g,) = random_arrays(2, (3, 5), dtype=dtype)
    on_device = placed(w, 2), placed(g, 1), [placed(array, 2) for array in state]
    call(kernels, name, update, *on_device, 4, **options)
    before = w.copy()
    w, state = w.astype(np.float64), [array.astype(np.float64) for array in state]
    call(reference, name, update, w, g, state, 4, **options)
    assert_close(host(on_device[0]), w, dtype, 1, np.abs(before) + np.abs(w - before))
    for actual, expected in zip(on_device[2], state, strict=True):
        assert_close(host(actual), expected, dtype, 1, np.abs(expected) + np.abs(g))


@cases
def test_steps_of_a_network(name, update, options):
    """Biases among its parameters, which decay by themselves on neither device."""
    X, y = random_arrays(3, (6, 3))[0], random_labels(4, 6, 2)
    results = []
    for kind in ("cpu", "cuda"):
        net = fastnn.MLP([3, 4, 2], activation="tanh", dtype="float64", seed=0, device=kind)
        net.biases[0][...] = 0.5
        for _ in range(2):
            net.train_on_batch(X, y, known[name](0.1, **options), l2=0.01)
        results.append(net.parameters.copy())
    assert np.abs(results[0] - fastnn.MLP([3, 4, 2], dtype="float64", seed=0).parameters).max() > 0.1
    np.testing.assert_allclose(*results, rtol=1e-7, atol=1e-9)
