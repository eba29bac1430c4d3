"""Matmul-bias-activation and its gradients against the oracle, at awkward sizes and in every layout of memory."""

import hashlib
import json
import textwrap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from kernels import reference
from kernels.cpu.ir import instruction_sets
from kernels.cpu.tuning import STREAMED_BYTES
from tests import oracle
from tests.layouts import LAYOUTS, WRITABLE
from tests.programs import environment, run

DTYPES = (np.float32, np.float64)
# What is done within the product, by a kernel behind it, and where that keeps z
KINDS = ["identity", "relu", "tanh", "gelu"]
SIZES = oracle.AWKWARD_SIZES


def layer(seed, rows, inputs, outputs, dtype):
    """x (B, I), w (I, O), b (O,), dy (B, O), with w scaled so that x @ w has a variance of one."""
    x, w, b, dy = oracle.random_arrays(seed, (rows, inputs), (inputs, outputs), (outputs,), (rows, outputs))
    return [a.astype(dtype) for a in (x, w / np.sqrt(inputs), b, dy)]


def poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)


def check_forward(x, w, b, activation):
    """linear against the oracle, into given arrays and new ones, with the pre-activation and without."""
    dtype, shape, depth = x.dtype, (len(x), w.shape[1]), x.shape[1]
    expected_pre = np.empty(shape)
    expected = reference.linear(x, w, b, activation, pre=expected_pre)
    scale = np.abs(x) @ np.abs(w) + (0.0 if b is None else np.abs(b))
    y, pre = poisoned(shape, dtype), poisoned(shape, dtype)
    assert kernels.linear(x, w, b, activation, out=y) is y
    oracle.assert_close(y, expected, dtype, depth, scale + np.abs(expected))
    np.testing.assert_array_equal(kernels.linear(x, w, b, activation), y)
    np.testing.assert_array_equal(kernels.linear(x, w, b, activation, out=poisoned(shape, dtype), pre=pre), y)
    oracle.assert_close(pre, expected_pre, dtype, depth, scale)
    return y, pre


def check_backward(dy, x, w, y, pre, activation):
    """linear_backward against the oracle, into given arrays and new ones."""
    dtype, rows, outputs = x.dtype, len(x), w.shape[1]
    expected_dz = np.empty(dy.shape)
    expected = reference.linear_backward(dy, x, w, y, activation, pre=pre, dz=expected_dz)
    # the derivatives of silu and gelu are sums whose terms may cancel: their error is relative to dy
    size = np.maximum(np.abs(expected_dz), np.abs(dy))
    scales = size @ np.abs(w).T, np.abs(x).T @ size, size.sum(0)
    given = [poisoned(a.shape, dtype) for a in (x, w, w[0], dy)]
    dx, dw, db, dz = given
    got = kernels.linear_backward(dy, x, w, y, activation, pre=pre, dx=dx, dw=dw, db=db, dz=dz)
    assert all(a is b for a, b in zip(got, given))
    oracle.assert_close(dz, expected_dz, dtype, 1, size)
    for result, value, depth, scale in zip(got, expected, (outputs, rows, rows), scales):
        oracle.assert_close(result, value, dtype, depth, scale)
    for result, again in zip(got, kernels.linear_backward(dy, x, w, y, activation, pre=pre)):
        np.testing.assert_array_equal(again, result)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", SIZES)
def test_awkward_sizes(rows, dtype):
    # every pair of sizes meets, in every position
    for i, inputs in enumerate(SIZES):
        outputs = SIZES[(i + SIZES.index(rows)) % len(SIZES)]
        x, w, b, dy = layer(i, rows, inputs, outputs, dtype)
        y, pre = check_forward(x, w, b, "relu")
        check_backward(dy, x, w, y, pre, "relu")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 8, 12, 21, 113, 300])
@pytest.mark.parametrize("stride", [1024, 4096, 8192])
def test_row_strides_that_map_to_one_cache_set(stride, rows, dtype):
    """Rows that lie a multiple of 4096 bytes apart are packed, and so are columns 1024 bytes apart or more."""
    size, isa = np.dtype(dtype).itemsize, instruction_sets.chosen()
    wide = stride // size
    for inputs, outputs in ((wide, 2 * isa.nv * isa.lanes(size) + 1), (wide - 3, 130)):
        x, w, b, dy = layer(10, rows, wide, max(wide, outputs), dtype)
        x, w, b, dy = x[:, :inputs], w[:inputs, :outputs], b[:outputs], dy[:, :outputs]
        y, pre = check_forward(x, w, b, "tanh")
        check_backward(dy, x, w, y, pre, "tanh")


def test_more_rows_than_are_packed_at_once():
    """Several blocks of b, several passes along k, several groups of strips of a; and each ragged."""
    for stride in (1024, 1000):
        x, w, b, dy = layer(11, 500, stride, 700, "float32")
        y, pre = check_forward(x[:, :901], w[:901], b, "relu")
        check_backward(dy, x[:, :901], w[:901], y, pre, "relu")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 2, 4, 6, 7])
