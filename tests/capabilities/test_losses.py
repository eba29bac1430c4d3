"""Every loss that is known: kernel and compiled code against its reference, targets of all kinds, weights, layouts."""

import functools
import inspect
import math
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from fastnn.cli import arguments
from fastnn.losses import loss_for
from kernels import losses, maths, reference
from kernels.cpu.measure import counts
from kernels.cpu.rowwise.loss import losses as compiled
from kernels.engine.codes import ALL_OUTPUTS, IDENTITY, LARGEST_IS_LABEL, LARGEST_IS_LARGEST
from tests import oracle
from tests.layouts import LAYOUTS, WRITABLE
from tests.oracle import LOSS_PARAMETERS, loss_of

DTYPES = (np.float32, np.float64)
LOSSES, CASES = list(losses.LOSSES), oracle.LOSS_CASES
DOCUMENT = (Path(__file__).parents[2] / "docs" / "losses.md").read_text()
OF_LABELS = [loss for loss in CASES if losses.loss_and_parameter(loss)[0].targets.labels]
SHAPES = [(1, 1), (1, 65), (65, 1), (2, 2), (15, 17), (63, 16), (64, 64), (17, 1000), (1000, 3)]


def data(seed, loss, shape, dtype, spread=3.0):
    """Logits or predictions, and a target of the same shape."""
    (z,) = oracle.random_arrays(seed, shape)
    spread = min(spread, 3.0) if "exp" in losses.loss_and_parameter(loss)[0].outputs else spread  # exp(z) is as large
    return (spread * z).astype(dtype), oracle.random_target(seed + 1, loss, *shape, dtype)


def magnitudes(loss, z, target, weight):
    """What is added up to make the loss, and each element of dz."""
    z, t, declared = np.asarray(z, np.float64), np.asarray(target, np.float64), losses.loss_and_parameter(loss)[0]
    if declared.targets.labels:
        labels = t.ndim == 1
        row, element = np.abs(z).max(1) * 2 + math.log(z.shape[1]), np.ones(z.shape)
        row = row * (1.0 if labels else t.sum(1))
        element = element + (0.0 if labels else t.sum(1, keepdims=True))
    else:
        choice, t = oracle.loss_with_parameter(loss), t.reshape(z.shape)
        value, slope = declared.reference(z, t, *([] if isinstance(choice, str) else choice[1:]))
        row = (np.abs(value) + (1.0 + np.abs(t)) * (1.0 + np.abs(z))).sum(1)
        element = np.abs(slope) + np.abs(t) + 1.0
    divisor = z.shape[1] if declared.mean else 1
    share = np.ones(len(z)) if weight is None else np.asarray(weight, np.float64)
    if declared.averaged:
        share = share / (share.sum() or 1.0)
    return float(share @ row) / divisor, share[:, np.newaxis] * element / divisor


def check(loss, z, target, weight):
    """The loss against the oracle, into a given array and a new one."""
    dz = np.full(z.shape, np.nan, z.dtype)
    value, got = loss_of(kernels, loss)(z, target, weight, dz=dz)
    assert got is dz
    assert type(value) is float
    expected, expected_dz = loss_of(reference, loss)(z, target, weight)
    value_scale, dz_scale = magnitudes(loss, z, target, weight)
    oracle.assert_close(value, expected, z.dtype, z.shape[1], value_scale)
    oracle.assert_close(dz, expected_dz, z.dtype, z.shape[1], dz_scale)
    again, new = loss_of(kernels, loss)(z, target, weight)
    assert again == value
    np.testing.assert_array_equal(new, dz)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_against_the_oracle(loss, dtype):
    for shape in SHAPES:
        z, target = data(0, loss, shape, dtype)
        check(loss, z, target, None)
        check(loss, z, target, oracle.random_row_weights(2, shape[0], dtype))
        if loss in OF_LABELS:
            labels = oracle.random_labels(3, *shape)
            check(loss, z, labels, None)
            check(loss, z, labels, oracle.random_row_weights(2, shape[0], dtype))
        if shape[1] == 1 and loss not in OF_LABELS:
            check(loss, z, target[:, 0], None)


