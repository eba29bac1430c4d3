"""Networks in ONNX Runtime and PyTorch: the same outputs; and back."""

import numpy as np
import onnx
import onnxruntime
import pytest
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification

import fastnn
from fastnn import MLP, MLPClassifier, MLPRegressor, from_torch, to_onnx, to_torch
from kernels import reference
from tests.oracle import assert_close, network_depth, random_arrays, random_network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
OUTPUTS = ["softmax", "sigmoid", "identity", "exp"]
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def network(activation, output, dtype, bias=True):
    net = MLP([7, 9, 5, 3], activation, output, dtype=dtype, bias=bias, init="zeros")
    weights, biases = random_network(0, net.layers)
    for view, array in zip([*net.weights, *net.biases], [*weights, *(biases if bias else ())], strict=True):
        view[...] = array
    return net, random_arrays(1, (20, 7), dtype=dtype)[0]


def run(proto, X):
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, {"X": X}), strict=True))


def check_onnx(activation, dtype):
    """One unit with a weight of 1, so that nothing but the activation is between x and y."""
    net = MLP([1, 1, 1], activation, "identity", dtype=dtype, bias=False, init="zeros")
    for w in net.weights:
        w[...] = 1
    x = np.linspace(-9, 9, 3001, dtype=dtype)[:, np.newaxis]
    expected = reference.activate(x, activation)
    assert_close(run(to_onnx(net), x)["y"], expected, dtype, 0, np.maximum(1.0, np.abs(expected)))


def check_torch(torch, activation, output="identity"):
    """There and back."""
    for dtype, bias in (("float32", True), ("float64", False)):
        net, X = network(activation, output, dtype, bias)
        module = to_torch(net)
        with torch.inference_mode():
            np.testing.assert_allclose(module(torch.from_numpy(X)).numpy(), net.predict(X), **CLOSE)
        back = from_torch(module, threads=1)
        assert repr(back) == repr(net)
        np.testing.assert_array_equal(back.predict(X), net.predict(X))


