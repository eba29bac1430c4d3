"""Whole networks in compiled code: the same bits with any number of threads, and the step in its split form."""

import threading
import time

import numpy as np
import pytest
from numba import cfunc, types

from kernels.cpu import tuning
from kernels.cpu.compiler import jit
from kernels.cpu.engine import engine as engines
from kernels.cpu.engine import job_memory
from kernels.cpu.engine.engine import Engine
from kernels.cpu.engine.job import STOP
from kernels.cpu.ir import memory
from kernels.cpu.threads import workers
from kernels.engine.codes import ROW_NUMBER
from kernels.engine.network import perceptron
from kernels.layout import Layout, aligned_zeros
from kernels.optimizers.adam import Adam
from kernels.optimizers.sgd import SGD
from tests.oracle import assert_close, network_depth, random_arrays, random_labels, random_network, random_row_weights
from tests.requests import train_request

DTYPES = ["float32", "float64"]
DESCENT, MOMENTUM, ADAM = SGD().update, SGD(momentum=0.9).update, Adam().update

# of each, with a rate of 0.01 and as if Adam had made a few steps
SCALARS = {
    DESCENT: [0.01], MOMENTUM: [0.01, 0.9, 1.0], ADAM: [0.01, 0.9, 0.1, 0.999, 0.001, 1e-8, 2.0, 3.0],
}  # fmt: skip


def make_engine(widths, dtype="float32", activation="relu", output="softmax", bias=True, threads=1, dropout=()):
    layout = Layout.of(perceptron(widths, bias=bias), dtype)
    parameters = aligned_zeros(layout.size, dtype)
    weights, biases = random_network(0, widths)
    for view, values in zip(layout.weights(parameters) + layout.biases(parameters), weights + biases, strict=False):
        view[...] = values
    network = perceptron(widths, [activation] * (len(widths) - 2), output, bias=bias, dropout=dropout)
    return Engine(network, parameters, threads)


def train(engine, steps=3, batch_size=40, update=DESCENT, rate=0.1, l2=0.0, hook=None):
    """Steps on 100 rows with labels, the last batch ragged; returns (losses, parameters, state)."""
    (x,) = random_arrays(1, (100, engine.layout.widths[0]), dtype=engine.dtype)
    labels = random_labels(2, 100, engine.layout.widths[-1])
    state = [aligned_zeros(engine.layout.size, engine.dtype) for _ in update.slots]
    scalars = np.tile(SCALARS[update][1:], (steps, 1))
    scalars = np.insert(scalars, 0, rate, axis=1)
    rows = np.minimum(batch_size, 100 - batch_size * np.arange(steps))
    losses, right = engine.train(train_request(
        x, labels, order=np.random.default_rng(3).permutation(100).astype(ROW_NUMBER), total=int(rows.sum()),
        size=batch_size, scales=1.0 / rows, loss="softmax_cross_entropy", metric="label",
        update=update, state=state, scalars=scalars, l2=l2, hook=hook,
    ))  # fmt: skip
    return losses, right, engine.parameters, *state


INTEGERS = memory.pointer(types.int64)


def nothing(argument):
    pass


def count(argument):  # the address of an int64
    INTEGERS(argument)[0] += 1


def halve(dtype):
    element = getattr(types, dtype)
    pointer = memory.pointer(element)

    def function(argument):  # the address of two int64: the gradient's address and its size
        gradient, size = pointer(INTEGERS(argument)[0]), INTEGERS(argument)[1]
        for i in range(size):
            gradient[i] *= element(0.5)

    return function


@pytest.fixture(scope="module")
def hooks():
    """Hooks as a user writes them: C functions void(int64), compiled by Numba."""
    functions = {"nothing": nothing, "count": count} | {f"halve {dtype}": halve(dtype) for dtype in DTYPES}
    return {name: cfunc("void(int64)")(function) for name, function in functions.items()}


def argument_of(engine):
    return np.array([engine.gradient.ctypes.data, engine.gradient.size], np.int64)


WIDTHS = [[7, 3], [17, 65, 10], [5, 300, 1, 129, 4]]
UPDATES = list(SCALARS)


