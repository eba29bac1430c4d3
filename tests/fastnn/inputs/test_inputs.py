"""What X and y may be: every number type, any strides, and no copies of X; and what they may not be."""

import textwrap

import numpy as np
import pytest

from fastnn import MLP, Adam
from fastnn import inputs as fastnn_inputs
from tests.programs import run

ROWS, COLUMNS = 101, 7
TYPES = ["float64", "float32", "float16", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
         "bool", ">f8", ">f4", ">f2", ">u2", ">i2", ">u4", ">i4", ">u8", ">i8"]  # fmt: skip


def whole_numbers(dtype="float32"):
    """Numbers that every type holds: 0 and 1 for bool, else up to 100."""
    X = np.random.default_rng(0).integers(0, 100, (ROWS, COLUMNS))
    return (X % 2 if dtype == "bool" else X).astype(dtype)


def labels():
    return np.random.default_rng(1).integers(0, 3, ROWS)


def results(X, y=None, dtype="float32", **options):
    """Everything that comes out of a model that is given X, as bytes."""
    y = labels() if y is None else y
    model = MLP([COLUMNS, 17, 3], dtype=dtype, seed=0)
    history = model.fit(X, y, 2, 32, Adam(0.01), validation_split=0.2, progress=False, **options)
    loss, dws, _, dX = model.loss_and_gradients(X, y)
    return [
        model.parameters.tobytes(), model.predict(X).tobytes(), model.evaluate(X, y), history.metrics, loss,
        dws[0].tobytes(), dX.tobytes(), model.train_on_batch(X, y),
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("source", TYPES)
def test_every_number_type(dtype, source):
    X = whole_numbers(source)
    assert results(X, dtype=dtype) == results(X.astype("float32"), dtype=dtype)


def test_every_float16():
    """Subnormal numbers, the largest, both zeros; NaN and infinities in predict, which takes them."""
    X = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(-1, 1)
    model = MLP([1, 1], output="identity", bias=False, init="zeros")
    model.weights[0][...] = 1.0
    np.testing.assert_array_equal(model.predict(X), X.astype(np.float32))
    model = MLP([1, 1], output="identity", bias=False, init="zeros", dtype="float64")
    model.weights[0][...] = 1.0
    np.testing.assert_array_equal(model.predict(X), X.astype(np.float64))


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "every second column": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "every third row": lambda X: np.repeat(X, 3, axis=0)[::3],
    "negative strides": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "transposed view of a wider array": lambda X: np.hstack([X, X]).T.copy().T[:, :COLUMNS],
    "not aligned": lambda X: np.frombuffer(b"." + X.tobytes(), np.uint8)[1:].view(X.dtype).reshape(X.shape),
    "rows that are one": lambda X: np.broadcast_to(X[0], X.shape),
    "a list": np.ndarray.tolist,
    "a matrix": lambda X: X.view(np.recarray),
}


