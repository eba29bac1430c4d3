"""Every optimiser that is known: its kernels, its public function, trainings by it, against its declared reference."""

import itertools
import pickle
from argparse import ArgumentParser

import numpy as np
import pytest
from numba import njit

import fastnn
import kernels
from fastnn import optimizers
from fastnn.cli.commands import train
from fastnn.schedules import InverseScaling
from kernels import reference
from kernels.cpu.measure.counts import operations_of
from kernels.optimizers import known
from tests.oracle import assert_close, random_arrays, random_labels

DTYPES = ("float32", "float64")
SHAPES = [(), (1,), (17,), (1, 1), (1, 65), (65, 1), (16, 16), (63, 17), (3, 4, 5)]
ON = {bool: True, float: 0.9}  # an option that asks for a slot, by its type


def options_for(declaration, update):
    """The options that ask for just the slots of an update."""
    wanted = {option: slot in update.slots for slot, option in declaration.optional.items()}
    return {option: ON[type(getattr(declaration(), option))] for option, there in wanted.items() if there}


def flags_of(declaration, update):
    """The other options of an update that are on or off."""
    others = set(update.options) - set(declaration.optional.values())
    return [option for option in sorted(others) if isinstance(getattr(declaration(), option, None), bool)]


CASES = [
    pytest.param(
        name,
        update,
        options_for(known[name], update) | dict.fromkeys(flags, True),
        id="-".join([update.name, *flags]),
    )
    for name in known
    for update in known[name].updates
    for flags in [[], *([flag] for flag in flags_of(known[name], update))]
]
cases = pytest.mark.parametrize(("name", "update", "options"), CASES)


def call(module, name, update, w, g, state, step, **options):
    """A step by the function of this name, at the optimiser's own rate."""
    numbered = {"step": step} if "step" in update.options else {}
    slots = dict(zip(update.slots, state, strict=True))
    getattr(module, name)(w, g, **slots, learning_rate=known[name].learning_rate, **numbered, **options)


def some_state(name, update, options, shape, dtype):
    """w, and what the slots hold after three steps of the reference."""
    w, *gradients = random_arrays(1, shape, shape, shape, shape)
    w, state = np.array(w), [np.zeros(shape) for _ in update.slots]
    for step, g in enumerate(gradients, 1):
        call(reference, name, update, w, g, state, step, **options)
    return np.asarray(w, dtype), [np.asarray(array, dtype) for array in state]


def check(name, update, options, before, g, step, after):
    """What one step made of (w, state), against the oracle."""
    w, state = np.array(before[0], np.float64), [np.array(array, np.float64) for array in before[1]]
    call(reference, name, update, w, g, state, step, **options)
    dtype = before[0].dtype
    assert_close(after[0], w, dtype, 1, np.abs(before[0]) + np.abs(w - before[0]))
    assert not np.array_equal(after[0], before[0])
    for actual, expected, start in zip(after[1], state, before[1], strict=True):
        assert_close(actual, expected, dtype, 1, np.abs(start) + np.abs(g) + np.abs(expected))


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_public_function_is_the_reference(name, update, options, dtype):
    """At all shapes, at an early step and a late one."""
    for shape, step in itertools.product(SHAPES, (4, 10**6)):
        w, state = some_state(name, update, options, shape, dtype)
        g = random_arrays(2, shape, dtype=dtype)[0]
        before, gradient = (w.copy(), [array.copy() for array in state]), np.copy(g)
        call(kernels, name, update, w, g, state, step, **options)
        check(name, update, options, before, g, step, (w, state))
        np.testing.assert_array_equal(g, gradient, err_msg="the gradient was changed")