class TestSplitStep:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("widths", WIDTHS, ids=str)
    @pytest.mark.parametrize("update", UPDATES, ids=lambda update: update.name)
    @pytest.mark.parametrize("l2", [0.0, 0.3])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_hook_that_does_nothing_changes_no_bit(self, hooks, dtype, widths, update, l2, threads):
        fused = train(make_engine(widths, dtype), update=update, l2=l2)
        split_engine = make_engine(widths, dtype, threads=threads)
        split = train(split_engine, update=update, l2=l2, hook=(hooks["nothing"].address, 0))
        for one, other in zip(fused[1:], split[1:], strict=True):  # right rows, parameters, state
            np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(fused[0], split[0], rtol=1e-6)  # the l2 term is summed in another order

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("widths", WIDTHS, ids=str)
    def test_a_hook_that_halves_the_gradient_halves_the_step(self, hooks, dtype, widths):
        plain = train(make_engine(widths, dtype), rate=0.25)
        engine = make_engine(widths, dtype, threads=2)
        argument = argument_of(engine)
        halved = train(engine, rate=0.5, hook=(hooks[f"halve {dtype}"].address, argument.ctypes.data))
        np.testing.assert_array_equal(halved[2], plain[2])
        assert not np.array_equal(halved[2], make_engine(widths, dtype).parameters)

    def test_the_hook_is_called_once_a_step(self, hooks):
        calls = np.zeros(1, np.int64)
        train(make_engine([17, 65, 10], threads=2), hook=(hooks["count"].address, calls.ctypes.data))
        assert calls[0] == 3

    @pytest.mark.parametrize("bias", [True, False])
    def test_the_hook_sees_the_gradient_and_zeros_as_its_padding(self, hooks, bias):
        engine = make_engine([5, 300, 1, 129, 4], bias=bias)
        before = engine.parameters.copy()
        train(engine, steps=1, rate=0.0, hook=(hooks["nothing"].address, 0))
        np.testing.assert_array_equal(engine.parameters, before)
        (x,) = random_arrays(1, (100, 5), dtype="float32")
        rows = np.random.default_rng(3).permutation(100)[:40]
        _, expected, _ = engine.gradients(
            x[rows], random_labels(2, 100, 4)[rows], weight=None, scale=1 / 40, loss="softmax_cross_entropy"
        )
        np.testing.assert_array_equal(engine.gradient, expected)
        padding = np.ones(engine.layout.size, bool)
        for view in engine.layout.weights(padding) + engine.layout.biases(padding):
            view[...] = False
        assert padding.any()
        assert not engine.gradient[padding].any()
        assert not engine.parameters[padding].any()


class TestPasses:
    """Several passes over the data in one call are those of as many calls."""

    @pytest.mark.parametrize("dropout", [[], [0.5, 0.25]], ids=["plain", "dropout"])
    @pytest.mark.parametrize("ordered", [True, False])
    @pytest.mark.parametrize("batch_size", [40, 50, 100])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_to_the_same_bits(self, dropout, ordered, batch_size, threads):
        widths = [17, 65, 33, 10]
        (x,), labels = random_arrays(1, (107, 17), dtype="float32"), random_labels(2, 107, 10)
        weight = random_row_weights(4, 107)
        orders = [np.random.default_rng(n).permutation(100).astype(ROW_NUMBER) for n in range(3)]
        sizes = np.minimum(batch_size, 100 - np.arange(0, 100, batch_size))
        results = []
        for passes in (3, 1):
            parts, steps = 3 // passes, len(sizes) * passes
            engine = make_engine(widths, threads=threads, dropout=dropout)
            state, losses = [aligned_zeros(engine.layout.size, "float32") for _ in range(2)], []
            scalars = np.tile(SCALARS[ADAM], (steps, 1))
            for part in range(parts):
                order = np.concatenate([[0, 0], *orders]) if passes == 3 else np.concatenate([[0, 0], orders[part]])
                losses += [
                    engine.train(train_request(
                        x, labels, order=order.astype(ROW_NUMBER) if ordered else None, weight=weight, first=2,
                        total=100, size=batch_size, passes=passes,
                        scales=np.tile(1.0 / sizes, passes), loss="softmax_cross_entropy", metric="label",
                        update=ADAM, state=state, scalars=scalars, l2=0.01, noise=(7, 5 + part * len(sizes)),
                    ))
                ]  # fmt: skip
            results.append([engine.parameters, *state, *np.concatenate(losses, axis=1)])
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)


