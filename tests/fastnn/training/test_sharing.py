"""Several trainings at once: the threads are shared, nothing crashes, and the results are those of one alone."""

import os
import textwrap
import threading

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn
from fastnn import MLP, MLPClassifier
from fastnn.training.sharing import ThreadShare
from tests.programs import PATIENCE, environment, run

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_digits(return_X_y=True)
X, Y = X[:600] / 16.0, Y[:600]


def classifier(**options):
    options = {"max_iter": 5, "random_state": 0, "hidden_layer_sizes": (64, 32)} | options
    return make_pipeline(StandardScaler(), MLPClassifier(**options))


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_cross_validation_and_grid_search(backend):
    model, grid = classifier(), {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__solver": ["adam", "sgd", "lbfgs"]}
    serial = cross_val_score(model, X, Y)
    searched = GridSearchCV(model, grid, cv=2).fit(X, Y)
    with parallel_config(backend, n_jobs=2):
        np.testing.assert_array_equal(cross_val_score(model, X, Y), serial)
        parallel = GridSearchCV(model, grid, cv=2).fit(X, Y)
    for name in ("mean_test_score", "rank_test_score"):
        np.testing.assert_array_equal(parallel.cv_results_[name], searched.cv_results_[name])
    np.testing.assert_array_equal(parallel.predict(X), searched.predict(X))


def test_processes_do_not_oversubscribe():
    jobs = 2

    def threads_inside():  # local, so that it is sent by value
        model = MLPClassifier(max_iter=1).fit(X, Y)
        return model.network_.engine().threads

    inside = Parallel(n_jobs=jobs, backend="loky")(delayed(threads_inside)() for _ in range(jobs))
    assert max(inside) <= max(1, len(os.sched_getaffinity(0)) // jobs)


def test_trainings_at_once_share_the_threads():
    """Three estimators and a plain network with 4 threads each, all in their second epoch at the same time."""
    barrier, seen = threading.Barrier(4, timeout=PATIENCE), []

    class Meet(fastnn.Callback):
        def on_epoch_end(self, model, epoch, logs):
            if epoch == 1:
                barrier.wait()
            if epoch == 2:
                seen.append(model.engine().threads)
                barrier.wait()

    def train(n):
        if n == 3:
            MLP([64, 64, 10], threads=4).fit(X, Y, 5, callbacks=[Meet()], progress=False)
        elif n == 2:
            MLPClassifier(max_iter=5, threads=4, callbacks=[Meet()], early_stopping=True).fit(X, Y)
        else:
            MLPClassifier(max_iter=5, threads=4, callbacks=[Meet()]).fit(X, Y)

    workers = [threading.Thread(target=train, args=(n,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert seen == [1, 1, 1, 1]


def test_alone_again():
    model = MLPClassifier(max_iter=2, threads=4).fit(X, Y)
    engine = model.network_.engine()
    assert engine.threads == 4
    with ThreadShare(engine), ThreadShare(engine) as second:
        assert engine.threads == 2
        with pytest.raises(ValueError, match="NaN"):
            MLPClassifier(max_iter=2).fit(X * np.nan, Y)
        second.take()
        assert engine.threads == 2
    with ThreadShare(engine):
        assert engine.threads == 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_the_child_of_a_fork_trains_alone():
    program = textwrap.dedent("""
        import os, warnings
        import fastnn
        from fastnn.training.sharing import ThreadShare

        model = fastnn.MLP([64, 8, 10], threads=2)
        with ThreadShare(model.engine()):
            child = os.fork()
            if child == 0:
                with ThreadShare(model.engine()) as share:
                    os._exit(share.engine.threads)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
    """)
    run(program)


@pytest.mark.parametrize("layer", ["omp", "workqueue", "tbb"])
def test_concurrent_fits_under_every_threading_layer(layer):
    """Each fit has enough work for two threads, and each thread predicts too."""
    program = textwrap.dedent("""
        import threading, warnings
        import numba
        import numpy as np
        from fastnn import MLPClassifier, MLPRegressor
        from tests.fastnn.training.test_sharing import X, Y

        warnings.simplefilter("ignore")
        numba.set_num_threads(2)  # starts Numba's own threads, so that its layer is really there

        def fit(n):
            kind = (MLPClassifier, MLPRegressor)[n % 2]
            solver = ("adam", "sgd", "lbfgs")[n % 3]
            model = kind(hidden_layer_sizes=(128, 128), solver=solver, max_iter=4, random_state=n).fit(X, Y)
            return model.predict(X)

        alone = [fit(n) for n in range(6)]
        together = [None] * 6

        def work(n):
            together[n] = fit(n)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for worker in workers: worker.start()
        for worker in workers: worker.join()
        for a, b in zip(alone, together):
            np.testing.assert_array_equal(a, b)
    """)
    env = environment(NUMBA_NUM_THREADS="2", NUMBA_THREADING_LAYER=layer, NUMBA_THREADING_LAYER_PRIORITY=None)
    run(program, env=env)
