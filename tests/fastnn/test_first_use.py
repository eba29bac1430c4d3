"""The first use of all compiles the kernels, once, and says so; the next program finds them."""

import json
import textwrap
from types import SimpleNamespace

from fastnn.training import load_kernels
from kernels.cpu import jit
from tests.programs import environment, run

PROGRAM = textwrap.dedent("""
    import json, threading
    import numpy as np
    import fastnn
    from kernels.cpu import jit

    histories = []

    class Watch(fastnn.Callback):
        def on_train_begin(self, model):
            self.loaded = len(jit.Kernel.loaded)

        def on_train_end(self, model):
            assert len(jit.Kernel.loaded) == self.loaded, "kernels are compiled while training is timed"

    def work():
        model = fastnn.MLP([3, 2, 1], "tanh", "identity", threads=2)
        X, y, weight = np.ones((4, 3), np.uint16), np.array([0, 1, 0, 1], np.int8), np.ones(4)
        histories.append(model.fit(X, y, sample_weight=weight, validation_split=0.25, callbacks=[Watch()]))

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    symbols = [kernel.symbol for kernel in jit.Kernel.loaded]
    assert len(symbols) == len(set(symbols)), symbols
    print(json.dumps([[history.compile_seconds, history.seconds] for history in histories]))
""")


def test_compiles_once_and_says_so(tmp_path):
    """Two threads find an empty cache; then a second program finds a full one."""
    env = environment(NUMBA_CACHE_DIR=str(tmp_path))
    cold = run(PROGRAM, env=env)
    assert cold.stderr.count("compiling kernels once ...\n") == 1
    assert cold.stderr.count("compiled in ") == 1
    (first, seconds), (second, other_seconds) = json.loads(cold.stdout)
    assert sorted([first > 0, second > 0]) == [False, True]
    assert max(first, second) > seconds + other_seconds, "the seconds of training count compilation"

    warm = run(PROGRAM, env=env)
    assert "compil" not in warm.stderr
    assert [compiling for compiling, _ in json.loads(warm.stdout)] == [0.0, 0.0]


def test_several_kernels_are_announced_once():
    said = []

    def load():
        for _ in range(3):
            jit.announce()

    assert load_kernels(SimpleNamespace(load=load), said.append) > 0
    assert len(said) == 2
    assert said[0] == "compiling kernels once ..."
    assert said[1].startswith("compiled in 0.0 s")
    assert jit.announce is None


def test_nothing_is_announced_where_nothing_is_compiled():
    said = []
    assert load_kernels(SimpleNamespace(load=lambda: None), said.append) == 0.0
    assert said == []