class TestThreads:
    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("activation", ["relu", "gelu"])
    @pytest.mark.parametrize("widths", [[64, 300, 129, 10], [700, 600, 3]], ids=str)
    def test_every_number_of_threads_gives_the_same_bits(self, monkeypatch, dtype, activation, widths):
        monkeypatch.setattr(workers.of_process, "worth_waking", lambda multiply_adds: True)
        results = []
        for threads in (1, 2, 3, 5):
            engine = make_engine(widths, dtype, activation, threads=threads)
            assert engine.thread_choice(100).choices[-1] == threads, "too little work to test threads with"
            results.append(train(engine, batch_size=100, steps=1, update=ADAM, l2=0.01))
            results[-1] += train(engine)
            for rows in (1, 3, 100):
                assert engine.forward_threads(rows) == threads or rows < 100
                out = np.empty((rows, widths[-1]), dtype)
                (x,) = random_arrays(4, (rows, widths[0]), dtype=dtype)
                engine.forward(x, out=out)
                results[-1] += (out,)
        for other in results[1:]:
            for expected, actual in zip(results[0], other, strict=True):
                np.testing.assert_array_equal(actual, expected)

    def test_workers_go_forward_where_that_is_worth_it(self, monkeypatch):
        worth = []
        monkeypatch.setattr(
            workers.of_process, "worth_waking", lambda multiply_adds: worth.append(multiply_adds) or len(worth) % 2
        )
        small, large = make_engine([64, 64, 10], threads=2), make_engine([700, 600, 3], threads=2)
        assert [small.forward_threads(rows) for rows in (1, 100, 1000, 1000)] == [1, 1, 2, 1]
        assert [large.forward_threads(rows) for rows in (1, 1, 100)] == [2, 1, 2]  # each reads a part of the weights
        weights = 700 * 600 + 600 * 3
        assert worth == [1000 * 64 * 74] * 2 + [16 * weights] * 2 + [100 * weights]

    def test_no_more_threads_take_part_than_were_asked_for(self):
        counts = np.zeros(2 * 8, np.int64)  # those inside, the most there ever were
        workers.of_process.run(CROWD, counts.ctypes.data, 4)
        assert counts[0] == 0
        for _ in range(20):  # workers of the wider run are awake and would like to come
            counts[:] = 0
            workers.of_process.run(CROWD, counts.ctypes.data, 4)
            counts[:] = 0
            workers.of_process.run(CROWD, counts.ctypes.data, 2)
            assert counts[0] == 0
            assert counts[8] <= 2

    def test_two_threads_may_use_one_engine(self):
        engine = make_engine([64, 300, 129, 10], threads=2)
        inputs = random_arrays(5, *[(rows, 64) for rows in (1, 37, 500, 1000)], dtype="float32")
        expected = [np.empty((len(x), 10), np.float32) for x in inputs]
        for x, out in zip(inputs, expected, strict=True):
            engine.forward(x, out=out)
        wrong = []

        def work(x, y):
            out = np.empty_like(y)
            for _ in range(50):
                engine.forward(x, out=out)
                if not np.array_equal(out, y):
                    wrong.append(len(x))

        workers = [threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert wrong == []


@jit.kernel
def crowd(real):
    """Come in, stay a while, go."""

    def function(address: int) -> None:
        inside = memory.fetch_add(address, 1) + 1
        most = memory.load(address + 64)
        while inside > most and not memory.compare_and_swap(address + 64, most, inside):
            most = memory.load(address + 64)
        spins = 0
        while spins < 20000 and memory.load(address + 64) < 4:
            spins += 1
            memory.pause()
        memory.fetch_add(address, -1)

    return function


CROWD = crowd["float32"]


def test_a_signal_handler_is_refused_a_model_at_work(monkeypatch):
    """Or it would wait for the thread that it interrupts, for ever, or change the job under its hands."""
    engine, asked = make_engine([30, 40, 5]), []
    x, out = random_arrays(6, (20, 30), dtype="float32")[0], np.empty((20, 5), np.float32)
    follow = engine.memory.follow

    def interrupted(schedule):
        for call in (lambda: engine.forward(x, out=out), lambda: train(engine)):
            with pytest.raises(RuntimeError, match=r"^a signal handler cannot use a model that is"):
                call()
            asked.append(call)
        follow(schedule)

    expected = train(make_engine([30, 40, 5]))
    monkeypatch.setattr(engine.memory, "follow", interrupted)
    results = train(engine)
    engine.forward(x, out=out)
    assert len(asked) == 4
    for one, same in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, same)