def test_few_rows_by_large_weights(rows, dtype):
    """Weights from beyond L2, of which a few rows are read at once."""
    x, w, b, _ = layer(12, rows, 601, 700, dtype)
    assert w.nbytes > STREAMED_BYTES
    check_forward(x, w, b, "relu")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(608, 700), (601, 700), (30_000, 10)], ids=str)
def test_one_row_by_large_weights_has_the_bits_it_has_among_others(sizes, dtype):
    x, w, b, _ = layer(13, 8, *sizes, dtype)
    w[5, 3] = x[0, 7] = np.nan
    for bias in (b, None):
        together = kernels.linear(x, w, bias, "relu")
        for i in range(len(x)):
            np.testing.assert_array_equal(kernels.linear(x[i : i + 1], w, bias, "relu"), together[i : i + 1])
    assert np.isnan(together[0]).all()
    assert np.isnan(together[:, 3]).all()
    assert not np.isnan(together[1:, 4:]).any()


def test_small_stacks():
    """What is packed does not lie on the stack: 512 KiB is what a thread has by default on some systems."""
    result = run(
        textwrap.dedent("""
        import threading
        import numpy as np
        import kernels

        def work():
            x = np.ones((600, 1024), np.float32)
            assert (kernels.linear(x, x.T.copy()) == 1024).all()
            assert (kernels.linear_backward(x[:, :600].copy(), x, x.T[:, :600].copy())[0] == 600).all()
            print("done")

        threading.stack_size(256 * 1024)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        """)
    )
    assert result.stdout == "done\n"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", KINDS)
def test_activations(activation, dtype):
    for shape in ((1, 1, 1), (1, 65, 17), (17, 16, 33), (64, 1, 100), (130, 70, 1)):
        x, w, b, dy = layer(1, *shape, dtype)
        y, pre = check_forward(x, w, b, activation)
        check_backward(dy, x, w, y, pre, activation)
        check_forward(x, w, None, activation)


@given(
    shape=st.tuples(st.integers(2, 140), st.integers(1, 140), st.integers(4, 140)),
    activation=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    bias=st.booleans(),
)
def test_any_shape(shape, activation, dtype, bias):
    x, w, b, dy = layer(sum(shape), *shape, dtype)
    y, pre = check_forward(x, w, b if bias else None, activation)
    check_backward(dy, x, w, y, pre, activation)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_of_inputs(layout, dtype):
    for activation in ("tanh", "gelu"):
        plain = layer(2, 33, 18, 50, dtype)
        x, w, b, dy = plain
        pre = np.empty((33, 50), dtype)
        y = kernels.linear(x, w, b, activation, pre=pre)
        gradients = kernels.linear_backward(dy, x, w, y, activation, pre=pre)
        inputs = [layout(a) for a in (x, w, b, dy, y, pre)]
        before = [a.copy() for a in inputs]
        lx, lw, lb, ldy, ly, lpre = inputs
        np.testing.assert_array_equal(kernels.linear(lx, lw, lb, activation), y)
        for got, wanted in zip(kernels.linear_backward(ldy, lx, lw, ly, activation, pre=lpre), gradients):
            np.testing.assert_array_equal(got, wanted)
        for array, copy in zip(inputs, before):
            np.testing.assert_array_equal(array, copy, err_msg="an input was changed")


@pytest.mark.parametrize("dtype", DTYPES)
def test_broadcast_inputs(dtype):
    x, w, b, dy = layer(3, 21, 19, 37, dtype)
    for x_view in (np.broadcast_to(x[:1], x.shape), np.broadcast_to(x[:, :1], x.shape)):
        for w_view in (np.broadcast_to(w[:1], w.shape), np.broadcast_to(w[:, :1], w.shape)):
            for dy_view in (np.broadcast_to(dy[:1], dy.shape), np.broadcast_to(dy[0, 0], dy.shape)):
                y, pre = check_forward(x_view, w_view, np.broadcast_to(b[0], b.shape), "sigmoid")
                check_backward(dy_view, x_view, w_view, y, pre, "sigmoid")