class TestOnnx:
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("output", OUTPUTS)
    def test_networks(self, output, dtype):
        for bias in (True, False):
            net, X = network("relu", output, dtype, bias)
            y = run(to_onnx(net), X)["y"]
            assert_close(y, net.predict(X), dtype, network_depth(net.layers, 1))

    @pytest.mark.parametrize(
        "labels", [[0, 1, 2], [3, 7, 9], ["ant", "bee", "cow"], [2.0, 5.0, 6.0], [True, False, True], ["a", "b", "b"]],
        ids=str,
    )  # fmt: skip
    def test_classifiers(self, labels):
        X, y = load_iris(return_X_y=True)
        y = np.array(labels)[y]
        model = MLPClassifier(20, learning_rate_init=0.01, random_state=0).fit(X, y)
        got = run(to_onnx(model), X)
        assert got["label"].dtype.kind == ("O" if y.dtype.kind == "U" else y.dtype.kind)
        np.testing.assert_array_equal(got["label"].astype(y.dtype), model.predict(X))
        np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), **CLOSE)
        assert len(np.unique(got["label"])) > 1

    @pytest.mark.parametrize("label", [3, "ant", True, np.uint64(2**63 + 1)], ids=str)
    def test_a_single_class(self, label):
        X = load_iris().data
        model = MLPClassifier(20, max_iter=2, random_state=0).fit(X, np.full(len(X), label))
        got = run(to_onnx(model), X)
        np.testing.assert_array_equal(got["label"], model.predict(X))
        np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), **CLOSE)

    def test_several_labels(self):
        X, y = make_multilabel_classification(200, random_state=0)
        model = MLPClassifier(20, max_iter=60, random_state=0).fit(X, y)
        got = run(to_onnx(model), X)
        np.testing.assert_array_equal(got["label"], model.predict(X))
        np.testing.assert_allclose(got["probabilities"], model.predict_proba(X), **CLOSE)

    @pytest.mark.parametrize("loss", ["squared_error", "poisson"])
    @pytest.mark.parametrize("outputs", [1, 2])
    def test_regressors(self, loss, outputs):
        X, y = load_diabetes(return_X_y=True)
        y = np.repeat(y[:, np.newaxis], outputs, 1) if outputs > 1 else y
        model = MLPRegressor(loss, 20, max_iter=20, random_state=0).fit(X, y)
        got = run(to_onnx(model), X)["y"]
        assert got.shape == model.predict(X).shape
        np.testing.assert_allclose(got, model.predict(X), **CLOSE)

    def test_a_file(self, tmp_path):
        net, X = network("relu", "softmax", "float32")
        onnx.save(to_onnx(net), tmp_path / "net.onnx")
        np.testing.assert_allclose(run(onnx.load(tmp_path / "net.onnx"), X)["y"], net.predict(X), **CLOSE)


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip(
            "torch", reason="PyTorch is no dependency of the tests: it is as large as all of them"
        )

    @pytest.mark.parametrize("output", OUTPUTS[:3])
    def test_there_and_back(self, torch, output):
        check_torch(torch, "relu", output)

    def test_estimators(self, torch):
        X, y = load_iris(return_X_y=True)
        model = MLPClassifier(20, max_iter=60, random_state=0).fit(X, y)
        with torch.inference_mode():
            np.testing.assert_allclose(to_torch(model)(torch.from_numpy(X)).numpy(), model.predict_proba(X), **CLOSE)

    def test_logits_and_dropout(self, torch):
        nn = torch.nn
        module = nn.Sequential(nn.Linear(4, 8, bias=False), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
        net, (X,) = from_torch(module, output="softmax"), random_arrays(0, (5, 4), dtype=np.float32)
        with torch.inference_mode():
            np.testing.assert_allclose(net.predict(X), module(torch.from_numpy(X)).softmax(1).numpy(), **CLOSE)

    def test_dropout_there_and_back(self, torch):
        net = MLP([4, 8, 6, 3], dropout=[0.1, 0.0], seed=0)
        module = to_torch(net)
        assert [part.p for part in module if isinstance(part, torch.nn.Dropout)] == [0.1]
        (X,) = random_arrays(0, (5, 4), dtype=np.float32)
        with torch.inference_mode():
            np.testing.assert_allclose(module.eval()(torch.from_numpy(X)).numpy(), net.predict(X), **CLOSE)
        assert from_torch(module).dropout == (0.1, 0.0)
        nn = torch.nn
        layers = [nn.Dropout(0.9), nn.Linear(4, 8), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)]
        assert from_torch(nn.Sequential(*layers, nn.Dropout(0.9))).dropout == (0.75,)
        assert from_torch(nn.Sequential(*layers), dropout=0.2).dropout == (0.2,)

    def test_what_is_refused(self, torch):
        nn = torch.nn
        for modules, message in (
            ([], "at least one Linear layer"),
            ([nn.ReLU()], r"module\[0\] must be a Linear layer, got ReLU\(\)"),
            ([nn.Linear(2, 2), nn.ReLU(), nn.Tanh()], r"module\[2\] must be a Linear layer"),
            (
                [nn.Linear(2, 2), nn.GroupNorm(1, 2)],
                r"module\[1\] must be one of Linear, BatchNorm1d, LayerNorm, ELU, ",
            ),
            ([nn.Linear(2, 2), nn.LeakyReLU(0.3), nn.Linear(2, 2)], r"module\[1\] must have negative_slope 0.01"),
            ([nn.Linear(2, 2), nn.Softmax(0)], r"module\[1\] must have dim 1 or dim -1"),
            ([nn.Linear(2, 2), nn.Tanh()], "output must be one of"),
            ([nn.Linear(2, 2, dtype=torch.float16)], "dtype must be float32 or float64"),
        ):
            with pytest.raises(ValueError, match=message):
                from_torch(nn.Sequential(*modules))
        with pytest.raises(ValueError, match="output must be 'sigmoid', as the last module"):
            from_torch(nn.Sequential(nn.Linear(2, 2), nn.Sigmoid()), output="softmax")
        with pytest.raises(TypeError, match=r"module must be a torch\.nn\.Sequential, got Linear"):
            from_torch(nn.Linear(2, 2))
        with pytest.raises(ValueError, match="got exp"):
            to_torch(MLP([2, 2], output="exp"))


@pytest.mark.parametrize("model", [None, MLP, MLPClassifier(), [1, 2]], ids=str)
def test_models_that_are_none(model):
    with pytest.raises((TypeError, AttributeError), match=r"model must be a fastnn.MLP|not fitted"):
        to_onnx(model)


def test_lazy_names():
    assert {"to_onnx", "to_torch", "from_torch"} <= set(dir(fastnn))