# A call takes half a second and more to compile, and no text there asks for the dtype: one each, in turn
@pytest.mark.parametrize(
    ("name", "update", "options", "dtype"),
    [pytest.param(*case.values, dtype, id=f"{case.id}-{dtype}") for case, dtype in zip(CASES, itertools.cycle(DTYPES))],
)
def test_inside_compiled_code_it_is_the_reference(name, update, options, dtype):
    given = {slot: f"s[{k}]" for k, slot in enumerate(update.slots)} | options
    given |= {"learning_rate": known[name].learning_rate} | ({"step": "step"} if "step" in update.options else {})
    text = ", ".join(f"{argument}={value}" for argument, value in given.items())
    scope = {"kernels": kernels}
    exec(f"def function(w, g, s, step): kernels.{name}(w, g, {text})", scope)
    inside = njit(scope["function"])
    for shape, step in itertools.product([shape for shape in SHAPES if len(shape) == 2], (4, 10**6)):
        w, state = some_state(name, update, options, shape, dtype)
        g = random_arrays(2, shape, dtype=dtype)[0]
        before, gradient = (w.copy(), [array.copy() for array in state]), np.copy(g)
        inside(w, g, tuple(state), step)
        check(name, update, options, before, g, step, (w, state))
        np.testing.assert_array_equal(g, gradient, err_msg="the gradient was changed")


@cases
def test_what_is_not_a_number_stays_in_its_place(name, update, options):
    w, state = some_state(name, update, options, (9, 37), "float32")
    (g,) = random_arrays(2, (9, 37), dtype="float32")
    plain = w.copy()
    call(kernels, name, update, plain, g, [array.copy() for array in state], 4, **options)
    g[4, 36] = np.nan
    call(kernels, name, update, w, g, state, 4, **options)
    assert np.isnan(w[4, 36])
    w[4, 36] = plain[4, 36]
    np.testing.assert_array_equal(w, plain)


WIDTHS = (7, 33, 10, 3)


def trained(optimizer, dtype="float64", steps=3, **options):
    """A model, before and after so many steps on all its rows, and those."""
    net = fastnn.MLP(WIDTHS, activation="tanh", dtype=dtype, seed=0, device="cpu")
    net.biases[0][...] = 0.5
    X, y = random_arrays(3, (40, 7), dtype=dtype)[0], random_labels(4, 40, 3)
    for _ in range(steps):
        net.train_on_batch(X, y, optimizer, **options)
    return net, X, y


@cases
@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_training_makes_the_steps_of_the_reference(name, update, options, l2):
    """With a schedule and with clipping; no weight of biases decays by itself."""
    schedule = InverseScaling(0.02)
    expected, X, y = trained(None, steps=0)
    optimizer = known[name](schedule, clip_norm=0.3, **options)
    state = [[np.zeros_like(p) for _ in update.slots] for p in [*expected.weights, *expected.biases]]
    for step in range(1, 6):
        _, dws, dbs, _ = expected.loss_and_gradients(X, y)
        dws = [dw + l2 * w for dw, w in zip(dws, expected.weights, strict=True)]
        norm = np.sqrt(sum((g**2).sum() for g in [*dws, *dbs]))
        given = {"learning_rate": schedule(np.array([step - 1]))[0], **options}
        given |= {"step": step} if "step" in update.options else {}
        for n, (p, g) in enumerate(zip([*expected.weights, *expected.biases], [*dws, *dbs], strict=True)):
            bias = {"weight_decay": 0.0} if p.ndim == 1 and update.weights_alone else {}
            slots = dict(zip(update.slots, state[n], strict=True))
            getattr(reference, name)(p, g * min(1.0, 0.3 / norm), **slots, **given, **bias)
    net, _, _ = trained(optimizer, steps=5, l2=l2)
    start, _, _ = trained(None, steps=0)
    assert np.abs(net.parameters - start.parameters).max() > 1e-3
    np.testing.assert_allclose(net.parameters, expected.parameters, rtol=1e-9, atol=1e-11)


@cases
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_number_of_threads_gives_the_same_bits(name, update, options, dtype):
    X, y = random_arrays(5, (300, 64), dtype=dtype)[0], random_labels(6, 300, 10)
    results = []
    for threads in (1, 2):
        net = fastnn.MLP((64, 300, 129, 10), dtype=dtype, threads=threads, seed=1, device="cpu")
        history = net.fit(X, y, 2, 128, known[name](**options), l2=0.01, progress=False)
        results.append((net.parameters, history.loss))
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


