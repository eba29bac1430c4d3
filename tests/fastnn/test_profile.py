"""profile: what it counts against counts made by hand, and that the model stays as it is."""

import dataclasses

import numpy as np
import pytest

from fastnn import MLP, SGD, Adam, profile
from tests.oracle import random_labels

N = 13  # rows: two batches of 5, and 3 rows that profile leaves out


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """The fewest rounds, each as short as can be: what takes how long is not what is tested."""
    monkeypatch.setattr(profile, "SECONDS", 0.0)
    monkeypatch.setattr(profile, "ROUND_SECONDS", 1e-9)


def data(dtype=np.float32):
    return np.random.default_rng(0).integers(0, 9, (N, 3)).astype(dtype), random_labels(1, N, 2)


def counted(result):
    return {(row.layer, row.phase): (row.operations, row.bytes) for row in result.rows}


class TestCounts:
    def test_labels_and_sgd(self):
        result = MLP([3, 4, 2], "tanh", seed=0).profile(*data(), 5, SGD(0.1))
        assert result.batch_size == 5
        assert counted(result) == {
            (1, "gather"): (0, 5 * (3 * (4 + 4) + 4)),  # X, its copy, the row's number
            (1, "forward"): (2 * 5 * 12, 4 * (5 * 3 + 12 + 4 + 5 * 4)),
            (1, "activation"): (20 * 45, 4 * 2 * 20),  # tanh: 27 in exp, 6 coefficients, 6 more, and 6
            (1, "derivative"): (20 * 3, 4 * 3 * 20),  # dy * (1 - y * y)
            (1, "dw"): (2 * 5 * 12 + 5 * 4, 4 * (5 * 3 + 12 + 4 + 5 * 4)),
            (1, "update"): (16 * 4, 4 * 3 * 16),  # w - rate * (g + l2 * w)
            (2, "forward"): (2 * 5 * 8, 4 * (5 * 4 + 8 + 2 + 5 * 2)),
            (2, "loss"): (10 * (27 + 3), 5 * (2 * 4 * 2 + 8 + 8 + 16)),  # z, dz, loss, rightness, label twice
            (2, "dx"): (2 * 5 * 8, 4 * (5 * 4 + 8 + 5 * 2)),
            (2, "dw"): (2 * 5 * 8 + 5 * 2, 4 * (5 * 4 + 8 + 2 + 5 * 2)),
            (2, "update"): (10 * 4, 4 * 3 * 10),
            (2, "transpose"): (0, 4 * 2 * 8),
        }

    def test_numbers_weights_and_adam(self):
        model = MLP([3, 4, 2], "leaky_relu", "identity", bias=False, dtype="float64", seed=0)
        X, _ = data(np.uint8)
        y, weight = np.ones((N, 2), np.float32), np.arange(N)
        result = model.profile(X, y, 5, Adam(0.1), l2=0.1, shuffle=False, sample_weight=weight)
        assert counted(result) == {
            (1, "gather"): (0, 5 * 3 * (1 + 8)),
            (1, "forward"): (2 * 5 * 12, 8 * (5 * 3 + 12 + 5 * 4)),
            (1, "activation"): (20, 8 * 2 * 20),
            (1, "derivative"): (20, 8 * 3 * 20),
            (1, "dw"): (2 * 5 * 12, 8 * (5 * 3 + 12 + 5 * 4)),
            (1, "update"): (12 * (2 + 14 + 2), 8 * 7 * 12),  # g + l2 * w, the step, the sum of w * w
            (2, "forward"): (2 * 5 * 8, 8 * (5 * 4 + 8 + 5 * 2)),
            # z, dz, loss, target and weight, copied
            (2, "loss"): (10 * (3 + 4), 5 * (2 * 8 * 2 + 8 + 2 * (4 + 8) + 8 + 8)),
            (2, "dx"): (2 * 5 * 8, 8 * (5 * 4 + 8 + 5 * 2)),
            (2, "dw"): (2 * 5 * 8, 8 * (5 * 4 + 8 + 5 * 2)),
            (2, "update"): (8 * (2 + 14 + 2), 8 * 7 * 8),
            (2, "transpose"): (0, 8 * 2 * 8),
        }

    def test_groups_of_rows_leave_their_shares_of_dw(self):
        X, y = np.ones((2048, 200), np.float32), random_labels(1, 2048, 6)
        rows = counted(MLP([200, 50, 6], seed=0).profile(X, y, 2048, SGD(0.1)))
        weights, groups = 200 * 50, 16  # of 128 rows
        assert rows[1, "dw"] == (
            2048 * (2 * weights + 50),
            4 * (2048 * (200 + 50) + groups * (weights + 50)),
        )
        assert rows[1, "sum"] == ((groups - 1) * (weights + 50), 4 * (groups + 1) * (weights + 50))
        assert rows[2, "sum"] == ((groups - 1) * 306, 4 * (groups + 1) * 306)
        assert rows[1, "update"] == ((weights + 50) * 4, 4 * 3 * (weights + 50))

    def test_layers_that_are_done_one_by_one_keep_no_transposed_weights(self):
        X, y = np.ones((10, 300), np.float32), random_labels(1, 10, 4)
        rows = counted(MLP([300, 100, 50, 4], seed=0).profile(X, y, 10, SGD(0.1)))
        assert [n for n, phase in rows if phase == "dx"] == [2, 3]
        assert [n for n, phase in rows if phase == "transpose"] == [3]

    def test_rows_that_are_read_in_place_and_relu(self):
        """Neither X nor ReLU has a phase of its own then."""
        phases = [row.phase for row in MLP([3, 4, 2], seed=0).profile(*data(), 100).rows]
        assert phases == ["forward", "derivative", "dw", "update", "forward", "loss", "dx", "dw", "update", "transpose"]

    @pytest.mark.parametrize("output", ["sigmoid", "softmax", "identity"])
    @pytest.mark.parametrize("loss", ["mean_squared_error", None])
    def test_momentum_and_losses(self, output, loss):
        rows = counted(MLP([3, 2], output=output, seed=0).profile(data()[0], np.ones((N, 2)), 5, SGD(1e-3, 0.9), loss))
        exp, log1p = 27, 27
        cross = {"softmax": exp + 9, "sigmoid": (3 + exp + log1p) + (exp + 2) + 3, "identity": 7}
        squared = {"softmax": exp + 14, "sigmoid": (exp + 2) + 3 + 7, "identity": 7}
        assert rows[1, "loss"][0] == 10 * (squared if loss else cross)[output]
        assert rows[1, "update"] == (8 * (2 + 7), 4 * 5 * 8)

    @pytest.mark.parametrize(
        ("loss", "operations"), [("absolute_error", 1), (("huber", 0.5), 4), (("quantile", 0.9), 3)]
    )
    def test_other_losses_of_numbers(self, loss, operations):
        model = MLP([3, 2], output="identity", seed=0)
        rows = counted(model.profile(data()[0], np.ones((N, 2)), 5, loss=loss))
        assert rows[1, "loss"][0] == 10 * (operations + 4)  # its share of a mean, of the loss and of the gradient

    def test_poisson(self):
        rows = counted(MLP([3, 2], output="exp", seed=0).profile(data()[0], np.ones((N, 2)), 5))
        assert rows[1, "loss"][0] == 10 * (27 + 25 + 6)  # exp, the logarithm of the target, and 6 more


