"""The public functions of kernels.cuda against the reference, on a GPU or in the simulator."""

import numpy as np
import pytest
from numba import cuda

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

from kernels import cuda as device
from kernels import reference
from kernels.activations import ACTIVATIONS
from kernels.cuda import tuning
from kernels.cuda.compiler import jit
from kernels.cuda.driver import errors, gpu
from kernels.cuda.engine.job import Job
from kernels.cuda.product import gemm
from kernels.cuda.product.blocks import Tile
from kernels.cuda.product.products import make_job
from tests.kernels.cuda.device import SIMULATED, SIZES
from tests.oracle import (
    LOSS_CASES,
    assert_close,
    loss_of,
    random_arrays,
    random_labels,
    random_row_weights,
    random_target,
)

DTYPES = ["float32", "float64"]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of the simulator's own overflows

SHAPES = [(m, k, n) for m, k, n in zip(SIZES, SIZES[1:] + SIZES[:1], SIZES[3:] + SIZES[:3], strict=True)]


def placed(array, extra=0):
    """An array on the GPU, its rows `extra` elements further apart than they are long, which hold NaN."""
    if array is None or array.dtype.kind != "f":
        return None if array is None else cuda.to_device(array)
    wider = np.full((*array.shape[:-1], array.shape[-1] + extra), np.nan, array.dtype)
    wider[..., : array.shape[-1]] = array
    # numba-cuda's arrays know no `...`
    return cuda.to_device(wider)[(*[slice(None)] * (array.ndim - 1), slice(array.shape[-1]))]


def host(array):
    return array.copy_to_host()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestLinear:
    def test_forward(self, shape, dtype):
        m, k, n = shape
        x, w, b = random_arrays(m, (m, k), (k, n), (n,), dtype=dtype)
        y = host(device.linear(placed(x), placed(w), placed(b), "relu"))
        scale = np.abs(x).astype(np.float64) @ np.abs(w) + np.abs(b)
        assert_close(y, reference.linear(x, w, b, "relu"), dtype, k, scale=scale.max())
        y = host(device.linear(placed(x), placed(w)))
        assert_close(y, reference.linear(x, w), dtype, k, scale=scale.max())

    def test_backward(self, shape, dtype):
        m, k, n = shape
        x, w, dy = random_arrays(n, (m, k), (k, n), (m, n), dtype=dtype)
        dx, dw, db = device.linear_backward(placed(dy), placed(x), placed(w))
        expected = reference.linear_backward(dy, x, w)
        size = np.abs(dy).astype(np.float64)
        assert_close(host(dx), expected[0], dtype, n, scale=(size @ np.abs(w).T).max())
        assert_close(host(dw), expected[1], dtype, m, scale=(np.abs(x).T @ size).max())
        assert_close(host(db), expected[2], dtype, m, scale=size.sum(0).max())


@pytest.mark.parametrize(
    ("dtype", "tile"), [(dtype, tile) for dtype in DTYPES for tile in tuning.TILES[dtype]], ids=str
)
def test_every_tile(tile, dtype, monkeypatch):
    monkeypatch.setattr(tuning, "TILES", {dtype: (tile,)})
    m, k, n = tile.rows + 1, 2 * tile.depth + 1, tile.columns + 1
    x, w, b, dy = random_arrays(m, (m, k), (k, n), (n,), (m, n), dtype=dtype)
    y = device.linear(placed(x), placed(w), placed(b))
    assert_close(host(y), reference.linear(x, w, b), dtype, k)
    for actual, expected in zip(
        device.linear_backward(placed(dy), placed(x), placed(w)), reference.linear_backward(dy, x, w), strict=True
    ):
        assert_close(host(actual), expected, dtype, m + n)


@pytest.mark.parametrize("size", [1, 10, 256])
@pytest.mark.parametrize("rows", [1, 100, 1000, 1 << 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_over_many_rows_are_split_into_parts_that_hold_them_all(dtype, rows, size):
    parts = gemm.parts_for(size, size, rows, dtype)
    chunk = gemm.chunk_for(rows, parts)
    assert parts * chunk >= rows
    assert parts == 1 or chunk >= tuning.SPLIT_ROWS
    assert parts > 1 or rows < 2 * tuning.SPLIT_ROWS or size == 256
    assert parts == 1 or parts * tuning.TILES[dtype][-1].blocks(size, size) <= tuning.SPLIT_BLOCKS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("extra", [1, 4])
def test_rows_may_lie_apart_and_outputs_are_written_to(dtype, extra):
    x, w, b, dy = random_arrays(0, (9, 12), (12, 8), (8,), (9, 8), dtype=dtype)
    out, pre, dx, dw, dz = (
        placed(np.full(shape, np.nan, dtype), extra) for shape in [(9, 8), (9, 8), x.shape, w.shape, (9, 8)]
    )
    db = placed(np.full(8, np.nan, dtype))
    y = device.linear(placed(x, extra), placed(w, extra), placed(b), "gelu", out=out, pre=pre)
    assert y is out
    z = reference.linear(x, w, b)
    assert_close(host(pre), z, dtype, 12)
    assert_close(host(out), reference.linear(x, w, b, "gelu"), dtype, 12)
    device.linear_backward(
        placed(dy, extra), placed(x, extra), placed(w, extra), out, "gelu", pre=pre, dx=dx, dw=dw, db=db, dz=dz
    )
    expected = reference.linear_backward(dy, x, w, activation="gelu", pre=z)
    for actual, wanted in zip((dx, dw, db), expected, strict=True):
        assert_close(host(actual), wanted, dtype, 30)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*ACTIVATIONS])
