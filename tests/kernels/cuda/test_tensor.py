"""Products on tensor cores, against the reference on operands that are rounded in NumPy: on a GPU, or in the simulator,
where the threads of a warp exchange what mma.sync takes from them, by the layout that NVIDIA documents.
"""

import pickle

import numpy as np
import pytest
from numba import cuda

from kernels import devices

if not devices.has_extra():
    pytest.skip(f"kernels.cuda needs {devices.EXTRA}", allow_module_level=True)

import fastnn
from kernels.activations import ACTIVATIONS
from kernels.cuda import tuning
from kernels.cuda.engine import launches
from kernels.cuda.product.blocks import Tile
from kernels.cuda.product.gemm import LAYOUTS
from kernels.cuda.product.products import multiply
from kernels.engine.network import perceptron
from kernels.layout import Layout
from tests.kernels.cuda.device import SIMULATED
from tests.oracle import assert_close, network_depth, random_arrays, random_labels

if not SIMULATED and cuda.get_current_device().compute_capability < devices.TENSOR_CAPABILITY:
    pytest.skip("tensor cores need compute capability 8.0 or newer", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of the simulator's own infinities
DIGITS = {"tf32": 11, "bf16": 8}  # significant bits
PRECISIONS = list(DIGITS)
# c (m, n) over k: one, less than a tile, one more, several, and what 16 bytes divide (a GPU's tiles are larger)
SHAPES = [(1, 1, 1), (33, 9, 17), (7, 33, 18), (36, 20, 24)] if SIMULATED else [
    (1, 1, 1), (33, 31, 33), (65, 129, 127), (257, 1000, 130), (128, 64, 256), (1024, 512, 768)
]  # fmt: skip


def rounded(x, precision):
    """To the nearest number of a precision, in float64; a tie goes away from zero in tf32, in bf16 to the even one."""
    mantissa, exponent = np.frexp(np.float64(x))
    scaled = np.ldexp(mantissa, DIGITS[precision])
    whole = np.rint(scaled) if precision == "bf16" else np.copysign(np.floor(np.abs(scaled) + 0.5), scaled)
    return np.ldexp(whole, exponent - DIGITS[precision])


def product(layout, x, y, precision, **options):
    """The product on the GPU of x and y, as they lie there in this layout."""
    a, b = (x.T if layout == "x.T @ dz" else x), (y.T if layout == "dz @ w.T" else y)
    on_device = [cuda.to_device(np.ascontiguousarray(array)) for array in (a, b)]
    (m, k), n = x.shape, y.shape[1]
    c = cuda.to_device(np.full((m, n), np.nan, np.float32))
    multiply(layout, m, n, k, *on_device, c, precision=precision, **options)
    return c.copy_to_host()


def check(layout, shape, precision):
    """That the operands are rounded, and their products summed as accurately as in float32."""
    m, k, n = shape
    x, y = random_arrays(m + k, (m, k), (k, n), dtype="float32")
    c = product(layout, x, y, precision)
    a, b = rounded(x, precision), rounded(y, precision)
    # of the sums, the tensor cores cut off what does not fit: an error of 2 u each, not of u
    assert_close(c, a @ b, "float32", 2 * k, scale=(np.abs(a) @ np.abs(b)).max())
    difference = np.abs(c - x.astype(np.float64) @ y).max()
    assert difference > 2.0 ** -(DIGITS[precision] + 4) * np.abs(c).max(), "operands that are not rounded"


@pytest.fixture(autouse=True)
def all_widths(monkeypatch):
    monkeypatch.setattr(tuning, "TENSOR_WIDTH", 1)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_are_those_of_rounded_operands(shape, layout, precision):
    check(layout, shape, precision)


# Two warps above each other and side by side, and threads with more rows and columns than one instruction has
TILES = [(64, 16, 4, 4), (32, 32, 4, 4), (64, 16, 8, 4), (32, 32, 4, 8)]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("tile", TILES, ids=str)
def test_tiles_of_all_shapes(tile, layout, precision, monkeypatch):
    rows, columns, *thread = tile
    depth = 2 * tuning.TILES[precision][-1].depth if SIMULATED else tuning.TILES[precision][-1].depth
    tile = Tile(rows, columns, depth, *thread, 8, 4, precision)
    monkeypatch.setattr(tuning, "TILES", {**tuning.TILES, precision: (tile,)})
    check(layout, (rows - 1, depth + 1, columns - 1), precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_sums_are_the_same_with_any_tile(precision, monkeypatch):
    depth = tuning.TILES[precision][-1].depth
    x, y = random_arrays(0, (33, 3 * depth - 1), (3 * depth - 1, 17), dtype="float32")
    results = []
    for tile in (
        Tile(32, 32, 2 * depth, 4, 8, 8, 4, precision),
        Tile(64, 16, depth, 8, 4, 8, 4, precision),
    ):
        monkeypatch.setattr(tuning, "TILES", {**tuning.TILES, precision: (tile,)})
        results.append(product("x @ w", x, y, precision))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_operands_are_rounded_to_nearest(precision):
    """Times one, each number comes out as it was rounded; those that lie in the middle of two, too."""
    digits = DIGITS[precision]
    halves = 1 + (2 * np.arange(8) + 1) * 2.0**-digits  # in the middle
    near = np.nextafter(np.float32(halves), np.float32(0)), np.nextafter(np.float32(halves), np.float32(9))
    largest, tiny = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    exact = np.array([0.0, 1.0, 1 + 2.0 ** (1 - digits), tiny, 2.0**127, 2.0**-20, 3.0, 1e-30])
    values = np.float32([halves, -halves, *near, exact, rounded(exact, precision)])
    c = product("x @ w", values, np.eye(8, dtype=np.float32), precision)
    np.testing.assert_array_equal(c, rounded(values, precision))
    special = np.float32([[np.inf, 1, 1], [1, -np.inf, 1], [1, 1, np.nan], [largest, 1, 1]])
    c = product("x @ w", special, np.ones((3, 1), np.float32), precision)
    np.testing.assert_array_equal(c[:, 0], [np.inf, -np.inf, np.nan, np.inf])


def test_what_follows_the_product_is_that_of_float32():
    x, w, b = random_arrays(0, (9, 6), (6, 5), (5,), dtype="float32")
    on_device = [cuda.to_device(array) for array in (x, w, b)]
    y, pre = (cuda.to_device(np.full((9, 5), np.nan, np.float32)) for _ in range(2))
    multiply("x @ w", 9, 5, 6, *on_device[:2], y, on_device[2], pre, activation=ACTIVATIONS["relu"], precision="tf32")
    z = rounded(x, "tf32") @ rounded(w, "tf32") + b
    assert_close(pre.copy_to_host(), z, "float32", 12)
    assert_close(y.copy_to_host(), np.maximum(z, 0), "float32", 12)


def test_narrow_layers_multiply_in_float32(monkeypatch):
    monkeypatch.setattr(tuning, "TENSOR_WIDTH", 6)
    x, w = random_arrays(0, (9, 5), (5, 7), dtype="float32")
    np.testing.assert_array_equal(product("x @ w", x, w, "tf32"), product("x @ w", x, w, "float32"))


def emulated(net, x, labels, rounds):
    """The network's outputs, loss, dw, db and dX in float64, its factors rounded where `rounds` is true of a layer; of
    dw, where it is true of the largest.
    """

    def near(array, n):
        return rounded(array, net.precision) if rounds[n] else np.float64(array)

    last, largest = len(net.weights) - 1, max(range(len(net.weights)), key=lambda n: net.weights[n].size)
    below = [np.float64(x)]
    for n, (w, b) in enumerate(zip(net.weights, net.biases, strict=True)):
        z = near(below[n], n) @ near(w, n) + b
        below.append(np.maximum(z, 0) if n < last else np.exp(z) / np.exp(z).sum(1, keepdims=True))
    out, every = below[-1], np.arange(len(x))
    dz, gradients = (out - np.eye(out.shape[1])[labels]) / len(x), []
    for n in range(last, -1, -1):
        gradients += [dz.sum(0), near(below[n], largest).T @ near(dz, largest)]
        dx = near(dz, n) @ near(net.weights[n], n).T
        dz = dx * (below[n] > 0)
    return out, -np.log(out[every, labels]).mean(), gradients[::-2], gradients[-2::-2], dx


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_network_rounds_in_layers_that_are_wide_enough(precision, monkeypatch):
    monkeypatch.setattr(tuning, "TENSOR_WIDTH", 4)
    widths, rounds = [5, 9, 8, 3], [True, True, False]
    x, labels = random_arrays(0, (7, 5), dtype="float32")[0], random_labels(1, 7, 3)
    net = fastnn.MLP(widths, device="cuda", precision=precision, seed=0)
    out, loss, dw, db, dx = emulated(net, x, labels, rounds)
    depth = 2 * network_depth(widths, 7)
    assert_close(net.predict(x), out, "float32", depth)
    found = net.loss_and_gradients(x, labels)
    assert_close(np.float32(found[0]), loss, "float32", depth)
    for actual, expected in zip((*found[1], *found[2], found[3]), (*dw, *db, dx), strict=True):
        assert_close(actual, expected, "float32", depth)
    exact = fastnn.MLP(widths, device="cpu", seed=0).loss_and_gradients(x, labels)
    assert np.abs(found[1][0] - exact[1][0]).max() > 2.0 ** -(DIGITS[precision] + 4) * np.abs(dw[0]).max()
    before = [w.copy() for w in net.weights]
    net.fit(x, labels, batch_size=7, optimizer=fastnn.SGD(0.5), shuffle=False, progress=False)
    for w, start, gradient in zip(net.weights, before, dw, strict=True):
        assert_close(w - start, -0.5 * gradient, "float32", 8 * depth)  # of which the difference loses some


def test_narrow_networks_that_round_nowhere_keep_their_one_kernel():
    for precision, layers, is_narrow in (("float32", [3, 7, 6, 2], True), ("tf32", [3, 7, 6, 2], False)):
        layout = Layout.of(perceptron(layers), "float32")
        plan = launches.Plan(layout, [ACTIVATIONS["relu"]] * 2, 8, True, precision=precision)
        assert (plan.narrow is not None) == is_narrow
    layout = Layout.of(perceptron([3, 7, 2]), "float32")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "TENSOR_WIDTH", 4)
        assert launches.Plan(layout, [ACTIVATIONS["relu"]], 8, True, precision="tf32").narrow is not None


def test_a_copy_and_a_file_keep_the_precision(tmp_path):
    net = fastnn.MLP([3, 2], device="cuda", precision="bf16", seed=0)
    net.save(tmp_path / "net.npz")
    for twin in (pickle.loads(pickle.dumps(net)), fastnn.load(tmp_path / "net.npz", device="cuda")):
        assert twin.precision == "bf16"
        np.testing.assert_array_equal(twin.predict([[1.0, 2.0, 3.0]]), net.predict([[1.0, 2.0, 3.0]]))
