"""Work in a thread of its own: what Ctrl-C does to it, and what it must not do."""

import signal
import threading

import numpy as np
import pytest

from kernels.cpu import tuning
from kernels.cpu.compiler import cache, compiling, jit
from kernels.cpu.product import tasks as lists
from kernels.cpu.product.tiles import tiles
from kernels.process.apart import STACK, apart, with_stack
from tests.oracle import assert_close, random_arrays

PATIENCE = 60  # seconds, which a test that passes does not wait


@pytest.fixture(autouse=True)
def _ctrl_c():
    """Ctrl-C is heard also where a shell started pytest in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press_ctrl_c():
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def fail():
    raise ValueError("as it should")


def test_what_comes_back():
    caller = threading.current_thread()
    assert apart(threading.current_thread) is not caller
    assert apart(threading.current_thread, stop=fail) is not caller
    for stop in (None, fail):
        with pytest.raises(ValueError, match="as it should"):
            apart(fail, stop)


def test_work_that_can_be_stopped_stays_in_a_thread_without_signal_handlers():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(apart(threading.current_thread, stop=fail)))
    thread.start()
    thread.join()
    assert seen == [thread]


def test_ctrl_c_leaves_work_that_goes_on():
    left, ended = threading.Event(), threading.Event()

    def work():
        press_ctrl_c()
        if left.wait(PATIENCE):
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        apart(work)
    left.set()
    assert ended.wait(PATIENCE)


def test_ctrl_c_stops_work_and_waits_for_it_whatever_else_comes():
    told, ended = threading.Event(), []

    def work():
        press_ctrl_c()
        assert told.wait(PATIENCE)
        press_ctrl_c()
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        apart(work, stop=told.set)
    assert ended


def test_where_no_thread_can_be_started_the_caller_does_the_work(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert apart(threading.current_thread) is threading.current_thread()


def test_a_thread_has_the_stack_it_is_started_with():
    before = threading.stack_size()
    try:
        threading.stack_size(32768)
        assert with_stack(STACK, threading.stack_size) == STACK
        with pytest.raises(ValueError, match="as it should"):
            with_stack(STACK, fail)
        assert threading.stack_size() == 32768
    finally:
        threading.stack_size(before)


MOMENTS = {
    "before": (compiling._CFunc, "_compile_uncached"), "in the cache": (cache.Cache, "save_overload"),
}  # fmt: skip


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_while_a_kernel_is_compiled_leaves_the_compiler_to_its_end(moment, monkeypatch, tmp_path):
    """Numba, cut short, may have registered the half of what it registers once, and never compile that kernel again."""

    @jit.kernel(name=f"interrupted_{moment.replace(' ', '_')}")
    def double(real):
        def function(n: int) -> int:
            return 2 * n

        return function

    where, name = MOMENTS[moment]
    original, left, threads = getattr(where, name), threading.Event(), []

    def interrupted(*args):
        threads.append(threading.current_thread())
        if len(threads) == 1:
            press_ctrl_c()
            assert left.wait(PATIENCE)
        return original(*args)

    monkeypatch.setattr(compiling.config, "CACHE_DIR", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(where, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            double["float32"].load()
        left.set()
        assert double["float32"](21) == 42
    assert len(threads) == 1, "compiled twice"
    assert threads[0] is not threading.main_thread(), "signal handlers run here"


def test_long_products_are_made_in_tiles_that_are_not():
    m, n, k = 300, 1000, 1 << 20
    parts = tiles(m, n, k, 2, 4)
    assert max(rows * columns for _, rows, _, columns in parts) * k <= 2 * tuning.TILE_MULTIPLY_ADDS
    covered = np.zeros((m, n), int)
    for i, rows, j, columns in parts:
        covered[i : i + rows, j : j + columns] += 1
    assert (covered == 1).all()


def test_ctrl_c_ends_a_long_product(monkeypatch):
    """No tile is begun after it."""
    begun = []
    monkeypatch.setattr(lists, "apart", lambda work, stop: (begun.append(1), stop(), work()))
    monkeypatch.setattr(tuning, "LONG_PRODUCT", 0)
    x, w, y = *random_arrays(0, (40, 30), (30, 50)), np.zeros((40, 50))
    tasks = lists.product_tasks((40, 50, 30), x, w, y, threads=2)
    lists.run(x.dtype, tasks, 2, 60000)
    assert begun
    assert not y.any()
    monkeypatch.setattr(lists, "apart", apart)
    lists.run(x.dtype, tasks, 2, 60000)
    assert_close(y, x @ w, "float64", 30)