@pytest.mark.parametrize("threads", [1, 2])
def test_times_add_up(threads):
    X, y = np.ones((256, 200), np.float32), random_labels(0, 256, 10)
    # enough to do that no number of threads is tried: it is the one that was asked for
    result = MLP([200, 600, 10], "gelu", threads=threads, seed=0).profile(X, y, 128)
    assert result.threads == threads
    assert result.seconds == pytest.approx(result.waiting + sum(row.seconds for row in result.rows))
    for row in result.rows:
        compute, memory = row.operations / result.flops, row.bytes / result.bandwidth
        assert row.bound == ("compute" if compute > memory else "memory")
        assert row.roofline == pytest.approx(max(compute, memory) / row.seconds)
        assert 0 < row.seconds <= result.limiting.seconds


def test_the_model_stays_as_it_is():
    X, y = data()
    model, twin = MLP([3, 4, 2], seed=0), MLP([3, 4, 2], seed=0)
    for each in (model, twin):
        each.train_on_batch(X, y)
    random, state = model.random.bit_generator.state, [array.copy() for array in model.optimizer_state.arrays]
    model.profile(X, y, 5)
    assert model.random.bit_generator.state == random
    assert model.optimizer_state.step == 1
    np.testing.assert_array_equal(model.optimizer_state.arrays, state)
    np.testing.assert_array_equal(model.parameters, twin.parameters)
    for each in (model, twin):
        each.train_on_batch(X, y)
        each.fit(X, y, 2, 5, progress=False)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


def test_a_model_on_a_gpu_is_refused():
    model = MLP([3, 2], seed=0)
    model._device = "cuda"
    with pytest.raises(ValueError, match=r'^profile needs a model with device="cpu", got "cuda"$'):
        model.profile(*data())


def test_the_table():
    result = profile.Profile(
        (profile.Row(1, "forward", 2_000_000, 40_000, 2e-5, 0.5, "compute"),
         profile.Row(1, "update", 400, 1_234_567, 7.5e-5, 0.8, "memory")),
        1e-4, 64, 2, 2e11, 2.5e10, 98_765,
    )  # fmt: skip
    assert str(result).splitlines() == [
        "a step on 64 rows takes 100 us on 2 threads",
        "layer  phase    operations    bytes     time  of step         rate  of roofline  bound",
        "    1  forward      2.00 M  40.0 kB  20.0 us    20.0%  100 GFLOP/s          50%  compute",
        "    1  update          400  1.23 MB  75.0 us    75.0%    16.5 GB/s          80%  memory",
        "       waiting                       5.00 us     5.0%",
        "roofline: 200 GFLOP/s, 25.0 GB/s on the 98.8 kB that a step touches",
        "most of the time: update of layer 1, 75% of a step, at 80% of its memory roofline",
    ]
    assert result.limiting == result.rows[1]
    result = dataclasses.replace(result, seconds=2e-4)
    assert str(result).splitlines()[-1] == (
        "most of the time: waiting, 52% of a step, then update of layer 1, 37% of a step, at 80% of its memory roofline"
    )


@pytest.mark.parametrize(("value", "text"), [
    (0, "0 B"), (1, "1.00 B"), (999.6, "1.00 kB"), (99.96e9, "100 GB"), (5e14, "500 TB"), (0.25, "250 mB"),
    (1.234e-6, "1.23 uB"), (2e-9, "0.00200 uB"),
])  # fmt: skip
def test_three_digits_and_a_prefix(value, text):
    assert profile._scaled(value, "B") == text