@pytest.mark.parametrize("source", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(source, layout):
    X = LAYOUTS[layout](whole_numbers(source))
    if isinstance(X, np.ndarray):
        X.setflags(write=False)
    assert results(X) == results(np.array(X, "float32"))


@pytest.mark.parametrize("source", ["uint8", "int32", ">i4", "bool"])
def test_labels_of_every_type_and_layout(source):
    y = labels() % 2
    for given in (y.astype(source), np.repeat(y, 2).astype(source)[::2], y.tolist(), y[:, np.newaxis]):
        assert results(whole_numbers(), given) == results(whole_numbers(), y)


LABEL_USES = {
    "fit": lambda model, X, y, loss: model.fit(X, y, 2, loss=loss, progress=False).metrics,
    "validation": lambda model, X, y, loss: model.fit(
        np.ones((4, COLUMNS)), [0, 1, 0, 1], loss=loss, validation_data=(X, y), progress=False).metrics,
    "weights": lambda model, X, y, loss: model.fit(
        X, y, loss=loss, class_weight={0: 2, 1: 0.5}, progress=False).metrics,
    "balanced": lambda model, X, y, loss: model.fit(X, y, loss=loss, class_weight="balanced", progress=False).metrics,
    "evaluate": lambda model, X, y, loss: model.evaluate(X, y, loss=loss),
    "gradients": lambda model, X, y, loss: [dw.tobytes() for dw in model.loss_and_gradients(X, y, loss=loss)[1]],
    "batch": lambda model, X, y, loss: [model.train_on_batch(X, y, loss=loss) for _ in range(2)],
}  # fmt: skip


@pytest.mark.parametrize("use", LABEL_USES)
@pytest.mark.parametrize(("output", "loss"), [
    ("softmax", None), ("softmax", "mean_squared_error"), ("softmax", "sum_squared_error"), ("sigmoid", None),
    ("sigmoid", "mean_squared_error"), ("sigmoid", "sum_squared_error"),
])  # fmt: skip
def test_labels_that_are_booleans_are_0_and_1(use, output, loss):
    """As many rows as outputs, too: a mask of that length raises no error."""
    for rows in (2, ROWS):
        X, y = whole_numbers()[:rows] / 100, np.arange(rows) % 3 == 0
        found = []
        for given in (y, np.repeat(y, 2)[::2], y[:, np.newaxis], y.astype(int)):
            model = MLP([COLUMNS, 5, 2], output=output, seed=0)
            measured = LABEL_USES[use](model, X, given, loss)
            found.append((measured, model.parameters.tobytes()))
        assert found[:-1] == found[-1:] * 3


def test_a_boolean_is_true_whatever_its_byte():
    """NumPy takes any byte but 0 for True; as a label it is 1, not the byte."""
    X, y = whole_numbers(), np.full(ROWS, 2, np.uint8)
    for loss in (None, "mean_squared_error"):
        model = MLP([COLUMNS, 3], seed=0)
        assert model.evaluate(X, y.view(bool), loss=loss) == model.evaluate(X, np.ones(ROWS, int), loss=loss)


def test_a_boolean_is_true_whatever_its_byte_in_inputs_and_targets():
    bits = np.random.default_rng(3).integers(0, 2, (ROWS, COLUMNS)).astype(np.uint8)
    odd, labels = (bits * 255).view(bool), (bits[:, 0] * 255).view(bool)
    found = []
    for x, y in ((odd, labels), (bits, bits[:, 0])):
        model = MLP([COLUMNS, 4, 1], output="sigmoid", seed=0)
        model.fit(x, y, 2, 4, class_weight={0: 1, 1: 3}, progress=False)
        several = MLP([COLUMNS, COLUMNS], output="sigmoid", seed=0).evaluate(x, x)
        found.append((model.parameters.tobytes(), model.evaluate(x, y), model.predict(x).tobytes(), several))
    assert found[0] == found[1]


def test_targets_of_every_layout():
    y = np.random.default_rng(2).dirichlet(np.ones(3), ROWS)
    for given in (
        y.astype(">f8"),
        np.asfortranarray(y),
        np.repeat(y, 2, axis=1)[:, ::2],
        y[::-1, ::-1].copy()[::-1, ::-1],
    ):
        given.setflags(write=False)
        assert results(whole_numbers(), given) == results(whole_numbers(), y)


class Tensor:
    """An array of another library: it speaks DLPack, and is no NumPy array."""

    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_arrays_of_other_libraries():
    assert results(Tensor(whole_numbers())) == results(whole_numbers())


def test_inputs_are_not_changed():
    X, y, weight = whole_numbers("float64"), labels(), np.ones(ROWS)
    kept = X.copy(), y.copy(), weight.copy()
    results(X, y, sample_weight=weight)
    for array, before in zip((X, y, weight), kept, strict=True):
        np.testing.assert_array_equal(array, before)


def test_views_stay_views():
    for source in TYPES:
        X = whole_numbers(source)
        assert np.shares_memory(fastnn_inputs.matrix(X, COLUMNS), X)


def test_a_memory_map_larger_than_a_batch(tmp_path):
    np.save(tmp_path / "X.npy", whole_numbers("float64"))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert isinstance(mapped, np.memmap)
    assert results(mapped) == results(whole_numbers())


# Peak memory above a process that has imported Numba and run a cached function: data + parameters x (4 + optimiser
# slots) + activations of one batch + fixed row chunks, within 20 MB
MEMORY = textwrap.dedent("""
    import re
    import sys
    from pathlib import Path
    import numpy as np
    sys.path.append("{folder}")
    import cached

    def peak():  # Linux; what getrusage says begins with the parent's
        return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

    cached.function(1)
    import fastnn
    import kernels.cpu  # whose modules are not what is measured
    from fastnn import Adam
    start = peak()
    {body}
    print(peak() - start, data + n_parameters * 4 * (4 + slots) + activations)
""")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where cached.py is. Its function and all kernels are in the cache: compiling takes more than what is measured."""
    folder = tmp_path_factory.mktemp("memory")
    (folder / "cached.py").write_text("import numba\n@numba.njit(cache=True)\ndef function(x):\n    return x + 1\n")
    run(f"import sys; sys.path.append({str(folder)!r}); import cached; cached.function(1)")
    run("import kernels.cpu; kernels.cpu.warmup()")
    return folder


@pytest.mark.parametrize("body", [
    """
    X = np.zeros((200_000, 100), np.uint8); X += 1; y = np.zeros(200_000, np.int64); data = X.nbytes + y.nbytes
    model = fastnn.MLP([100, 64, 3]); model.fit(X, y, 1, 128, Adam(), validation_split=0.2, progress=False)
    model.evaluate(X, y)
    n_parameters, slots, activations = model.n_parameters, 2, 0
    """,
    """
    X = np.ones((30_000, 784), np.float64); y = np.zeros(30_000, np.int64); data = X.nbytes + y.nbytes
    model = fastnn.MLP([784, 32, 10]); model.fit(X, y, 1, 128, "sgd", progress=False)
    assert (model.predict(X).shape, model.n_parameters) == ((30_000, 10), 25_450)
    n_parameters, slots, activations = model.n_parameters, 0, 0
    """,
    """
    X = np.ones((2_000, 4_000), np.float16); y = np.zeros(2_000, np.int64); data = X.nbytes + y.nbytes
    model = fastnn.MLP([4_000, 2_000, 10]); model.fit(X, y, 1, 100, Adam(), progress=False)
    n_parameters, slots, activations = model.n_parameters, 2, 0
    """,
    """
    X = np.ones((60_000, 500), ">f4"); y = np.zeros(60_000, np.int64); data = X.nbytes + y.nbytes
    model = fastnn.MLP([500, 32, 3]); model.fit(X, y, 1, 128, Adam(), progress=False); model.predict(X)
    n_parameters, slots, activations = model.n_parameters, 2, 0
    """,
    """
    X = np.ones((20_000, 10), np.float32); y = np.zeros(20_000, np.int64); data = X.nbytes + y.nbytes
    model = fastnn.MLP([10, 500, 300, 10]); model.fit(X, y, 1, 20_000, Adam(), progress=False)
    n_parameters, slots, activations = model.n_parameters, 2, 20_000 * 4 * (10 + 2 * (512 + 320 + 16) + 16)
    """,
    """
    X = np.zeros((1_000_000, 20), np.uint8); X += 1; y = np.zeros(1_000_000, np.int8); y[::2] = 1
    weight = np.arange(1.0, 1_000_001.0); data = X.nbytes + y.nbytes + weight.nbytes
    model = fastnn.MLP([20, 64, 10]); model.fit(X, y, 1, 1000, sample_weight=weight, progress=False)
    n_parameters, slots, activations = model.n_parameters, 2, 0
    """,
    """
    X = np.zeros((800_000, 20), np.uint8); X += 1; y = np.zeros(800_000, np.int8); y[::2] = 1
    data = X.nbytes + y.nbytes
    model = fastnn.MLP([20, 64, 10]); model.fit(X, y, 1, 1000, class_weight="balanced", progress=False)
    n_parameters, slots, activations = model.n_parameters, 2, 0
    """,
], ids=["bytes", "doubles", "many parameters", "big-endian", "one batch", "row weights", "class weights"])  # fmt: skip
def test_peak_memory(body, folder):
    used, allowed = map(int, run(MEMORY.format(folder=folder, body=textwrap.dedent(body).strip())).stdout.split())
    assert used <= allowed + 20_000_000
    assert used > 0


class TestRefused:
    """Each message names the argument, what was expected and what came; test_faults has them through the model."""

    @pytest.mark.parametrize(("value", "message"), [
        (None, "X must hold real numbers, got NoneType"),
        ("text", "X must hold real numbers, got str"),
        ([["a", "b"]], "X must hold real numbers, got dtype <U1"),
        ([[1j, 0]], "X must hold real numbers, got dtype complex128"),
        (np.ones((1, 2), "longdouble"),
         "X must hold numbers of at most 64 bits, got dtype float128: convert it to float64"),
        ([[1, 2], [3]], "X must be an array of numbers, got list: .*"),
        (np.ones(2), r"X must have 2 dimensions \(rows, 2\), got shape \(2,\); for one row pass X.reshape\(1, -1\)"),
        (np.ones((1, 2, 3)), r"X must have 2 dimensions \(rows, 2\), got shape \(1, 2, 3\)"),
        (np.ones((5, 3)), r"X must have 2 columns, as the network's input, got shape \(5, 3\)"),
        (np.ones((0, 2)), r"X must have at least one row, got shape \(0, 2\)"),
        ([[0, 1], [np.nan, 0]], r"X must be finite in float32, got nan at \[1, 0\]"),
        ([[0, 1], [0, -np.inf]], r"X must be finite in float32, got -inf at \[1, 1\]"),
        ([[0, 1], [1e39, 0]], r"X must be finite in float32, got 1e\+39 at \[1, 0\]"),
    ])  # fmt: skip
    def test_as_X(self, value, message):  # noqa: N802
        with pytest.raises((ValueError, TypeError), match=f"^{message}$"):
            fastnn_inputs.matrix(value, 2, dtype="float32")

    def test_the_place_of_a_nan_in_a_long_array(self, monkeypatch):
        monkeypatch.setattr(fastnn_inputs.arrays, "_BLOCK_BYTES", 64)
        X = np.zeros((1000, 3))
        X[777, 2] = np.nan
        with pytest.raises(ValueError, match=r"got nan at \[777, 2\]$"):
            fastnn_inputs.matrix(X, 3)

    def test_large_finite_numbers_are_taken(self):
        X = np.full((1000, 3), np.finfo(np.float64).max)
        taken = fastnn_inputs.matrix(X, 3)
        assert taken.base is X  # no copy
        assert taken.shape == X.shape