def test_after_a_lack_of_memory_no_buffer_is_used_that_was_given_back(monkeypatch):
    engine = make_engine([30, 40, 5])
    (x,) = random_arrays(6, (100, 30), dtype="float32")
    expected, out = np.empty((2, 20, 5), np.float32)
    engine.forward(x[:20], out=expected)

    def fail(*size):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(job_memory, "aligned_zeros", fail)
        before = engine.parameters.copy()
        with pytest.raises(MemoryError):
            train(engine, batch_size=100, steps=1)
    np.testing.assert_array_equal(engine.parameters, before)
    engine.forward(x[:20], out=out)
    assert engine.memory.buffers, "it has written into memory that it no longer holds"
    np.testing.assert_array_equal(out, expected)


INTEGERS_OF_LABELS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


def labelled(engine, labels, order, weight=None):
    """A step on each 20 rows of the order, whose labels nobody has checked."""
    (x,) = random_arrays(1, (100, engine.layout.widths[0]), dtype=engine.dtype)
    steps = len(order) // 20
    return engine.train(train_request(
        x, labels, order=order, weight=weight, total=len(order), size=20, scales=np.full(steps, 1 / 20),
        loss="softmax_cross_entropy", metric="label", update=DESCENT, state=[], scalars=np.full((steps, 1), 0.1),
    ))  # fmt: skip


class TestWhatIndexesMemory:
    """Labels may change after they were checked, in a memory map say; they and row numbers are checked where used."""

    @pytest.mark.parametrize("integer", INTEGERS_OF_LABELS)
    @pytest.mark.parametrize("threads", [1, 2])
    def test_a_label_of_no_output_is_an_error_that_names_its_row(self, integer, threads):
        labels, order = random_labels(2, 100, 5).astype(integer), np.arange(100)[::-1].astype(ROW_NUMBER)
        weight = np.ones(100)
        weight[17] = 0.0
        expected = make_engine([7, 40, 5], threads=threads)
        labelled(expected, labels, order, weight)
        for label in {np.iinfo(integer).min, -1, 5, 200, np.iinfo(integer).max}:
            if not 0 <= label < 5 and np.iinfo(integer).min <= label <= np.iinfo(integer).max:
                engine, wrong = make_engine([7, 40, 5], threads=threads), labels.copy()
                wrong[17] = label
                with pytest.raises(ValueError, match=r"^labels must stay from 0 to 4 .* row 17 "):
                    labelled(engine, wrong, order)
                # the row itself teaches nothing
                np.testing.assert_array_equal(engine.parameters, expected.parameters)
                labelled(engine, labels, order)  # and the engine goes on

    def test_in_losses_and_gradients(self):
        engine, labels = make_engine([7, 40, 5], threads=2), random_labels(2, 100, 5)
        (x,) = random_arrays(1, (100, 7), dtype="float32")
        labels[99] = -100
        with pytest.raises(ValueError, match="row 99 "):
            engine.forward(x, target=labels, metric="label")
        with pytest.raises(ValueError, match="row 99 "):
            engine.gradients(x, labels, weight=None, scale=0.01, loss="softmax_cross_entropy")

    @pytest.mark.parametrize("row", [100, 2**31, 2**32 - 1])
    def test_a_number_of_no_row_reads_nothing(self, row):
        order = np.arange(100).astype(ROW_NUMBER)
        order[33] = row
        with pytest.raises(ValueError, match=f"row {row} "):
            labelled(make_engine([7, 40, 5]), random_labels(2, 100, 5), order)
        engine, (x, t) = (
            make_engine([7, 40, 5], output="identity"),
            random_arrays(1, (100, 7), (100, 5), dtype="float32"),
        )
        weight = np.ones(100)
        for each in (None, weight):
            losses, _ = engine.forward(x, order=order, target=t, weight=each, loss="mean_squared_error")
            assert np.isnan(losses[33])
            assert np.isfinite(np.delete(losses, 33)).all()


PLANS = {"few rows": ([20, 30, 3], 40), "groups": ([7, 16, 3], 4000), "layers": ([300, 400, 3], 100)}


