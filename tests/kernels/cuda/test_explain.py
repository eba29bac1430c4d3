"""The launches of a training step as text, beside those that a step makes."""

import numpy as np
import pytest

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

import fastnn
from kernels.cuda.compiler import jit
from tests.kernels.cuda import device  # noqa: F401 (skips where there is none)


@pytest.mark.parametrize("activation", ["relu", ["relu", "tanh"]], ids=["in shared memory", "layer by layer"])
def test_there_is_a_line_for_each_launch(activation, monkeypatch):
    rows, net = 9, fastnn.MLP([5, 4, 3, 2], activation=activation, device="cuda", seed=0)
    X, y = np.random.default_rng(0).standard_normal((rows, 5)), np.arange(rows) % 2
    launch, launched = jit.Kernel.__call__, []

    def noted(kernel, blocks, *arguments):
        launched.append((" x ".join(map(str, np.atleast_1d(blocks))), str(kernel.threads)))
        launch(kernel, blocks, *arguments)

    monkeypatch.setattr(jit.Kernel, "__call__", noted)
    net.train_on_batch(X, y)
    lines = [
        tuple(part.strip() for part in line.strip().split("  ") if part) for line in net.explain(rows).splitlines()
    ]
    table = [line[:2] for line in lines if len(line) == 3][1:]
    step = [place for place in range(len(launched)) if launched[place : place + len(table)] == table]
    assert step, (launched, table)
