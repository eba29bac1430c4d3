"""What goes wrong: each error is one line that names the argument, and the model is as it was."""

import re
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from fastnn import MLP, SGD, Adam, Callback, EarlyStopping, ModelCheckpoint
from tests.programs import CTRL_C, PATIENCE, environment, run

X, Y = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32), np.arange(20) % 2
NAN, INF = X.copy(), X.copy()
NAN[4, 1], INF[19, 0] = np.nan, np.inf


class NoCallback:
    pass


BAD_DATA = [
    ((X[0], Y), {}, "X must have 2 dimensions (rows, 3), got shape (3,); for one row pass X.reshape(1, -1)"),
    ((X[:, :2], Y), {}, "X must have 3 columns, as the network's input, got shape (20, 2)"),
    ((X[:0], Y[:0]), {}, "X must have at least one row, got shape (0, 3)"),
    ((X.astype(str), Y), {}, "X must hold real numbers, got dtype <U32"),
    ((None, Y), {}, "X must hold real numbers, got NoneType"),
    ((NAN, Y), {}, "X must be finite in float32, got nan at [4, 1]"),
    ((INF, Y), {}, "X must be finite in float32, got inf at [19, 0]"),
    ((np.ma.masked_less(X, 0.0), Y), {}, "X must have no masked elements, got .* of them: fill or leave them out"),
    ((X, Y[:19]), {}, "y must have 20 rows, one for each row of X, got shape (19,)"),
    ((X, None), {}, "y must hold real numbers, got NoneType"),
    ((X, Y * 1.0), {}, "y must hold integer labels or have 2 columns, got dtype float64"),
    ((X, Y + 1), {}, "y must hold labels from 0 to 1, got 2 at [1]"),
    ((X, Y - 1), {}, "y must hold labels from 0 to 1, got -1 at [0]"),
    ((X, np.eye(3)[Y]), {}, "y must have 2 columns, one for each output, got shape (20, 3)"),
    ((X, X[:, :2]), {}, r"y must lie in [0, 1] for softmax outputs, got .* at [.*]"),
    ((X, np.where(np.isnan(NAN[:, :2]), np.nan, 0)), {}, "y must be finite in float32, got nan at [4, 1]"),
    ((X, Y), {"loss": "hinge"}, "loss must be one of 'softmax_cross_entropy', .*, 'mean_squared_error', "
     "'sum_squared_error' for softmax outputs, got 'hinge'"),
    ((X, Y), {"loss": ["mean_squared_error"]}, "loss must be one of 'softmax_cross_entropy', .*, 'mean_squared_error', "
     "'sum_squared_error' for softmax outputs, got ['mean_squared_error']"),
    ((X, Y), {"loss": ("huber", 1.0)}, "loss must be one of .* for softmax outputs, got ('huber', 1.0)"),
    ((X, Y), {"l2": -1}, "l2 must be a finite number in [0, inf), got -1"),
    ((X, Y), {"sample_weight": Y[:3]}, "sample_weight must have shape (20,), got (3,)"),
    ((X, Y), {"sample_weight": Y - 1.0},
     "sample_weight must be >= 0 and not all zero, got a minimum of -1.0 and a sum of -10.0"),
    ((X, Y), {"sample_weight": Y * np.nan}, "sample_weight must be finite in float32, got nan at [0]"),
    ((X, Y), {"sample_weight": Y * 1e39}, "sample_weight must be finite in float32, got 1e+39 at [1]"),
]  # fmt: skip
BAD_OPTIMIZERS = [
    ("nothing", "optimizer must be one of .* or an instance such as Adam(1e-3), got 'nothing'"),
    (["sgd"], "optimizer must be one of .*'adam', .*'sgd' or an instance such as Adam(1e-3), got ['sgd']"),
    (Adam, "optimizer must be one of .*'adam', .*'sgd' or an instance such as Adam(1e-3), got <class .*>"),
    (SGD(lambda step: -1.0 * step - 1), "learning_rate must return finite rates >= 0, got -1.0 at step 0"),
    (SGD(lambda step: np.full(len(step), "0.1")), "learning_rate must return numbers, got dtype <U3"),
]  # fmt: skip
BAD_FITS = [
    ({"optimizer": SGD(lambda step: np.where(step < 3, 0.1, np.nan)), "batch_size": 5},
     "learning_rate must return finite rates >= 0, got nan at step 3"),
    ({"optimizer": SGD(lambda step: 0.1 - 0.01 * step), "epochs": 6, "batch_size": 8, "validation_split": 0.2},
     "learning_rate must return finite rates >= 0, got -0.0.* at step 11"),
    ({"epochs": 0}, "epochs must be an integer >= 1, got 0"),
    ({"epochs": 1.5}, "epochs must be an integer >= 1, got 1.5"),
    ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
    ({"shuffle": "yes"}, "shuffle must be True or False, got 'yes'"),
    ({"progress": "bar"}, "progress must be True, False or None, got 'bar'"),
    ({"validation_split": 1.0}, "validation_split must be a finite number in [0, 1), got 1.0"),
    ({"validation_split": np.zeros(2)}, "validation_split must be a finite number in [0, 1), got array([0., 0.])"),
    ({"validation_split": 0.01}, "validation_split must leave rows on both sides, got 0.01 of 20 rows"),
    ({"stop_if_diverged": None}, "stop_if_diverged must be True or False, got None"),
    ({"validation_split": 0.2, "validation_data": (X, Y)}, "validation_split must be 0 with validation_data, got both"),
    ({"validation_data": X}, "validation_data must be (X, y) or (X, y, weights), got ndarray"),
    ({"validation_data": (X,)}, "validation_data must be (X, y) or (X, y, weights), got tuple of 1"),
    ({"validation_data": (X, Y, Y, Y)}, "validation_data must be (X, y) or (X, y, weights), got tuple of 4"),
    ({"validation_data": (X, Y, Y[:3])}, "validation_data[2] must have shape (20,), got (3,)"),
    ({"validation_data": (X, Y, Y - 1.0)},
     "validation_data[2] must be >= 0 and not all zero, got a minimum of -1.0 and a sum of -10.0"),
    ({"validation_data": (X, Y, Y * np.nan)}, "validation_data[2] must be finite in float32, got nan at [0]"),
    ({"validation_data": (X[:, :1], Y)},
     "validation_data[0] must have 3 columns, as the network's input, got shape (20, 1)"),
    ({"validation_data": (X, Y + 5)}, "validation_data[1] must hold labels from 0 to 1, got 5 at [0]"),
    ({"class_weight": "even"}, "class_weight must be a dict of label: weight, 'balanced' or None, got 'even'"),
    ({"class_weight": {0: -1}}, "class_weight[0] must be a finite number in [0, inf), got -1"),
    ({"class_weight": {"a": 1}}, "class_weight must have labels >= 0 as keys, got 'a'"),
    ({"class_weight": {0: 0, 1: 0}}, "class_weight must leave some row a weight, got only zeros for the labels of y"),
    ({"callbacks": EarlyStopping()}, "callbacks must be a list of callbacks, got EarlyStopping"),
    ({"callbacks": [NoCallback()]}, "callbacks must hold objects with on_epoch_end(model, epoch, logs), got <.*>"),
    ({"callbacks": [EarlyStopping]},
     "callbacks must hold objects with on_epoch_end(model, epoch, logs), got <class .*>"),
    ({"callbacks": [EarlyStopping()]},
     "callbacks: EarlyStopping must use one of loss, accuracy, learning_rate, got 'val_loss'; it needs "
     "validation data"),
    ({"callbacks": [ModelCheckpoint("{epoch}-{val_los:.2f}.npz")]},
     "callbacks: ModelCheckpoint must use one of loss, accuracy, learning_rate, got 'val_los'; it needs "
     "validation data"),
    ({"callbacks": [ModelCheckpoint("a.npz", "acc", True)]},
     "callbacks: ModelCheckpoint must use one of loss, accuracy, learning_rate, got 'acc'"),
]  # fmt: skip
OWN = "activations of one's own are known once fastnn.Activation(name, function, slope) was made"
BAD_MODELS = [
    (([3],), {}, "layers must be at least two widths >= 1, from input to output, got [3]"),
    (([3, 0, 2],), {}, "layers must be at least two widths >= 1, from input to output, got [3, 0, 2]"),
    (([3, 2.5],), {}, "layers must be at least two widths >= 1, from input to output, got [3, 2.5]"),
    ((3,), {}, "layers must be at least two widths >= 1, from input to output, got 3"),
    (([3, 1],), {}, "output 'softmax' needs at least 2 outputs, got layers ending in 1; use output='sigmoid'"),
    (([3, 2], "step"), {}, f"activation must be one of .*gelu, .*identity, .*relu, .*swish, got 'step'; {OWN}"),
    (([3, 4, 2], None), {}, "activation must be one of .*gelu, .*identity, .*relu, .*swish, got None"),
    (([3, 4, 2], [["relu"]]), {}, "activation must be one of .*gelu, .*identity, .*relu, .*swish, got ['relu']"),
    (([3, 4, 2], ["relu", "tanh"]), {},
     "activation must be one name or one per hidden layer (1), got ['relu', 'tanh']"),
    (([3, 2], "relu", "hinge"), {}, "output must be one of identity, sigmoid, softmax, exp, got 'hinge'"),
    (([3, 2], "relu", ["softmax"]), {}, "output must be one of identity, sigmoid, softmax, exp, got ['softmax']"),
    (([3, 2],), {"dtype": "float16"}, "dtype must be float32 or float64, got 'float16'"),
    (([3, 2],), {"dtype": "real"}, "dtype must be float32 or float64, got 'real'"),
    (([3, 2],), {"dtype": None}, "dtype must be float32 or float64, got None"),
    (([3, 2],), {"device": "tpu"}, "device must be 'auto', 'cpu' or 'cuda', got 'tpu'"),
    (([3, 2],), {"device": np.array(["cpu", "cpu"])},
     "device must be 'auto', 'cpu' or 'cuda', got array(['cpu', 'cpu'].*)"),
    (([3, 2],), {"precision": np.arange(2)},
     "precision must be 'float32', 'tf32' or 'bf16', got array([0, 1])"),
    (([3, 2],), {"precision": "fp8"}, "precision must be 'float32', 'tf32' or 'bf16', got 'fp8'"),
    (([3, 2],), {"precision": "bf16", "dtype": "float64"}, "precision 'bf16' needs dtype float32, got float64"),
    (([3, 2],), {"precision": "tf32", "device": "cpu"}, "precision 'tf32' needs device 'cuda', got 'cpu'"),
    (([3, 2],), {"bias": "no"}, "bias must be True or False, got 'no'"),
    (([3, 2],), {"threads": 0}, "threads must be an integer >= 1, got 0"),
    (([3, 2],), {"threads": True}, "threads must be an integer >= 1, got True"),
    (([3, 2],), {"seed": -1}, "seed must be an integer >= 0, got -1"),
    (([3, 2],), {"seed": "x"}, "seed must be an integer >= 0, got 'x'"),
    (([3, 2],), {"init": {"he": 1}}, "init must be one of .*, got {'he': 1}"),
    (([3, 2],), {"init": np.arange(2)}, "init must be one of .*, got array([0, 1])"),
    (([3, 2],), {"init": "best"}, "init.* must be one of .*, got 'best'"),
]  # fmt: skip


