import math
import pickle

import numpy as np
import pytest

from fastnn import schedules
from fastnn.schedules import Constant, CosineDecay, InverseScaling, StepDecay, WarmUp

STEPS = np.arange(50)
EVERY_KIND = [
    Constant(0.1),
    StepDecay(0.1, 0.5, 10),
    CosineDecay(0.1, 40, 0.01),
    InverseScaling(0.1),
    WarmUp(CosineDecay(0.1, 40), 5),
]


def expect(schedule, formula):
    np.testing.assert_allclose(schedule(STEPS), [formula(s) for s in STEPS.tolist()], rtol=1e-14, atol=0)


def test_constant():
    expect(Constant(0.3), lambda s: 0.3)


def test_step_decay_falls_every_so_many_steps():
    expect(StepDecay(0.2, factor=0.1, every=7), lambda s: 0.2 * 0.1 ** math.floor(s / 7))


def test_cosine_decay_falls_to_final_and_stays():
    def formula(s):
        return 0.01 + (0.5 - 0.01) * (1 + math.cos(math.pi * s / 30)) / 2 if s < 30 else 0.01

    expect(CosineDecay(0.5, 30, final=0.01), formula)
    np.testing.assert_allclose(CosineDecay(0.5, 30)(np.array([0, 15, 30, 10**9])), [0.5, 0.25, 0, 0], atol=1e-16)


@pytest.mark.parametrize("power", [0, 0.5, 2])
def test_inverse_scaling(power):
    expect(InverseScaling(0.4, power), lambda s: 0.4 / (s + 1) ** power)


def test_warm_up_rises_from_above_zero_and_then_hands_over():
    inner = StepDecay(0.8, 0.5, 3)
    expect(WarmUp(inner, 4), lambda s: 0.8 * (s + 1) / 4 if s < 4 else 0.8 * 0.5 ** ((s - 4) // 3))
    assert WarmUp(inner, 4)(np.array([0, 3, 4])).tolist() == [0.2, 0.8, 0.8]


def test_warm_up_takes_a_constant_rate():
    np.testing.assert_array_equal(WarmUp(0.3, 6)(STEPS), WarmUp(Constant(0.3), 6)(STEPS))


@pytest.mark.parametrize("schedule", EVERY_KIND)
def test_returns_float64_of_the_shape_of_the_steps_and_leaves_them_alone(schedule):
    steps = np.arange(100, 112)
    steps.flags.writeable = False
    rates = schedule(steps)
    assert rates.dtype == np.float64
    assert rates.shape == steps.shape
    assert schedule(np.zeros(0, dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize("schedule", EVERY_KIND)
def test_a_slice_of_steps_gets_what_the_whole_run_gets(schedule):
    np.testing.assert_array_equal(np.concatenate([schedule(STEPS[:13]), schedule(STEPS[13:])]), schedule(STEPS))


@pytest.mark.parametrize("schedule", EVERY_KIND)
def test_is_a_value(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert len({schedule, pickle.loads(pickle.dumps(schedule))}) == 1
    with pytest.raises(AttributeError):
        schedule.steps = 3


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: Constant(0.0), "rate"),
        (lambda: Constant(math.nan), "rate"),
        (lambda: StepDecay(-0.1, 0.5, 1), "initial"),
        (lambda: StepDecay(0.1, 0.0, 1), "factor"),
        (lambda: StepDecay(0.1, 1.5, 1), "factor"),
        (lambda: StepDecay(0.1, 0.5, 0), "every"),
        (lambda: CosineDecay(math.inf, 10), "initial"),
        (lambda: CosineDecay(0.1, 0), "steps"),
        (lambda: CosineDecay(0.1, 10, final=-1e-9), "final"),
        (lambda: InverseScaling(0.1, -0.5), "power"),
        (lambda: WarmUp(0.1, 0), "steps"),
        (lambda: WarmUp(0.0, 5), "schedule"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(make, argument):
    with pytest.raises(ValueError, match=f"^{argument} must be .*, got [^\n]*$"):
        make()


@pytest.mark.parametrize(
    "make, argument",
    [
        (lambda: Constant("0.1"), "rate"),
        (lambda: Constant(True), "rate"),
        (lambda: StepDecay(0.1, 0.5, 2.0), "every"),
        (lambda: StepDecay(0.1, 0.5, True), "every"),
        (lambda: CosineDecay(0.1, None), "steps"),
        (lambda: WarmUp("cosine", 5), "schedule"),
        (lambda: WarmUp(CosineDecay, 5), "schedule"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(make, argument):
    with pytest.raises(TypeError, match=f"^{argument} must be .*, got [^\n]*$"):
        make()


def test_numpy_scalars_are_numbers():
    assert StepDecay(np.float32(0.5), np.float64(0.5), np.int32(2))(np.array([2])).tolist() == [0.25]


def test_get():
    def mine(step):
        return step * 0.1

    assert schedules.get(0.2) == Constant(0.2)
    assert schedules.get(mine) is mine
    with pytest.raises(TypeError, match="learning_rate must be a number or a schedule"):
        schedules.get("fast")