def test_activations(name, dtype):
    z, dy = random_arrays(1, (5, 3), (5, 3), dtype=dtype)
    z *= 4
    y = device.activate(placed(z, 1), name)
    assert_close(host(y), reference.activate(z, name), dtype, 1)
    fused = device.linear(placed(z), placed(np.eye(3, dtype=dtype)), None, name)
    np.testing.assert_array_equal(host(fused), host(y))
    dz = device.activate_backward(placed(dy), y, name, pre=placed(z))
    expected = reference.activate_backward(dy, reference.activate(z, name), name, pre=z)
    assert_close(host(dz), expected, dtype, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_keep_their_meaning(dtype):
    z = np.array([[np.nan, np.inf, -np.inf, 0.0]], dtype)
    for name in ACTIVATIONS:
        np.testing.assert_array_equal(host(device.activate(placed(z), name)), reference.activate(z, name).astype(dtype))
    x = np.ones((1, 2), dtype)
    w = np.array([[np.nan, np.inf, 1.0], [1.0, 1.0, 1.0]], dtype)
    np.testing.assert_array_equal(host(device.linear(placed(x), placed(w), None, "relu")), [[np.nan, np.inf, 2.0]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 5, 33])  # short rows and long ones
def test_softmax(columns, dtype):
    (z,) = random_arrays(2, (3, columns), dtype=dtype)
    z[0] *= 1000
    assert_close(host(device.softmax(placed(z, 1))), reference.softmax(z), dtype, columns)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*LOSS_CASES, "labels", "smoothed labels"], ids=str)
@pytest.mark.parametrize(("columns", "weighted"), [(2, False), (3, True), (19, True)])  # short rows and long ones
def test_losses(name, columns, weighted, dtype):
    rows = 5
    (z,) = random_arrays(3, (rows, columns), dtype=dtype)
    labels = str(name).endswith("labels")
    target = random_labels(4, rows, columns) if labels else random_target(4, name, rows, columns, dtype)
    name = ("softmax_cross_entropy", 0.1 if name != "labels" else 0.0) if labels else name
    weight = random_row_weights(5, rows, dtype) if weighted else None
    expected, gradient = loss_of(reference, name)(z, target, weight)
    value, dz = loss_of(device, name)(placed(z, 1), placed(target, 2), placed(weight))
    assert_close(np.asarray(value), expected, dtype, rows * columns)
    assert_close(host(dz), gradient, dtype, columns)
    dz = placed(np.zeros_like(z), 3)
    again, returned = loss_of(device, name)(placed(z), placed(target), placed(weight), dz=dz)
    assert (again, returned) == (value, dz)
    assert_close(host(dz), gradient, dtype, columns)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["absolute_error", "huber", "quantile"])
def test_kinks_and_far_out(name, dtype):
    z = np.array([[1.0], [0.5], [-np.inf], [np.inf], [np.inf], [np.nan]], dtype)
    target = np.array([[1.0], [1.5], [0.0], [0.0], [np.inf], [0.0]], dtype)
    for row in range(6):
        expected, gradient = loss_of(reference, name)(z[[row]], target[[row]])
        value, dz = loss_of(device, name)(placed(z[[row]]), placed(target[[row]]))
        assert_close(np.asarray(value), expected, dtype, 1)
        assert_close(host(dz), gradient, dtype, 1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logits_may_be_large_and_rows_weigh_nothing(dtype):
    z = np.array([[1e4, 0.0, -1e4], [3.0, 3.0, 3.0]], dtype)
    expected, gradient = reference.loss_and_gradient("softmax_cross_entropy", z, np.array([2, 1]))
    value, dz = device.loss_and_gradient("softmax_cross_entropy", placed(z), placed(np.array([2, 1])))
    assert_close(np.asarray(value), expected, dtype, 3)
    assert_close(host(dz), gradient, dtype, 3)
    value, dz = device.loss_and_gradient(
        "softmax_cross_entropy", placed(z), placed(np.array([2, 1])), placed(np.zeros(2, dtype))
    )
    assert value == 0.0
    np.testing.assert_array_equal(host(dz), 0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_warmup_says_how_long_it_took(dtype):
    assert device.warmup([dtype]) >= 0


@pytest.mark.parametrize("has_them", [True, False])
def test_warmup_compiles_for_tensor_cores_where_there_are_some(has_them, monkeypatch):
    loaded = []
    monkeypatch.setattr(jit.Kernel, "load", lambda kernel: loaded.extend(kernel.constants))
    monkeypatch.setattr(devices, "tensor_cores", lambda: has_them)
    device.warmup(["float64"])
    assert {c.precision for c in loaded if isinstance(c, Tile)} == {""}
    device.warmup(["float32"])
    assert {c.precision for c in loaded if isinstance(c, Tile)} == {"", *(("tf32", "bf16") if has_them else ())}


def test_what_describes_a_call_lies_on_the_gpu_that_makes_it(monkeypatch):
    x = placed(np.ones((3, 3), np.float32))
    assert make_job(Job(total=x.size)) is make_job(Job(total=x.size))
    first = make_job(Job(total=x.size))
    monkeypatch.setattr(gpu, "device_number", lambda: 1)
    assert make_job(Job(total=x.size)) is not first


def test_what_the_driver_refuses_is_one_error_whichever_library_says_so():
    class DriverError(Exception):
        pass

    message = "device 'cuda' has no room for what is to run on it: use device='cpu'"
    with pytest.raises(MemoryError, match=message), errors.driver_errors():
        raise DriverError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
    with pytest.raises(RuntimeError, match="device 'cuda' failed: CUDA_ERROR"), errors.driver_errors():
        raise DriverError("CUDA_ERROR_INVALID_VALUE: a parameter")


def test_info_names_the_device():
    assert device.info()["gpu"]
    assert ("simulator" in device.info()["gpu"]) == SIMULATED