def fails(message, call, *args, **options):
    """The call raises a ValueError or TypeError with this message, a pattern where it has a .*; one line of it."""
    pattern = re.escape(message).replace(r"\.\*", ".*")
    with pytest.raises((ValueError, TypeError)) as raised:
        call(*args, **options)
    assert re.fullmatch(pattern, str(raised.value)), str(raised.value)


@pytest.fixture
def model():
    """A model that has state of every kind; at the end all of it must be as it was."""
    model = MLP([3, 4, 2], seed=0)
    model.fit(X, Y, progress=False)
    model.train_on_batch(X, Y)
    parameters, random = model.parameters.copy(), model.random.bit_generator.state
    state = [array.copy() for array in model.optimizer_state.arrays]
    yield model
    np.testing.assert_array_equal(model.parameters, parameters)
    np.testing.assert_array_equal(model.optimizer_state.arrays, state)
    assert model.optimizer_state.step == 1
    assert model.random.bit_generator.state == random


class TestBadInput:
    @pytest.mark.parametrize(("args", "options", "message"), BAD_DATA)
    def test_data(self, model, args, options, message):
        fails(message, model.fit, *args, progress=False, **options)
        fails(message, model.train_on_batch, *args, **options)
        fails(message, model.loss_and_gradients, *args, **options)
        fails(message, model.profile, *args, **options)
        if options.keys() <= {"loss"}:
            fails(message, model.evaluate, *args, **options)

    @pytest.mark.parametrize(("optimizer", "message"), BAD_OPTIMIZERS)
    def test_optimizers(self, model, optimizer, message):
        fails(message, model.fit, X, Y, optimizer=optimizer, progress=False)
        fails(message, model.train_on_batch, X, Y, optimizer)
        fails(message, model.profile, X, Y, optimizer=optimizer)

    @pytest.mark.parametrize(("options", "message"), BAD_FITS)
    def test_fit(self, model, options, message):
        fails(message, model.fit, X, Y, **{"progress": False, **options})
        if options.keys() <= {"batch_size", "shuffle", "class_weight"}:
            fails(message, model.profile, X, Y, **options)

    def test_a_schedule_that_raises_at_a_later_step(self, model):
        rates = np.full(12, 0.1)
        with pytest.raises(IndexError, match="index 12 is out of bounds"):
            model.fit(X, Y, 4, 5, SGD(lambda step: rates[step]), progress=False)
        enough = SGD(lambda step: rates[step])  # of three quarters of the rows
        assert MLP([3, 4, 2]).fit(X, Y, 4, 5, enough, validation_split=0.25, progress=False).epochs == 4

    @pytest.mark.parametrize(("args", "options", "message"), BAD_MODELS)
    def test_models(self, args, options, message):
        fails(message, MLP, *args, **options)

    @pytest.mark.parametrize(("architecture", "message"), [
        ([], "architecture must be a list of at least one layer, got []"),
        (3, "architecture must be a list of at least one layer, got 3"),
        ([{"input_dim": 2, "output_dim": 1}], "architecture[0] must have activation, input_dim, output_dim, got {.*}"),
        ([{"input_dim": 2, "output_dim": 3, "activation": "relu"},
          {"input_dim": 4, "output_dim": 1, "activation": "sigmoid"}],
         "architecture[1] must have input_dim 3, the output_dim before it, got 4"),
    ])  # fmt: skip
    def test_architectures(self, architecture, message):
        fails(message, MLP.from_architecture, architecture)

    def test_labels_of_numbers(self):
        fails("y must have 2 columns, one for each output, got shape (20,)", MLP([3, 2], output="identity").fit, X, Y)
        message = "class_weight must be None unless y holds integer labels or one-hot rows"
        for n_outputs, y in ((1, Y), (2, np.eye(2)[Y])):
            model = MLP([3, n_outputs], output="identity")
            fails(f"{message}, got numbers", model.fit, X, y, class_weight="balanced")
        halves, several, none = np.full((20, 2), 0.5), np.eye(2)[Y], np.eye(2)[Y]
        several[7], none[9] = 1, 0
        for output, y, got in (
            ("softmax", halves, "[0.5 0.5] at [0]"), ("sigmoid", several, "[1. 1.] at [7]"),
            ("sigmoid", none.astype(int), "[0 0] at [9]"), ("sigmoid", several == 1, "[ True  True] at [7]"),
        ):  # fmt: skip
            model = MLP([3, 2], output=output)
            fails(f"{message}, with a single 1 and else 0, got {got}", model.fit, X, y, class_weight="balanced")
        fails(f"{message}, with a single 1 and else 0, got [0.5] at [1]", MLP([3, 1], output="sigmoid").fit, X, Y / 2,
              class_weight="balanced")  # fmt: skip

    @pytest.mark.parametrize(("weights", "message"), [
        ("even", "class_weight must be a dict of label: weight, 'balanced' or None, got 'even'"),
        ({0: -1}, "class_weight[0] must be a finite number in [0, inf), got -1"),
        ({"a": 1}, "class_weight must have labels >= 0 as keys, got 'a'"),
        ({0: 0, 1: 0}, "class_weight must leave some row a weight, got only zeros for the labels of y"),
    ])  # fmt: skip
    def test_class_weights_of_one_hot_rows(self, model, weights, message):
        fails(message, model.fit, X, np.eye(2)[Y], class_weight=weights, progress=False)

    def test_predict(self, model):
        fails("X must have 3 columns, as the network's input, got shape (20, 2)", model.predict, X[:, :2])
        assert model.predict(NAN).shape == (20, 2)