@pytest.mark.parametrize("layout", WRITABLE, ids=lambda layout: layout.__name__)
@pytest.mark.parametrize("dtype", DTYPES)
def test_layouts_of_outputs(layout, dtype):
    x, w, b, dy = layer(4, 33, 18, 50, dtype)
    pre = np.empty((33, 50), dtype)
    y = kernels.linear(x, w, b, "silu", pre=pre)
    gradients = kernels.linear_backward(dy, x, w, activation="silu", pre=pre)
    out, pre_out, dx, dw, db, dz = (layout(poisoned(a.shape, dtype)) for a in (y, pre, x, w, b, dy))
    assert kernels.linear(x, w, b, "silu", out=out, pre=pre_out) is out
    np.testing.assert_array_equal(out, y)
    np.testing.assert_array_equal(pre_out, pre)
    results = kernels.linear_backward(dy, x, w, activation="silu", pre=pre, dx=dx, dw=dw, db=db, dz=dz)
    assert all(a is b for a, b in zip(results, (dx, dw, db)))
    for got, wanted in zip(results, gradients):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(dz, kernels.activate_backward(dy, activation="silu", pre=pre))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_lies_around_an_output_is_untouched(dtype):
    x, w, b, dy = layer(5, 13, 17, 35, dtype)
    for activation in ("identity", "relu", "tanh"):
        larger = np.full((15, 40), 7, dtype)
        kernels.linear(x, w, b, activation, out=larger[1:14, 2:37])
        larger[1:14, 2:37] = 7
        assert (larger == 7).all()
    wide, tall, row = np.full((15, 40), 7, dtype), np.full((20, 40), 7, dtype), np.full(40, 7, dtype)
    kernels.linear_backward(dy, x, w, dx=wide[1:14, 2:19], dw=tall[1:18, 3:38], db=row[2:37])
    wide[1:14, 2:19], tall[1:18, 3:38], row[2:37] = 7, 7, 7
    assert (wide == 7).all()
    assert (tall == 7).all()
    assert (row == 7).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_that_share_memory_with_inputs(dtype):
    x, w, b, dy = layer(6, 30, 30, 30, dtype)
    y = kernels.linear(x, w, b, "tanh")
    for shared in (x.copy(), x.copy().T, x.copy()[::-1]):
        expected = kernels.linear(shared.copy(), w, b, "tanh")
        assert kernels.linear(shared, w, b, "tanh", out=shared) is shared
        np.testing.assert_array_equal(shared, expected)
    shared = w.copy()
    np.testing.assert_array_equal(kernels.linear(x, shared, b, "tanh", out=shared.T), y)
    gradients = kernels.linear_backward(dy, x, w, y, "tanh")
    inputs = [a.copy() for a in (dy, x, w, y)]
    results = kernels.linear_backward(*inputs, "tanh", dx=inputs[1], dw=inputs[2], dz=inputs[0])
    for got, wanted in zip(results, gradients):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", KINDS)
def test_nan_and_infinity(activation, dtype):
    rows, inputs, outputs = 29, 20, 45  # ragged in rows and in columns
    x, w, b, _ = layer(7, rows, inputs, outputs, dtype)
    clean = kernels.linear(x, w, b, activation)
    below, above = reference.activate([-np.inf, np.inf], activation)
    for column in (0, 31, 44):
        bias = b.copy()
        for value, wanted in ((np.nan, np.nan), (-np.inf, below), (np.inf, above)):
            bias[column] = value
            y, expected = kernels.linear(x, w, bias, activation), clean.copy()
            expected[:, column] = wanted
            np.testing.assert_array_equal(y, expected)
    for row in (0, 12, 28):
        bad = x.copy()
        bad[row, 3] = np.nan
        expected = clean.copy()
        expected[row] = np.nan
        np.testing.assert_array_equal(kernels.linear(bad, w, b, activation), expected)
        bad[row, 3] = np.inf
        expected[row] = np.where(w[3] > 0, above, below)
        np.testing.assert_array_equal(kernels.linear(bad, w, b, activation), expected)
        bad[row, 4] = -np.inf  # and inf - inf is NaN
        expected[row] = np.where((w[3] > 0) == (w[4] > 0), np.nan, expected[row])
        np.testing.assert_array_equal(kernels.linear(bad, w, b, activation), expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", KINDS)
def test_nan_in_gradients(activation, dtype):
    x, w, b, dy = layer(8, 29, 20, 45, dtype)
    pre = np.empty(dy.shape, dtype)
    y = kernels.linear(x, w, b, activation, pre=pre)
    expected = [a.copy() for a in kernels.linear_backward(dy, x, w, y, activation, pre=pre)]
    dy[28, 44] = np.nan
    for gradient, where in zip(expected, ((28, slice(None)), (slice(None), 44), 44)):
        gradient[where] = np.nan
    for got, wanted in zip(kernels.linear_backward(dy, x, w, y, activation, pre=pre), expected):
        np.testing.assert_array_equal(got, wanted)


def digests():
    """Hashes of large layers' results: more than one thread works on each where there is more than one."""
    found = {}
    for dtype in DTYPES:
        for activation in KINDS:
            for shape in ((128, 300, 1000), (1000, 64, 129), (97, 513, 333)):
                x, w, b, dy = layer(9, *shape, dtype)
                pre = np.empty(dy.shape, dtype)
                y = kernels.linear(x, w, b, activation, pre=pre)
                results = y, kernels.linear(x, w, b, activation), pre
                results += kernels.linear_backward(dy, x, w, y, activation, pre=pre)
                data = b"".join(a.tobytes() for a in results)
                found[f"{np.dtype(dtype)} {activation} {shape}"] = hashlib.sha256(data).hexdigest()
    return found


def test_bits_do_not_depend_on_threads():
    script = "import json\nfrom tests.kernels.test_linear import digests\nprint(json.dumps(digests()))"
    one, two, three = (json.loads(run(script, env=environment(NUMBA_NUM_THREADS=str(n))).stdout) for n in (1, 2, 3))
    assert len(one) == 2 * 4 * 3
    assert one == two
    assert one == three
