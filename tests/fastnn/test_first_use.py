"""The first use of all compiles the kernels, once, and says so; the next program finds them."""

import json
import textwrap
import threading
from types import SimpleNamespace

import pytest

from fastnn.network.loading import load_kernels
from kernels.engine.requests import Needs
from kernels.process import announcing
from tests.programs import PATIENCE, environment, run

PROGRAM = textwrap.dedent("""
    import json, threading, time
    import numpy as np
    import fastnn
    from kernels.cpu.compiler import jit

    histories = []

    class Watch(fastnn.Callback):
        def on_train_begin(self, model):
            self.loaded = len(jit.Kernel.loaded)

        def on_train_end(self, model):
            assert len(jit.Kernel.loaded) == self.loaded, "kernels are compiled while training is timed"

    def work():
        start = time.perf_counter()
        model = fastnn.MLP([3, 2, 1], "tanh", "identity", threads=2)
        X, y, weight = np.ones((4, 3), np.uint16), np.array([0, 1, 0, 1], np.int8), np.ones(4)
        history = model.fit(X, y, sample_weight=weight, validation_split=0.25, callbacks=[Watch()])
        both = history.compile_seconds + history.seconds
        assert both <= time.perf_counter() - start, "the seconds of training count compilation"
        histories.append(history)

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    symbols = [kernel.symbol for kernel in jit.Kernel.loaded]
    assert len(symbols) == len(set(symbols)), symbols
    print(json.dumps([history.compile_seconds for history in histories]))
""")

ASKED = textwrap.dedent("""
    import numpy as np
    import fastnn

    X, y = np.ones((2, 3), np.float32), np.array([[0.0], [1.0]])
    model = fastnn.MLP([3, 2, 1], "relu", "identity", threads=1)
    for ask in (
        lambda: model.predict(X), lambda: model.evaluate(X, y, loss="absolute_error"),
        lambda: model.train_on_batch(X, y, "sgd"),
    ):
        for _ in range(2):
            ask()
""")

WARMED = textwrap.dedent("""
    import numpy as np
    import fastnn
    import kernels
    from fastnn import optimizers
    from kernels.activations import ACTIVATIONS
    from kernels.cpu.compiler import jit

    kernels.cpu.warmup()
    loaded = len(jit.Kernel.loaded)
    hidden = list(ACTIVATIONS)
    dtypes = [np.float32, np.float64, np.float16, np.uint8, np.int64, ">i2", bool]
    losses = {"softmax": [None], "sigmoid": [None], "exp": [None], "identity": [None, "sum_squared_error"]}
    for output, loss in [(output, loss) for output in losses for loss in losses[output]]:
        for optimizer in (optimizers.SGD(), optimizers.SGD(momentum=0.9, clip_norm=1.0), optimizers.Adam()):
            model = fastnn.MLP([3, *[4] * len(hidden), 2], hidden, output, dropout=0.1, threads=2)
            for dtype in dtypes:
                X, y = np.ones((4, 3), dtype), np.ones((4, 2), np.int8)
                y = y[:, 0] if output == "softmax" else y
                model.fit(X, y, optimizer=optimizer, loss=loss, sample_weight=np.ones(4), progress=False)
                model.predict(X), model.evaluate(X, y, loss=loss), model.loss_and_gradients(X, y, loss=loss)
    for loss in ("absolute_error", "huber", ("quantile", 0.9)):
        fastnn.MLP([3, 2], output="identity").fit(np.ones((4, 3)), np.ones((4, 2)), loss=loss, progress=False)
    new = [kernel.symbol for kernel in jit.Kernel.loaded[loaded:]]
    assert not new, new
""")


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """An environment with a cache that was empty, and what the first program in it has said."""
    env = environment(NUMBA_CACHE_DIR=str(tmp_path_factory.mktemp("cache")))
    return env, run(PROGRAM, env=env)


def test_compiles_once_and_says_so(first):
    """Two threads find an empty cache; then a second program finds a full one."""
    env, cold = first
    assert cold.stderr.count("compiling kernels once ...\n") == 1
    assert cold.stderr.count("compiled in ") == 1
    least, most = sorted(json.loads(cold.stdout))
    assert least == 0 < most

    warm = run(PROGRAM, env=env)
    assert "compil" not in warm.stderr
    assert json.loads(warm.stdout) == [0.0, 0.0]


def test_what_predict_evaluate_and_a_batch_compile_is_said(first):
    """Another activation, loss and optimiser than the first program had."""
    env, _ = first
    said = run(ASKED, env=env).stderr
    assert said.count("compiling kernels once ...\n") == 3
    assert said.count("compiled in ") == 3


def test_warmup_leaves_nothing_to_compile():
    run(WARMED)


def test_several_kernels_are_announced_once():
    said = []

    def load(needs):
        for _ in range(3):
            announcing.announce()

    assert load_kernels(SimpleNamespace(load=load), said.append, Needs()) > 0
    assert len(said) == 2
    assert said[0] == "compiling kernels once ..."
    assert said[1].startswith("compiled in 0.0 s")
    announcing.announce()
    assert len(said) == 2


def test_nothing_is_announced_where_nothing_is_compiled():
    said = []
    assert load_kernels(SimpleNamespace(load=lambda needs: None), said.append, Needs()) == 0.0
    assert said == []


def test_a_signal_handler_that_comes_while_kernels_are_loaded_does_not_wait_for_ever():
    said, done = [], []

    def interrupted(needs):
        load_kernels(SimpleNamespace(load=lambda needs: done.append("handler")), said.append, Needs())

    worker = threading.Thread(
        target=lambda: done.append(load_kernels(SimpleNamespace(load=interrupted), said.append, Needs())), daemon=True
    )
    worker.start()
    worker.join(PATIENCE)
    assert done == ["handler", 0.0]


def test_without_a_compiler_there_are_no_kernels():
    run(
        """
import fastnn
model = fastnn.MLP([2, 2])
try:
    model.predict([[0.0, 1.0]])
except ImportError as error:
    assert str(error) == "fastnn's kernels have to be compiled: unset NUMBA_DISABLE_JIT", error
else:
    raise AssertionError
""",
        env=environment(NUMBA_DISABLE_JIT="1"),
    )
