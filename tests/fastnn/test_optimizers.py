import math
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import optimizers
from fastnn.optimizers import SGD, Adam
from fastnn.schedules import CosineDecay, StepDecay


def scalars(optimizer, first_step, n_steps):
    return optimizer.scalars(first_step, optimizer.rates(first_step, n_steps))


def test_sgd_scalars():
    table = scalars(SGD(0.3, momentum=0.9, nesterov=True), 17, 4)
    assert table.dtype == np.float64
    np.testing.assert_array_equal(table, [[0.3, 0.9, 1]] * 4)
    np.testing.assert_array_equal(scalars(SGD(), 0, 1), [[0.01]])


@pytest.mark.parametrize("first_step", [0, 1, 999, 10**7])
def test_adam_scalars(first_step):
    table = scalars(Adam(0.002, beta1=0.8, beta2=0.99, epsilon=1e-7), first_step, 5)
    assert table.dtype == np.float64
    expected = [
        [0.002, 0.8, 0.2, 0.99, 0.01, 1e-7, 1 / (1 - math.pow(0.8, t)), 1 / (1 - math.pow(0.99, t))]
        for t in range(first_step + 1, first_step + 6)
    ]
    np.testing.assert_allclose(table, expected, rtol=1e-13, atol=0)


def test_adam_without_memory_needs_no_correction():
    np.testing.assert_array_equal(scalars(Adam(beta1=0, beta2=0), 0, 3)[:, -2:], np.ones((3, 2)))


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_schedule_gives_each_step_its_rate(make):
    schedule = CosineDecay(0.1, 30)
    table = scalars(make(schedule), 12, 25)
    np.testing.assert_array_equal(table[:, 0], schedule(np.arange(12, 37)))
    np.testing.assert_array_equal(table[:, 1:], scalars(make(), 12, 25)[:, 1:])


@pytest.mark.parametrize("optimizer", [SGD(StepDecay(0.1, 0.5, 3), momentum=0.9), Adam(StepDecay(0.1, 0.5, 3))])
def test_slices_of_steps_get_what_the_whole_run_gets(optimizer):
    parts = [scalars(optimizer, 0, 7), scalars(optimizer, 7, 0), scalars(optimizer, 7, 13)]
    np.testing.assert_array_equal(np.concatenate(parts), scalars(optimizer, 0, 20))


def test_slots():
    assert (SGD().slots, SGD(momentum=0.9).slots, Adam().slots) == ((), ("velocity",), ("m", "v"))
    assert SGD(nesterov=True).slots == ()


@pytest.mark.parametrize("optimizer", [SGD(0.1, 0.9, True), Adam(CosineDecay(0.1, 10))])
def test_is_a_value(optimizer):
    assert pickle.loads(pickle.dumps(optimizer)) == optimizer
    assert hash(pickle.loads(pickle.dumps(optimizer))) == hash(optimizer)
    with pytest.raises(AttributeError):
        optimizer.learning_rate = 1.0


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: SGD(0), "learning_rate"),
        (lambda: SGD(-0.1), "learning_rate"),
        (lambda: Adam(math.nan), "learning_rate"),
        (lambda: SGD(momentum=1.1), "momentum"),
        (lambda: SGD(momentum=-0.1), "momentum"),
        (lambda: Adam(beta1=1.0), "beta1"),
        (lambda: Adam(beta2=-0.5), "beta2"),
        (lambda: Adam(epsilon=0), "epsilon"),
        (lambda: Adam(clip_norm=0.0), "clip_norm"),
        (lambda: SGD(clip_norm=math.inf), "clip_norm"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(make, argument):
    with pytest.raises(ValueError, match=f"^{argument} must be .*, got [^\n]*$"):
        make()


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: SGD("0.1"), "learning_rate"),
        (lambda: SGD(True), "learning_rate"),
        (lambda: Adam(CosineDecay), "learning_rate"),
        (lambda: SGD(momentum=None), "momentum"),
        (lambda: SGD(nesterov=1), "nesterov"),
        (lambda: Adam(beta1="0.9"), "beta1"),
        (lambda: SGD(clip_norm="1"), "clip_norm"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(make, argument):
    with pytest.raises(TypeError, match=f"^{argument} must be .*, got [^\n]*$"):
        make()


def test_a_callable_of_ones_own_is_a_schedule():
    table = scalars(SGD(lambda step: 1.0 / (step + 1)), 0, 4)
    np.testing.assert_array_equal(table[:, 0], [1, 1 / 2, 1 / 3, 1 / 4])


@pytest.mark.parametrize(
    "schedule, message",
    [
        (lambda step: 0.1, r"one rate per step, shape \(4,\), got shape \(\)"),
        (lambda step: np.full(3, 0.1), r"one rate per step, shape \(4,\), got shape \(3,\)"),
        (lambda step: np.where(step == 6, np.nan, 0.1), "got nan at step 6"),
        (lambda step: np.where(step == 8, -1.0, 0.1), "got -1.0 at step 8"),
        (lambda step: np.where(step >= 7, np.inf, 0.1), "got inf at step 7"),
    ],
)
def test_what_a_callable_of_ones_own_returns_is_checked(schedule, message):
    with pytest.raises(ValueError, match=f"^learning_rate must return .*{message}$"):
        Adam(schedule).rates(5, 4)


@pytest.mark.parametrize("make", [SGD, Adam])
def test_clip_norm_reaches_the_steps_and_not_the_scalars(make):
    X, y = np.random.default_rng(0).standard_normal((40, 5)), np.arange(40) % 3
    np.testing.assert_array_equal(scalars(make(clip_norm=0.01), 0, 3), scalars(make(), 0, 3))
    nets = [fastnn.MLP([5, 8, 3], seed=0) for _ in range(3)]
    for net, limit in zip(nets, (None, 1e9, 0.01), strict=True):
        net.fit(X, y, 3, 7, make(1e-2, clip_norm=limit), progress=False)
    np.testing.assert_array_equal(nets[0].parameters, nets[1].parameters)
    assert not np.array_equal(nets[0].parameters, nets[2].parameters)


def test_a_step_is_no_longer_than_clip_norm_times_the_rate():
    net = fastnn.MLP([5, 8, 3], seed=0, dtype="float64")
    before = net.parameters.copy()
    net.train_on_batch(np.full((4, 5), 100.0), np.array([0, 1, 2, 0]), SGD(0.5, clip_norm=0.25))
    np.testing.assert_allclose(np.linalg.norm(net.parameters - before), 0.125, rtol=1e-12)


def test_get():
    mine = SGD(0.5, momentum=0.3)
    assert optimizers.get(mine) is mine
    assert optimizers.get("sgd") == SGD()
    assert optimizers.get("adam") == Adam()


@pytest.mark.parametrize("value", ["nothing", "Adam", None, Adam, 0.1, ["adam"]])
def test_get_refuses_what_is_no_optimizer(value):
    with pytest.raises(ValueError, match=r"^optimizer must be one of .*'adam', .*'sgd' or an instance .*, got [^\n]*$"):
        optimizers.get(value)


def test_every_declared_class_is_found_in_fastnn():
    for name in optimizers.known:
        declared = optimizers.known[name]
        assert getattr(fastnn, declared.__name__) is getattr(fastnn.optimizers, declared.__name__) is declared
    with pytest.raises(AttributeError, match="'Adamant'"):
        fastnn.Adamant  # noqa: B018