@pytest.mark.parametrize("event", ["on_train_begin", "on_slice_end", "on_epoch_end", "on_train_end"])
def test_a_callback_that_raises(event):
    """Its error comes out as it is, the others hear of the end, and the model goes on."""
    ended = []

    class Faulty(Callback):
        pass

    class Other(Callback):
        def on_train_end(self, model):
            ended.append(True)

    def fail(self, model, *args):
        raise ZeroDivisionError("mine")

    setattr(Faulty, event, fail)
    model = MLP([3, 4, 2], seed=0)
    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        model.fit(X, Y, 3, callbacks=[Other(), Faulty()], progress=False)
    assert ended == [True]
    assert np.isfinite(model.parameters).all()
    assert model.fit(X, Y, 3, progress=False).epochs == 3


def test_a_schedule_that_is_wrong_after_the_steps_looked_at(monkeypatch):
    """Its error names the step, callbacks hear of the end, and the model keeps what it has learnt."""
    monkeypatch.setattr("kernels.optimizers.rates.CHECKED_STEPS", 4)
    monkeypatch.setattr("fastnn.training.learner.SLICE_SECONDS", 0.0)  # one step a slice
    ended = []

    class Other(Callback):
        def on_train_end(self, model):
            ended.append(True)

    model, twin = MLP([3, 4, 2], seed=0), MLP([3, 4, 2], seed=0)
    fails("learning_rate must return finite rates >= 0, got -1.0 at step 12", model.fit, X, Y, 5, 5,
          SGD(lambda step: np.where(step < 12, 0.1, -1.0)), callbacks=[Other()], progress=False)  # fmt: skip
    assert ended == [True]
    twin.fit(X, Y, 3, 5, SGD(0.1), progress=False)
    np.testing.assert_array_equal(model.parameters, twin.parameters)


