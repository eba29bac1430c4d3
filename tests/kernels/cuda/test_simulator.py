"""The threads of a block in numba-cuda's simulator, as kernels.cuda runs them."""

import threading

import pytest

from kernels import devices

if not devices.has_extra() or not devices.simulated():
    pytest.skip("needs numba-cuda's simulator", allow_module_level=True)

from kernels.cuda.compiler.target import api, cuda
from tests.programs import PATIENCE

THREADS = 8


def run(kernel, *args):
    api.jit(kernel)[2, THREADS](*args)


def test_a_barrier_waits_for_all_threads_of_a_block():
    came, went = [], []

    def kernel():
        for n in range(3):
            came.append(n)
            cuda.syncthreads()
            went.append(len(came))
            cuda.syncthreads()

    run(kernel)
    assert came == [n for _ in range(2) for n in range(3) for _ in range(THREADS)]
    assert went == [THREADS * n for n in range(1, 7) for _ in range(THREADS)]


def test_a_thread_that_has_ended_holds_nobody_up():
    ended = []

    def kernel():
        for n in range(THREADS):
            if cuda.threadIdx.x == n:
                ended.append(n)
                return
            cuda.syncthreads()

    run(kernel)
    assert ended == [*range(THREADS)] * 2


def test_an_error_of_one_thread_ends_all():
    went, threads = [], set()

    def kernel():
        threads.add(threading.current_thread())
        cuda.syncthreads()
        if cuda.threadIdx.x == 3:
            raise ValueError("no")
        cuda.syncthreads()
        went.append(1)

    with pytest.raises(ValueError, match=r"tid=\[3, 0, 0\] .*: no"):
        run(kernel)
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(threads) == THREADS
    assert not went


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("barrier", [False, True])
def test_what_lacks_a_barrier_is_seen(barrier, step):
    """Whether a thread reads what the one before it writes, or the one after it."""
    missed = []

    def kernel():
        thread, held = cuda.threadIdx.x, cuda.shared.array(THREADS, "int64")
        held[thread] = 0
        cuda.syncthreads()
        held[thread] = 1
        if barrier:
            cuda.syncthreads()
        if 0 <= thread + step < THREADS and not held[thread + step]:
            missed.append(thread)

    run(kernel)
    assert bool(missed) != barrier