class TestStop:
    """A job that is told to stop."""

    @staticmethod
    def step(engine, rows, **options):
        (x,) = random_arrays(1, (rows, engine.layout.widths[0]), dtype="float32")
        labels = random_labels(2, rows, engine.layout.widths[-1])
        scalars = np.array([SCALARS[ADAM]])
        state = [aligned_zeros(engine.layout.size, "float32") for _ in range(2)]
        engine.train(train_request(
            x, labels, total=rows, size=rows, scales=np.array([1 / rows]), loss="softmax_cross_entropy", metric="label",
            update=ADAM, state=state, scalars=scalars, **options,
        ))  # fmt: skip
        return engine.parameters, *state

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("plan", PLANS)
    @pytest.mark.parametrize("options", [{}, {"l2": 0.1}, {"clip_norm": 1.0}])
    def test_before_it_begins_changes_nothing(self, monkeypatch, plan, options, threads):
        widths, rows = PLANS[plan]
        monkeypatch.setattr(tuning, "LONG_JOB", 0)
        expected = self.step(make_engine(widths, threads=threads), rows, **options)
        monkeypatch.setattr(engines, "apart", lambda work, stop: (stop(), work()))
        engine = make_engine(widths, threads=threads)
        before = engine.parameters.copy()
        parameters, *state = self.step(engine, rows, **options)
        np.testing.assert_array_equal(parameters, before)
        assert not np.any(state)
        monkeypatch.undo()
        for actual, wanted in zip(self.step(engine, rows, **options), expected, strict=True):
            np.testing.assert_array_equal(actual, wanted)

    def test_between_the_gradient_and_the_update_changes_nothing(self):
        """By a hook, as compiled code of a user's."""
        engine = make_engine([20, 30, 3], threads=2)
        before = engine.parameters.copy()
        press = cfunc("void(int64)")(lambda address: memory.store(address, 1))
        parameters, *state = self.step(engine, 40, hook=(press.address, engine.memory.at + STOP))
        np.testing.assert_array_equal(parameters, before)
        assert not np.any(state)
        assert engine.gradient.any()

    @pytest.mark.parametrize("threads", [1, 2])
    @pytest.mark.parametrize("plan", PLANS)
    def test_at_any_moment_leaves_each_tile_of_weights_as_it_was_or_with_its_whole_update(
        self, monkeypatch, plan, threads
    ):
        widths, rows = PLANS[plan]
        monkeypatch.setattr(tuning, "LONG_JOB", 0)
        engine = make_engine(widths, threads=threads)
        before = [engine.parameters.copy()] + [np.zeros_like(engine.parameters)] * 2
        after = [array.copy() for array in self.step(engine, rows)]
        for pause in np.linspace(0, 2e-3, 20):

            def interrupted(work, stop, pause=pause):
                thread = threading.Thread(target=lambda: (time.sleep(pause), stop()))
                thread.start()
                work()
                thread.join()

            monkeypatch.setattr(engines, "apart", interrupted)
            engine.parameters[...] = before[0]
            stopped = self.step(engine, rows)
            for layer, i0, i1, j0, j1 in engine.memory.tiles:
                w = [engine.layout.weights(array)[layer][i0:i1, j0:j1] for array in (*before, *after, *stopped)]
                for actual, wanted in zip(w[6:], w[:3] if (w[6] == w[0]).all() else w[3:6], strict=True):
                    np.testing.assert_array_equal(actual, wanted)

    @pytest.mark.parametrize(("widths", "rows", "columns"), [([5600, 520, 5600], 384, 512), ([1700, 1700], 3400, 1700)])
    def test_a_product_that_takes_long_is_made_in_parts(self, widths, rows, columns):
        """Of one layer after the other, and of groups of rows; see `part_of`."""
        dtype = "float64"
        engine = make_engine(widths, dtype, "identity", "identity")
        assert min(rows, 384) * widths[0] * columns * 8 > tuning.PART_BYTES
        x, target = random_arrays(1, (rows, widths[0]), (rows, widths[-1]), dtype=dtype)
        _, gradient, dx = engine.gradients(x, target, weight=None, scale=1 / rows, loss="mean_squared_error")
        inputs = [x.astype(np.float64)]
        weights, biases = engine.layout.weights(engine.parameters), engine.layout.biases(engine.parameters)
        for w, b in zip(weights, biases, strict=True):
            inputs.append(inputs[-1] @ w + b)
        dz, depth = 2 * (inputs.pop() - target) / (rows * widths[-1]), network_depth(widths, rows)
        for dw, w, b in zip(engine.layout.weights(gradient)[::-1], weights[::-1], inputs[::-1], strict=True):
            assert_close(dw, b.T @ dz, dtype, depth)
            dz = dz @ w.T
        assert_close(dx, dz, dtype, depth)