INTERRUPTED = textwrap.dedent("""
    import numpy as np
    import fastnn

    X = np.broadcast_to(np.arange(300, dtype=np.uint8), ({rows}, 300))
    y = np.arange({rows}) % 10
    model = fastnn.MLP([300, 500, 500, 10], seed=0)

    class Go(fastnn.Callback):
        steps = 0

        def on_slice_end(self, model, step, logs):
            if Go.steps < {first} <= step + 1:
                print("go", flush=True)
            Go.steps = step + 1

    history = model.fit(X, y, 10**9, 100, fastnn.SGD(1e-6), callbacks=[Go()], progress=False)
    assert history.interrupted
    assert len(history.loss) == len(history.accuracy) == len(history.learning_rate) == history.epochs
    assert np.isfinite(model.parameters).all()
    assert np.isfinite(model.predict(X[:10])).all()
    again = model.fit(X[:100], y[:100], 2, progress=False)
    assert (again.epochs, again.interrupted) == (2, False)
    print(history.epochs)
""")


@pytest.mark.parametrize(("rows", "first"), [(5_000_000, 1), (200, 20)], ids=["in its first epoch", "after some"])
def test_ctrl_c(rows, first):
    """It ends a training that would go on for months, one of them in its first epoch, which takes minutes."""
    process = subprocess.Popen(
        [sys.executable, "-c", CTRL_C + INTERRUPTED.format(rows=rows, first=first)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    assert process.stdout.readline() == "go\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert (int(out) > 0) == (first > 1)
    assert "UserWarning: Training interrupted by user." in err
    assert err.count("\n") <= 3


class TestAnotherPackageCalledKernels:
    def test_is_named(self, tmp_path):
        (tmp_path / "kernels").mkdir()
        (tmp_path / "kernels" / "__init__.py").write_text("raise RuntimeError('imported')\n")
        program = textwrap.dedent(f"""
            import sys
            sys.path.insert(0, {str(tmp_path)!r})
            import fastnn
            for name in ("MLP", "Adam", "data"):
                try:
                    getattr(fastnn, name)
                except ImportError as error:
                    print(error)
        """)
        lines = run(program).stdout.splitlines()
        assert len(lines) == 3
        for line in lines:
            assert "fastnn needs its own package `kernels`" in line
            assert f"{tmp_path / 'kernels' / '__init__.py'} is another's" in line
            assert "Hugging Face" in line

    def test_no_package_at_all(self, tmp_path):
        program = textwrap.dedent("""
            import importlib.util, sys
            import fastnn
            find = importlib.util.find_spec
            importlib.util.find_spec = lambda name, *args: None if name == "kernels" else find(name, *args)
            try:
                fastnn.MLP
            except ImportError as error:
                print(error)
        """)
        assert run(program).stdout.startswith("fastnn needs its own package `kernels`, and there is none. ")

    def test_the_check_imports_nothing(self):
        program = "import sys, fastnn; fastnn._check_kernels(); print('kernels' in sys.modules)"
        assert run(program).stdout == "False\n"

    def test_optimisers_need_no_compiler(self):
        assert run("import sys, fastnn; fastnn.Adam; print('numba' in sys.modules)").stdout == "False\n"


def test_targets_that_are_too_large_for_the_dtype():
    model = MLP([3, 4, 1], output="identity", seed=0)
    fails("y must be finite in float32, got 1e+39 at [1, 0]", model.fit, X, Y * 1e39)
    wide = MLP([3, 4, 1], output="identity", dtype="float64", seed=0)
    wide.fit(X, Y * 1e39, epochs=1, optimizer=SGD(1e-3), progress=False)