@given(
    loss=st.sampled_from(CASES),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([1e-3, 1.0, 30.0, 1000.0]),
    labels=st.booleans(),
)
def test_any_shape(loss, shape, dtype, spread, labels):
    rows, columns = shape
    z, target = data(sum(shape), loss, (rows + 1, columns + 1), dtype, spread)
    z[-1] = 0.0  # a row whose loss and gradient are not too small to be compared
    if target[-1].sum() == 0.0:
        target[-1, 0] = 1.0
    if labels and loss in OF_LABELS:
        target = oracle.random_labels(sum(shape), *z.shape)
    weight = oracle.random_row_weights(1, rows, dtype)
    check(loss, z, target, np.append(weight, weight.sum()))


@pytest.mark.parametrize("integer", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_labels_of_every_integer_type(integer):
    z, _ = data(4, "softmax_cross_entropy", (40, 5), np.float32)
    labels = oracle.random_labels(5, 40, 5)
    value, dz = kernels.softmax_cross_entropy(z, labels)
    for same in (labels.astype(integer), np.repeat(labels.astype(integer), 2)[::2], labels.astype(integer).tolist()):
        again, gradient = kernels.softmax_cross_entropy(z, same)
        assert again == value
        np.testing.assert_array_equal(gradient, dz)


def test_labels_that_are_booleans_are_0_and_1():
    z, _ = data(4, "softmax_cross_entropy", (40, 5), np.float32)
    labels = oracle.random_labels(5, 40, 2)
    for function in (kernels.softmax_cross_entropy, loss_of(reference, "softmax_cross_entropy")):
        value, dz = function(z, labels)
        for same in (labels == 1, np.repeat(labels == 1, 2)[::2], (labels == 1).tolist()):
            again, gradient = function(z, same)
            assert again == value
            np.testing.assert_array_equal(gradient, dz)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_no_weight_at_all(loss, dtype):
    z, target = data(6, loss, (7, 9), dtype)
    value, dz = loss_of(kernels, loss)(z, target, np.zeros(7, dtype), dz=np.full(z.shape, np.nan, dtype))
    assert value == 0.0
    np.testing.assert_array_equal(dz, 0.0)


@pytest.mark.parametrize("size", [1e-40, 3e-38, 1e38])
@pytest.mark.parametrize("loss", [name for name in LOSSES if losses.LOSSES[name].averaged])
def test_a_mean_by_tiny_and_huge_weights(loss, size):
    z, target = data(6, loss, (7, 9), np.float32)
    check(loss, z, target, np.linspace(1.0, 3.0, 7, dtype=np.float32) * np.float32(size))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_a_whole_weight_is_that_many_rows(loss, dtype):
    z, target = data(7, loss, (6, 5), dtype)
    counts = np.array([1, 0, 3, 2, 0, 1])
    value, dz = loss_of(kernels, loss)(z, target, counts.astype(dtype))
    repeated, gradient = loss_of(kernels, loss)(np.repeat(z, counts, 0), np.repeat(target, counts, 0))
    oracle.assert_close(value, repeated, dtype, 5)
    rows = np.cumsum(counts) - 1
    for row in np.flatnonzero(counts):
        oracle.assert_close(dz[row], counts[row] * gradient[rows[row]], dtype, 5, np.abs(dz).max())
    np.testing.assert_array_equal(dz[counts == 0], 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_cross_entropy_far_out(dtype):
    z = np.array([[1000, -1000], [1000, -1000], [-1000, -1000], [1000, 1000]], dtype)
    for row, label, value, dz in (
        (0, 1, 2000.0, [1, -1]), (1, 0, 0.0, [0, 0]), (2, 0, math.log(2), [-0.5, 0.5]),
        (3, 1, math.log(2), [0.5, -0.5]),
    ):  # fmt: skip
        for target in (np.array([label]), np.eye(2, dtype=dtype)[[label]]):
            got, gradient = kernels.softmax_cross_entropy(z[[row]], target)
            oracle.assert_close(got, value, dtype, 1)
            np.testing.assert_array_equal(gradient, np.array([dz], dtype))
    # a class that cannot be is no loss where the target says so, and an infinite one where it does not
    impossible = np.array([[-np.inf, 0.0]], dtype)
    for target in (np.array([1]), np.array([[0, 1]], dtype)):
        value, dz = kernels.softmax_cross_entropy(impossible, target)
        assert value == 0.0
        np.testing.assert_array_equal(dz, 0.0)
    for target in (np.array([0]), np.array([[1, 0]], dtype)):
        value, dz = kernels.softmax_cross_entropy(impossible, target)
        assert value == math.inf
        np.testing.assert_array_equal(dz, np.array([[-1, 1]], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [0.0, 1.0])
def test_sigmoid_cross_entropy_far_out(target, dtype):
    for z in (-1000.0, -80.0, -30.0, -20.0, -1.0, 0.0, 1.0, 20.0, 30.0, 80.0, 1000.0):
        value, dz = kernels.sigmoid_cross_entropy(np.array([[z]], dtype), np.array([[target]], dtype))
        away = -z if target == 1.0 else z  # the loss is log(1 + e^away): relatively right however small
        expected = away if away > 40 else math.log1p(math.exp(away))
        oracle.assert_close(value, expected, dtype, 1)
        slope = 1 / (1 + math.exp(-z)) if z > -700 else 0.0
        absolute = oracle.unit_roundoff(dtype) if target else np.finfo(dtype).tiny
        np.testing.assert_allclose(dz, [[slope - target]], oracle.tolerance(dtype, 1), absolute)


@pytest.mark.parametrize("dtype", DTYPES)
def test_poisson_far_out(dtype):
    for z, target, value, dz in (
        (-np.inf, 0.0, 0.0, 0.0), (-np.inf, 2.0, math.inf, -2.0), (-1000.0, 2.0, 2 * math.log(2) + 1998.0, -2.0),
        (1000.0, 0.0, math.inf, math.inf), (math.log(1e6), 1e6, 0.0, 0.0),
    ):  # fmt: skip
        got, gradient = kernels.poisson(np.array([[z]], dtype), np.array([[target]], dtype))
        slack = 4 * target * math.log(max(target, 1)) * oracle.unit_roundoff(dtype)
        np.testing.assert_allclose([got, gradient[0, 0]], [value, dz], oracle.tolerance(dtype, 1), slack)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 40])  # one by one, and in vectors
@pytest.mark.parametrize(
    ("loss", "below", "above", "value_below", "value_above"),
    [("absolute_error", -1, 1, 2, 2), ("huber", -0.7, 0.7, 0.7 * 1.65, 0.7 * 1.65), ("quantile", -0.9, 0.1, 1.8, 0.2)],
)
def test_kinks_and_far_out(loss, below, above, value_below, value_above, rows, dtype):
    large = np.finfo(dtype).max
    for z, target, value, dz in (
        (1.0, 1.0, 0.0, 0.0), (0.0, -0.0, 0.0, 0.0), (-1.5, 0.5, value_below, below), (2.5, 0.5, value_above, above),
        (-np.inf, 0.0, math.inf, below), (np.inf, 0.0, math.inf, above), (-large, large, math.inf, below),
        (large, -large, math.inf, above), (np.inf, np.inf, math.nan, math.nan), (0.0, np.nan, math.nan, math.nan),
    ):  # fmt: skip
        got, gradient = loss_of(kernels, loss)(np.full((rows, 1), z, dtype), np.full((rows, 1), target, dtype))
        tolerance = oracle.tolerance(dtype, rows)
        np.testing.assert_allclose(got, value, tolerance)
        np.testing.assert_allclose(gradient, np.full((rows, 1), dz / rows), tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_huber_and_quantile_the_limits_are_other_losses(dtype):
    z, target = data(6, "huber", (40, 7), dtype)
    weight = oracle.random_row_weights(7, 40, dtype)
    value, dz = kernels.huber(z, target, weight, delta=100.0)
    square, gradient = kernels.mean_squared_error(z, target, weight)
    oracle.assert_close(value, square / 2, dtype, 7)
    oracle.assert_close(dz, gradient / 2, dtype, 7)
    value, dz = kernels.quantile(z, target, weight, level=0.5)
    absolute, gradient = kernels.absolute_error(z, target, weight)
    assert value == absolute / 2
    np.testing.assert_array_equal(dz, gradient / 2)
    assert kernels.huber(z, target)[0] == kernels.huber(z, target, delta=1)[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_nan_stays_in_its_row(loss, dtype):
    z, target = data(8, loss, (21, 37), dtype)
    targets = [target, oracle.random_labels(9, 21, 37)] if loss in OF_LABELS else [target]
    for each in targets:
        _, clean = loss_of(kernels, loss)(z, each)
        for column in (0, 17, 36):
            bad, expected = z.copy(), clean.copy()
            bad[5, column] = np.nan
            value, dz = loss_of(kernels, loss)(bad, each)
            assert math.isnan(value)
            expected[5, slice(None) if losses.loss_and_parameter(loss)[0].f is None else column] = np.nan
            np.testing.assert_array_equal(dz, expected)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_layouts_of_inputs(loss, dtype, layout):
    z, target = data(10, loss, (21, 37), dtype)
    weight = oracle.random_row_weights(11, 21, dtype)
    targets = [target, oracle.random_labels(12, 21, 37)] if loss in OF_LABELS else [target]
    for each in targets:
        value, dz = loss_of(kernels, loss)(z, each, weight)
        inputs = [layout(a) for a in (z, each, weight)]
        again, gradient = loss_of(kernels, loss)(*inputs)
        assert again == value
        np.testing.assert_array_equal(gradient, dz)
        for array, before in zip(inputs, (z, each, weight)):
            np.testing.assert_array_equal(array, before, err_msg="an input was changed")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_layouts_of_outputs(loss, dtype):
    z, target = data(13, loss, (21, 37), dtype)
    value, dz = loss_of(kernels, loss)(z, target)
    for layout in WRITABLE:
        out = layout(np.full(z.shape, np.nan, dtype))
        again, got = loss_of(kernels, loss)(z, target, dz=out)
        assert got is out
        assert again == value
        np.testing.assert_array_equal(out, dz)
    for shares in (0, 1):  # the gradient over the logits, or over the target
        inputs = [z.copy(), target.copy()]
        again, got = loss_of(kernels, loss)(*inputs, dz=inputs[shares])
        assert got is inputs[shares]
        assert again == value
        np.testing.assert_array_equal(got, dz)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_one_target_for_all_rows(loss, dtype):
    """A row stride of 0 is a row stride of 0."""
    for shape in ((1, 3), (48, 49), (300, 1)):
        z, target = data(17, loss, shape, dtype)
        check(loss, z, np.broadcast_to(target[0], shape), None)
        check(loss, z[:1], target[0][np.newaxis], None)  # one row, whose stride is 0 too
        if loss in OF_LABELS:
            check(loss, z, np.broadcast_to(np.int64(shape[1] - 1), len(z)), None)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", [-1, 10, 10**12, -(2**63)])
def test_a_label_of_no_output_is_no_address(label, dtype):
    """As when a label changes after it was checked: the loss is NaN, and its row's gradient 0."""
    z, labels = data(18, "softmax_cross_entropy", (50, 10), dtype)[0], oracle.random_labels(19, 50, 10)
    _, expected = kernels.softmax_cross_entropy(z, labels)
    labels[7], expected[7] = label, 0.0
    value, dz = kernels.cpu.loss_and_gradient("softmax_cross_entropy", z, labels)
    assert math.isnan(value)
    np.testing.assert_array_equal(dz, expected)


def rows_of(loss, z, target, weight, first, rows):
    """dz, losses and whether they are right, of so many rows from `first` on."""
    metric = LARGEST_IS_LABEL if target.ndim == 1 else ALL_OUTPUTS if z.shape[1] == 1 else LARGEST_IS_LARGEST
    dz, row_loss, right = np.full((rows, z.shape[1]), np.nan, z.dtype), np.full(rows, np.nan), np.full(rows, np.nan)
    declared, parameter = losses.loss_and_parameter(oracle.loss_with_parameter(loss))
    compiled[declared.name][z.dtype](
        rows, z.shape[1], IDENTITY, z[first:].ctypes.data, z.strides[0], target[first:].ctypes.data, target.strides[0],
        target.ndim == 1, weight[first:].ctypes.data, 0.7, dz.ctypes.data, dz.strides[0],
        metric, row_loss.ctypes.data, right.ctypes.data, parameter,
    )  # fmt: skip
    return dz, row_loss, right


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", CASES, ids=str)
def test_a_row_does_not_depend_on_how_many_come_with_it(loss, dtype):
    """Not a bit: how an epoch's rows are shared out depends on the number of threads."""
    weight = oracle.random_row_weights(16, 150, dtype)
    for columns in (1, 10, 37):
        z, target = (np.ascontiguousarray(a) for a in data(14, loss, (150, columns), dtype))
        targets = [target, oracle.random_labels(15, *z.shape)] if loss in OF_LABELS else [target]
        for each in targets:
            whole = rows_of(loss, z, each, weight, 0, 150)
            assert not any(np.isnan(result).any() for result in whole)
            for first, rows in [(0, 1), (3, 1), (1, 2), (9, 7), (5, 8), (2, 9), (7, 31), (64, 63), (0, 65), (21, 129)]:
                for part, all_rows in zip(rows_of(loss, z, each, weight, first, rows), whole):
                    np.testing.assert_array_equal(part, all_rows[first : first + rows])


@pytest.mark.parametrize("loss", CASES, ids=str)
def test_the_gradient_is_the_derivative(loss):
    """By central differences in float64, of labels too."""
    z, target = data(20, loss, (3, 5), np.float64)
    weight = oracle.random_row_weights(21, 3)
    function = loss_of(kernels, loss)
    for each in [target, oracle.random_labels(22, 3, 5)] if loss in OF_LABELS else [target]:
        oracle.assert_gradient(function(z, each, weight)[1], lambda a, t=each: function(a, t, weight)[0], z)


@pytest.mark.parametrize("loss", LOSSES)
def test_names_and_signatures(loss):
    declared, function = losses.LOSSES[loss], getattr(kernels, loss)
    assert function is getattr(kernels, loss)
    assert (function.__module__, function.__name__) == ("kernels", loss)
    assert pickle.loads(pickle.dumps(function)) is function
    parameters = dict(inspect.signature(function).parameters)
    assert list(parameters) == ["z", "target", "weight", *([p.name] if (p := declared.parameter) else []), "dz"]
    assert [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY] == list(parameters)[3:]
    described = re.findall(r"^(\w+) : ", function.__doc__.partition("Returns\n")[0], re.MULTILINE)
    assert described == list(parameters)
    assert (declared.targets.must or "target") in function.__doc__
    given = arguments.loss(loss + (f":{LOSS_PARAMETERS[loss][1]:g}" if loss in LOSS_PARAMETERS else ""))
    for output in declared.outputs:
        assert loss_for(output, given) == oracle.loss_with_parameter(loss)


@pytest.mark.parametrize("loss", LOSSES)
def test_its_line_in_the_documentation(loss):
    declared = losses.LOSSES[loss]
    (line,) = [line for line in DOCUMENT.splitlines() if line.startswith(f"| {loss} |")]
    _, _, formula, over, targets, outputs, parameter, _ = (cell.strip() for cell in re.split(r"(?<!\\)\|", line))
    assert formula
    assert over == ("mean" if declared.mean else "sum")
    must = declared.targets.must.partition(" ")[2].removeprefix("in ")
    assert targets.removesuffix(", labels") == (must or "any")
    assert targets.endswith("labels") == declared.targets.labels
    assert outputs == ", ".join(output + "*" * (output == declared.default_of) for output in declared.outputs)
    p = declared.parameter
    assert parameter == (f"{p.name} in {p.interval}{'' if p.default is None else f', {p.default}'}" if p else "")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_operations_are_counted(loss, dtype):
    """What its rule makes, and its gradient's share of a mean."""
    declared, count, operations_of = losses.LOSSES[loss], counts._operations_of_loss, counts.operations_of
    choice, exponential = oracle.loss_with_parameter(loss), operations_of(maths.exp, dtype)
    for output in declared.outputs:
        operations = count(dtype, choice, output, False)
        if declared.targets.labels:
            found = [count(dtype, each, output, labels) for labels in (False, True) for each in (loss, choice)]
            assert found == [exponential + more for more in (9, 13, 3, 8)]
        elif declared.reads == "y" and output == "softmax":
            assert operations == exponential + 14
        else:
            through = exponential + 2 + 3 if declared.reads == "y" and output == "sigmoid" else 0
            assert operations == operations_of(declared.rule, dtype) + (4 if declared.mean else 2) + through


def torch_losses(torch):
    """What PyTorch has or makes of them, of float64 tensors, as a mean over rows of a mean or sum over outputs."""
    f = torch.nn.functional

    def by_rows(function, mean=True, **options):
        def value(z, t):
            each = function(z, t, reduction="none", **options)
            return (each.mean(1) if mean else each.sum(1)).mean()

        return value

    return {
        "softmax_cross_entropy": functools.partial(
            f.cross_entropy, label_smoothing=LOSS_PARAMETERS["softmax_cross_entropy"][1]
        ),
        ("softmax_cross_entropy", 0.0): f.cross_entropy,
        "sigmoid_cross_entropy": by_rows(f.binary_cross_entropy_with_logits, mean=False),
        "mean_squared_error": by_rows(f.mse_loss),
        "sum_squared_error": lambda z, t: f.mse_loss(z, t, reduction="sum"),
        "absolute_error": by_rows(f.l1_loss),
        "huber": by_rows(f.huber_loss, delta=0.7),
        "log_cosh": by_rows(lambda z, t, reduction: torch.logaddexp(z - t, t - z) - math.log(2.0)),
        "quantile": by_rows(lambda z, t, reduction: torch.maximum(0.9 * (t - z), 0.1 * (z - t))),
        "hinge": by_rows(lambda z, t, reduction: torch.relu(1.0 - t * z)),
        "poisson": by_rows(
            lambda z, t, reduction: f.poisson_nll_loss(z, t, reduction=reduction) + torch.xlogy(t, t) - t, mean=False
        ),
    }


def test_of_pytorch():
    torch = pytest.importorskip("torch", reason="no extra of the tests installs PyTorch")
    functions = torch_losses(torch)
    assert {losses.loss_and_parameter(loss)[0].name for loss in functions} == set(LOSSES)
    for loss, function in functions.items():
        z, target = data(23, loss, (40, 7), np.float64)
        for t in [target, oracle.random_labels(24, 40, 7)] if loss in OF_LABELS else [target]:
            x = torch.tensor(z, requires_grad=True)
            expected = function(x, torch.tensor(t))
            expected.backward()
            value, dz = loss_of(kernels, loss)(z, t)
            oracle.assert_close(value, expected.item(), np.float64, 40 * 7)
            oracle.assert_close(dz, x.grad.numpy(), np.float64, 7, np.abs(dz).max())