@cases
def test_a_training_goes_on_from_its_checkpoint(name, update, options):
    optimizer = known[name](InverseScaling(0.01), **options)
    whole, X, y = trained(optimizer, "float32", 4)
    half, _, _ = trained(optimizer, "float32", 2)
    resumed = pickle.loads(pickle.dumps(half))
    assert resumed.optimizer_state.optimizer == optimizer
    for _ in range(2):
        resumed.train_on_batch(X, y, optimizer)
    np.testing.assert_array_equal(resumed.parameters, whole.parameters)
    assert not np.array_equal(resumed.parameters, half.parameters)


@cases
def test_scalars_of_a_slice_are_those_of_each_step(name, update, options):
    optimizer = known[name](InverseScaling(0.01), **options)
    rates = optimizer.rates(0, 2000)
    table = optimizer.scalars(0, rates)
    assert table.shape == (2000, len(update.names))
    parts = [optimizer.scalars(0, rates[:7]), optimizer.scalars(7, rates[7:])]
    np.testing.assert_allclose(np.vstack(parts), table, 1e-14)
    for step in (1, 2, 7, 1000):
        given = {
            option: float(getattr(optimizer, option)) for option in set(update.options) - {"step", "learning_rate"}
        }
        options = {**given, "step": float(step), "learning_rate": rates[step - 1]}
        one = update.table([options[name] for name in update.options], 1)[0]
        np.testing.assert_allclose(one, table[step - 1], 1e-12)


@cases
def test_its_rule_is_counted(name, update, options):
    assert operations_of(update.rule, "float32") == operations_of(update.rule, "float64") > 1


@pytest.mark.parametrize("name", list(known))
def test_it_is_known_by_its_name(name):
    assert type(optimizers.get(name)) is known[name] is getattr(optimizers, known[name].__name__)
    parser = ArgumentParser()
    train.add_arguments(parser)
    for rate, expected in (([], known[name]()), (["--learning-rate", "0.5"], known[name](0.5))):
        assert train.make_optimizer(parser.parse_args(["iris", "--optimizer", name, *rate])) == expected
    assert name in kernels.__all__


TORCH = {
    "sgd": lambda torch, o: (torch.optim.SGD, {"momentum": o.momentum, "nesterov": o.nesterov}),
    "adam": lambda torch, o: (torch.optim.Adam, {}),
    "adamw": lambda torch, o: (torch.optim.AdamW, {"weight_decay": o.weight_decay}),
    "amsgrad": lambda torch, o: (torch.optim.Adam, {"amsgrad": True}),
    "rmsprop": lambda torch, o: (torch.optim.RMSprop, {"momentum": o.momentum, "centered": o.centered}),
    "adagrad": lambda torch, o: (torch.optim.Adagrad, {}),
    "nadam": lambda torch, o: (torch.optim.NAdam, {}),
}


@pytest.fixture
def torch():
    """PyTorch in float64, its counts too, of which NAdam's product is in the default dtype."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(before)


@cases
def test_fifty_steps_are_those_of_pytorch(torch, name, update, options):
    if name not in TORCH:
        pytest.skip(f"PyTorch has no {name}")
    optimizer = known[name](**options)
    make, more = TORCH[name](torch, optimizer)
    w, *gradients = random_arrays(7, *[(5, 3)] * 51)
    theirs = torch.tensor(w.copy(), requires_grad=True)
    step_of_theirs = make([theirs], lr=optimizer.learning_rate, **more)
    state = [np.zeros_like(w) for _ in update.slots]
    for step, g in enumerate(gradients, 1):
        theirs.grad = torch.tensor(g)
        step_of_theirs.step()
        call(kernels, name, update, w, g, state, step, **options)
    np.testing.assert_allclose(w, theirs.detach().numpy(), rtol=1e-12, atol=1e-12)
