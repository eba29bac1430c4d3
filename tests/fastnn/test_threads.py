"""The same seed gives the same bits, whatever the number of threads, Numba's threading layer, and what else runs."""

import textwrap
import threading

import numpy as np
import pytest

from fastnn import MLP, Adam
from tests.oracle import random_arrays, random_labels
from tests.programs import environment, run

# 16 batches and a ragged one; each has work for at least three threads
TRAINING = textwrap.dedent("""
    import hashlib, sys
    import numpy as np
    import fastnn

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2100, 64), np.float32), rng.integers(10, size=2100)

    def digest(seed=0, threads=None, epochs=2):
        model = fastnn.MLP([64, 300, 129, 10], ["relu", "gelu"], seed=seed, threads=threads)
        history = model.fit(X, y, epochs, 128, fastnn.Adam(1e-3), l2=1e-3, validation_split=0.1, progress=False)
        results = [np.array([*history.metrics.values()]), model.parameters, model.predict(X)]
        return hashlib.sha256(b"".join(array.tobytes() for array in results)).hexdigest(), history
""")


@pytest.fixture(scope="module")
def expected():
    """What one thread makes of it, in this process."""
    scope = {}
    exec(TRAINING, scope)
    value, history = scope["digest"](threads=1)
    assert history.threads == 1
    assert history.loss[1] < history.loss[0]
    return value


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_threading_layer_and_number_of_threads(expected, layer, threads):
    program = TRAINING + textwrap.dedent("""
        import numba
        numba.set_num_threads(1)  # starts Numba's own threads, so that its layer is really there
        value, history = digest()
        print(value, history.threads, numba.threading_layer())
    """)
    env = environment(NUMBA_NUM_THREADS=str(threads), NUMBA_THREADING_LAYER=layer, NUMBA_THREADING_LAYER_PRIORITY=None)
    assert run(program, env=env).stdout.split() == [expected, str(threads), layer]


@pytest.mark.parametrize("threads", [2, 3])
def test_the_argument_threads(expected, threads):
    scope = {}
    exec(TRAINING, scope)
    value, history = scope["digest"](threads=threads)
    assert (value, history.threads) == (expected, threads)


def test_two_python_threads_fit_at_once(expected):
    """Each model is its own; both want the same workers, so that one of them works alone."""
    scope = {}
    exec(TRAINING, scope)
    alone = {seed: scope["digest"](seed, threads=2, epochs=4)[0] for seed in (0, 1)}
    together = {}

    def work(seed):
        together[seed] = scope["digest"](seed, threads=2, epochs=4)[0]

    workers = [threading.Thread(target=work, args=(seed,)) for seed in alone]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert together == alone
    assert alone[0] != alone[1]


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_after_a_fork(expected, layer):
    """The child has workers of its own, also where the parent's engine is at work at that moment."""
    program = TRAINING + textwrap.dedent("""
        import multiprocessing, threading, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork with threads

        def child(connection, model):
            connection.send((digest(threads=2)[0], model.predict(X).tobytes()))

        value, _ = digest(threads=2)
        busy = fastnn.MLP([64, 300, 129, 10], threads=2)
        predicted = busy.predict(X).tobytes()
        stop = False

        def work():
            while not stop:
                busy.predict(X)

        worker = threading.Thread(target=work)
        worker.start()
        fork = multiprocessing.get_context("fork")
        for _ in range(3):
            ours, theirs = fork.Pipe()
            process = fork.Process(target=child, args=(theirs, busy))
            process.start()
            assert ours.poll(600), "the child does not answer"
            assert ours.recv() == (value, predicted)
            process.join()
            assert process.exitcode == 0
        stop = True
        worker.join()
        assert digest(threads=2)[0] == value
        print(value)
    """)
    assert run(program, env=environment(NUMBA_THREADING_LAYER=layer)).stdout.split() == [expected]


def test_small_stacks():
    """Threads of 32 KiB, as programs with thousands of them ask for: those that call, and workers that they start."""
    program = textwrap.dedent("""
        import threading
        import numpy as np
        import fastnn, kernels

        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((2000, 300)), rng.integers(10, size=2000)

        def work(threads):
            for dtype in ("float32", "float64"):
                options = {"dtype": dtype, "seed": 0, "threads": threads, "dropout": 0.1}
                model = fastnn.MLP([300, 400, 100, 10], ["relu", "gelu"], **options)
                model.fit(X, y, 1, 256, fastnn.Adam(clip_norm=1.0), l2=1e-3, validation_split=0.1, progress=False)
                loss, _, _, dx = model.loss_and_gradients(X, y)
                results[threads] += [model.predict(X), model.evaluate(X, y)["loss"], loss, dx]
                x, (w, *_), (b, *_) = X.astype(dtype), model.weights, model.biases
                h = kernels.linear(x, w, b, activation="relu")
                results[threads] += [h, *kernels.linear_backward(h, x, w, h, activation="relu")]
                z = model.predict(X)
                results[threads] += [kernels.softmax(z), kernels.softmax_cross_entropy(z, y)[1]]

        results = {1: [], 2: []}
        threading.stack_size(32768)
        for threads in (2, 1):
            thread = threading.Thread(target=work, args=(threads,))
            thread.start()
            thread.join()
        assert len(results[1]) == len(results[2]) == 20
        for a, b in zip(results[1], results[2]):
            np.testing.assert_array_equal(a, b)
    """)
    run(program)


def test_one_seed_gives_one_model_and_another_gives_another():
    (X,) = random_arrays(0, (300, 7))
    y = random_labels(1, 300, 3)

    def trained(seed):
        model = MLP([7, 17, 3], seed=seed)
        model.fit(X, y, 2, optimizer=Adam(), validation_split=0.2, progress=False)
        return model.parameters

    np.testing.assert_array_equal(trained(3), trained(3))
    assert not np.array_equal(trained(3), trained(4))
    assert not np.array_equal(trained(None), trained(None))
