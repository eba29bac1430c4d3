"""The child of a fork: it waits for no lock of a thread that stayed behind, and trains on where it was forked.

`python -m tests.fastnn.test_forks 500` forks 500 times beside four busy threads.
"""

import contextlib
import copy
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import numba
import numpy as np
import pytest
from llvmlite.binding import ffi
from numba.core.compiler_lock import global_compiler_lock

import fastnn
import kernels
from fastnn import MLP
from fastnn.network import base, loading
from fastnn.training import sharing
from fastnn.training.sharing import ThreadShare
from kernels.cpu.threads import workers
from kernels.process import apart, forks
from tests.oracle import random_arrays, random_labels

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
LOCKS = re.compile(r"\b(?:R?Lock|Condition|\w*Semaphore|Barrier|Event)\(|cached_property\b(?! )")
PATIENCE = 60  # seconds, which a test that passes does not wait
(X,) = random_arrays(0, (200, 12))
Y = random_labels(1, 200, 3)


def make():
    return MLP([12, 40, 3], seed=0, threads=2)


def learn(model):
    model.fit(X, Y, 2, 32, progress=False)
    return model.predict(X).tobytes()


def fork(work):
    """Let a child do some work; it has a minute. Returns its exit status, below 0 for the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork with threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(PATIENCE)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def held_by_another_thread(*locks):
    """Within this, another thread has the locks."""
    has_them, may_end = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            has_them.set()
            may_end.wait(PATIENCE)

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_them.wait(PATIENCE)
    yield
    may_end.set()
    thread.join()


def test_locks_of_other_threads_are_open_in_the_child():
    expected, model = learn(make()), make()
    engine, pool = model.engine(), workers.of_process
    locks = [base._making, loading._compiling, apart._starting, engine._lock, pool._lock]
    locks.append(model.random.bit_generator.lock)

    def child():
        assert learn(model) == expected
        assert learn(make()) == expected
        assert engine.forward(X.astype("float32"), out=np.empty((200, 3), "float32")) is not None

    with held_by_another_thread(*locks):
        engine._busy = pool._busy = True
        try:
            assert fork(child) == 0
        finally:
            engine._busy = pool._busy = False
    assert learn(model) == expected


def test_a_copied_models_generator_is_free_in_the_child_too():
    model = copy.deepcopy(make())
    with held_by_another_thread(model.random.bit_generator.lock):
        assert fork(lambda: learn(model)) == 0


@pytest.mark.parametrize("lock", [global_compiler_lock, ffi.lib._lock])
def test_a_fork_waits_until_nothing_is_half_compiled(lock):
    has_it, whole = threading.Event(), []

    def compile_something():
        with lock:
            has_it.set()
            time.sleep(0.1)
            whole.append(True)

    def child():
        assert whole
        with lock:
            pass

    thread = threading.Thread(target=compile_something)
    thread.start()
    assert has_it.wait(PATIENCE)
    assert fork(child) == 0
    thread.join()
    with lock:
        pass


def test_an_interrupt_in_the_midst_of_taking_the_locks_gives_back_what_was_taken():
    @contextlib.contextmanager
    def interrupted():
        raise KeyboardInterrupt
        yield

    lock = interrupted()
    forks._held.append(lock)
    try:
        with pytest.raises(KeyboardInterrupt):
            forks._before()
        assert global_compiler_lock.is_locked()
        forks._after_in_parent()
        assert not global_compiler_lock.is_locked()
    finally:
        forks._held.remove(lock)


class Fork(fastnn.Callback):
    """Forks after the first epoch; parent and child both go on."""

    child = None

    def on_epoch_end(self, model, epoch, logs):
        if epoch == 0:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                self.child = os.fork()


def test_a_child_that_was_forked_in_a_callback_trains_on():
    expected, callback, model, status = learn(make()), Fork(), make(), 1
    try:
        model.fit(X, Y, 2, 32, callbacks=[callback], progress=False)
        if callback.child == 0:
            assert model.predict(X).tobytes() == expected
            assert not sharing._running
            assert learn(make()) == expected
            status = 0
    except BaseException:
        if callback.child != 0:
            raise
        traceback.print_exc()
    finally:
        if callback.child == 0:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(callback.child, 0)[1]) == 0
    assert model.predict(X).tobytes() == expected


def test_trainings_that_go_on_in_the_child_count_there():
    engine, other = make().engine(), make().engine()
    engine.most_threads = other.most_threads = 4

    def child():
        with ThreadShare(other):
            assert other.threads == 4
            share.take()
            assert engine.threads == 2

    with ThreadShare(engine) as share, ThreadShare(other):
        assert fork(child) == 0
        share.take()
        assert engine.threads == 2


def test_every_lock_is_one_that_the_child_finds_open():
    """And nobody uses functools.cached_property, which has a lock in Python 3.11."""
    # where they come from; those that the child has no use for, of a call that is not its own
    allowed = {"kernels/process/forks.py": 1, "kernels/process/apart.py": 1, "kernels/cuda/compiler/simulator.py": 2}
    for package in (fastnn, kernels):
        folder = Path(package.__file__).parent
        for path in folder.rglob("*.py"):
            name = path.relative_to(folder.parent).as_posix()
            found = LOCKS.findall(path.read_text())
            assert len(found) <= allowed.get(name, 0), (name, found)


def many_forks(n):
    """Fork n times beside threads that train, predict, make models and compile; returns the children's status."""
    expected, model, stop = learn(make()), make(), threading.Event()
    (x,) = random_arrays(2, (40, 12), dtype="float32")

    def compile_something():
        @numba.njit
        def function(x):
            return kernels.softmax(x, out=x)

        function.compile("(float32[:, ::1],)")

    def again_and_again(work):
        while not stop.is_set():
            work()

    works = [lambda: learn(model), lambda: model.predict(x), lambda: learn(make()), compile_something]
    threads = [threading.Thread(target=again_and_again, args=(work,)) for work in works]
    for thread in threads:
        thread.start()

    def child():
        model.predict(x)
        model.fit(X, Y, 1, progress=False)
        assert learn(make()) == expected
        compile_something()

    try:
        return [fork(child) for _ in range(n)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_forks_beside_busy_threads():
    assert many_forks(3) == [0] * 3


if __name__ == "__main__":
    failed = [status for status in many_forks(int(sys.argv[1])) if status]
    sys.exit(f"{len(failed)} children failed, {failed.count(-signal.SIGALRM)} of them hung" if failed else 0)
