"""MLP: a dense network, its parameters, what it predicts and what it can learn."""

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from fastnn import formats, initializers, inputs, optimizers, training
from fastnn.callbacks import Callback
from fastnn.history import History
from kernels import scalar
from kernels.cpu.engine import OUTPUTS, Engine
from kernels.layout import Layout, aligned_zeros

DEFAULT_LOSS = {
    "softmax": "softmax_cross_entropy",
    "sigmoid": "sigmoid_cross_entropy",
    "identity": "mean_squared_error",
}
SQUARED = ("mean_squared_error", "sum_squared_error")
RELU_FAMILY = ("relu", "leaky_relu", "silu", "gelu")
FORWARD_BLOCK = 1 << 30  # multiply-adds between two looks for Ctrl-C, about 0.02 s


class MLP:
    """A dense network: layers of x @ w + b, an activation after each hidden one, an output activation at the end.

    layers: widths of input, hidden layers and output. activation: the hidden layers', one name or one per layer:
    identity, relu, leaky_relu, sigmoid (logistic), tanh, silu (swish), gelu. output: softmax (classes), sigmoid (one
    or several yes/no labels), identity (numbers). init: "auto" (he for the ReLU family, xavier otherwise), or a
    name of fastnn.initializers, or ("normal", scale). dtype: "float32" or "float64". threads: at most so many, by
    default NUMBA_NUM_THREADS or all cores; the result is the same bits with any number. seed: of the initial weights,
    the shuffling and the split-off of validation rows.

    Raises ValueError or TypeError naming the argument that is wrong.
    """

    def __init__(
        self,
        layers: Sequence[int],
        activation: str | Sequence[str] = "relu",
        output: str = "softmax",
        *,
        bias: bool = True,
        init: str | tuple[str, float] = "auto",
        dtype: str = "float32",
        device: str = "auto",
        threads: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.layers = _widths(layers)
        self.activations = _activations(activation, len(self.layers) - 2)
        if output not in OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(OUTPUTS)}, got {output!r}")
        if output == "softmax" and self.layers[-1] == 1:
            raise ValueError("output 'softmax' needs at least 2 outputs, got layers ending in 1; use output='sigmoid'")
        if np.dtype(dtype).name not in ("float32", "float64"):
            raise ValueError(f"dtype must be float32 or float64, got {dtype!r}")
        if device not in ("auto", "cpu"):
            raise ValueError(f"device must be 'auto' or 'cpu', got {device!r}")
        if threads is not None and (not isinstance(threads, (int, np.integer)) or threads < 1):
            raise ValueError(f"threads must be a number >= 1 or None, got {threads!r}")
        self.output, self.bias, self.dtype, self.device = output, bool(bias), np.dtype(dtype).name, "cpu"
        self.threads, self.seed, self.init = threads, seed, init
        self.random = np.random.default_rng(seed)
        self.metadata: dict[str, Any] = {}
        self.loss: str | None = None
        self._engine: Engine | None = None
        self._layout = Layout.of(self.layers, self.dtype, self.bias)
        self._parameters = aligned_zeros(self._layout.size, self.dtype)
        for n, w in enumerate(self.weights):
            w[...] = initializers.draw(self._scheme(n), w.shape[0], w.shape[1], self.random, self.dtype)

    def _scheme(self, n: int) -> str | tuple[str, float]:
        if self.init != "auto":
            return self.init
        return "he" if n < len(self.activations) and self.activations[n] in RELU_FAMILY else "xavier"

    @classmethod
    def from_architecture(cls, architecture: Sequence[Mapping[str, Any]], **options: Any) -> "MLP":
        """A network from the articles' form, a list of {"input_dim": 2, "output_dim": 25, "activation": "relu"}.

        The last activation is the output's. `options` are those of MLP.
        """
        if not architecture:
            raise ValueError("architecture must have at least one layer, got an empty list")
        for n, layer in enumerate(architecture):
            missing = {"input_dim", "output_dim", "activation"} - set(layer)
            if missing:
                raise ValueError(f"architecture[{n}] must have {', '.join(sorted(missing))}, got {dict(layer)!r}")
            if n and layer["input_dim"] != architecture[n - 1]["output_dim"]:
                raise ValueError(
                    f"architecture[{n}] must have input_dim {architecture[n - 1]['output_dim']}, the output_dim "
                    f"before it, got {layer['input_dim']}"
                )
        layers = [architecture[0]["input_dim"], *(layer["output_dim"] for layer in architecture)]
        hidden = [layer["activation"] for layer in architecture[:-1]]
        return cls(layers, hidden, architecture[-1]["activation"], **options)

    @property
    def parameters(self) -> np.ndarray:
        """The flat buffer of all weights and biases (and padding); writing to it changes the model."""
        return self._parameters

    @property
    def weights(self) -> list[np.ndarray]:
        """Views (I, O) of each layer's weights; writing to them changes the model."""
        return self._layout.weights(self._parameters)

    @property
    def biases(self) -> list[np.ndarray]:
        """Views (O,) of each layer's bias, none for a network without; writing to them changes the model."""
        return self._layout.biases(self._parameters)

    @property
    def n_parameters(self) -> int:
        """The number of weights and biases."""
        return sum(w.size for w in self.weights) + sum(b.size for b in self.biases)

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        optimizer: optimizers.Optimizer | str = optimizers.Adam(),  # noqa: B008 (frozen)
        loss: str | None = None,
        l2: float = 0.0,
        *,
        shuffle: bool = True,
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        sample_weight: Any = None,
        class_weight: Any = None,
        callbacks: Iterable[Callback] = (),
        progress: bool | None = None,
    ) -> History:
        """Train on from the present weights, with fresh optimiser state.

        X: (n, inputs), any number type and strides, a memory map too: it is converted batch by batch, never copied
        whole. y: integer labels (n,), one-hot rows or probabilities (n, outputs), several labels, or numbers.
        loss: by default that of the output (cross-entropy for softmax and sigmoid, else mean_squared_error);
        sum_squared_error is the articles'. l2 adds 1/2 * l2 * sum(w^2), biases excepted. validation_split: the
        fraction of rows, drawn at random, that is held out. class_weight: {label: weight} or "balanced". progress:
        None shows a bar or lines, False nothing.

        Ctrl-C ends training with a warning; the history so far is returned, its `interrupted` True.
        Raises ValueError or TypeError, with the model unchanged, for input that does not fit.
        """
        return training.fit(
            self, X, y, epochs, batch_size, optimizer, loss, l2, shuffle, validation_data, validation_split,
            sample_weight, class_weight, callbacks, progress,
        )  # fmt: skip

    def predict(self, X: Any) -> np.ndarray:
        """The network's outputs (n, outputs): probabilities for softmax and sigmoid. NaN in a row stays in that row."""
        X = inputs.matrix(X, self.layers[0], finite=False)
        out = np.empty((len(X), self.layers[-1]), self.dtype)
        for block in self._blocks(len(X)):
            self.engine().forward(X[block], out=out[block])
        return out

    def evaluate(self, X: Any, y: Any, *, loss: str | None = None) -> dict[str, float]:
        """{"loss", "accuracy"}, or {"loss", "r2"} for identity outputs. The loss is without the l2 term."""
        X = inputs.matrix(X, self.layers[0])
        loss = self.loss_name(loss)
        return self.measure(X, inputs.targets(y, len(X), self.layers[-1], self.output, loss), loss)

    def measure(
        self, X: np.ndarray, target: inputs.Targets, loss: str, rows: np.ndarray | None = None
    ) -> dict[str, float]:
        """`evaluate` on input that has been checked, on all rows or some."""
        rows = np.arange(len(X)) if rows is None else rows
        total, right, residual = 0.0, 0.0, 0.0
        mean = _column_means(target.values, rows) if self.output == "identity" and target.metric is None else None
        spread = np.zeros(self.layers[-1])
        for block in self._blocks(len(rows)):
            chosen = rows[block]
            out = np.empty((len(chosen), self.layers[-1]), self.dtype) if mean is not None else None
            losses, hits = self.engine().forward(
                X, order=chosen, out=out, target=target.values, loss=loss, metric=target.metric
            )
            total += losses.sum()
            right += hits.sum()
            if out is not None and mean is not None:
                y = target.values[chosen].astype(np.float64)
                residual = residual + ((out - y) ** 2).sum(0)
                spread += ((y - mean) ** 2).sum(0)
        result = {"loss": float(total if loss == "sum_squared_error" else total / len(rows))}
        if target.metric:
            result["accuracy"] = float(right / len(rows))
        elif mean is not None:
            result["r2"] = _r2(residual, spread)
        return result

    def loss_and_gradients(
        self, X: Any, y: Any, *, loss: str | None = None, l2: float = 0.0, sample_weight: Any = None
    ) -> tuple[float, list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Backpropagation for its own sake: (loss, [dw], [db], dX), and no update.

        The shapes are those of `weights`, `biases` and X; the dtype is the model's.
        """
        X = inputs.matrix(X, self.layers[0])
        loss = self.loss_name(loss)
        target = inputs.targets(y, len(X), self.layers[-1], self.output, loss)
        weight = inputs.row_weights(sample_weight, None, target, len(X))
        mass = len(X) if weight is None else weight.sum()
        scale = 1.0 if loss == "sum_squared_error" else 1.0 / mass
        value, gradient, dx = self.engine().gradients(
            X, target.values, weight=weight, scale=scale, loss=loss, l2=l2
        )  # fmt: skip
        return value, self._layout.weights(gradient), self._layout.biases(gradient), dx

    def engine(self) -> Engine:
        """What runs this network: its buffers and compiled code, made when first asked for."""
        if self._engine is None or self._engine.parameters is not self._parameters:
            self._engine = Engine(
                self.layers, self.activations, self.output, self._parameters, self.bias, self.threads
            )  # fmt: skip
        return self._engine

    def loss_name(self, loss: str | None) -> str:
        """The loss for this network: its output's own, or `loss` if that goes with the output."""
        if loss is None:
            return DEFAULT_LOSS[self.output]
        allowed = {DEFAULT_LOSS[self.output], *SQUARED}
        if loss not in allowed:
            raise ValueError(
                f"loss must be one of {', '.join(sorted(allowed))} for {self.output} outputs, got {loss!r}"
            )
        return loss

    def summary(self) -> str:
        """The network as a table: per layer its shape, activation and number of parameters. Printed and returned."""
        lines = [f"{'layer':>5}  {'inputs':>7}  {'outputs':>7}  {'activation':<12}  {'parameters':>10}"]
        names = [*self.activations, self.output]
        for n, w in enumerate(self.weights):
            size = w.size + (w.shape[1] if self.bias else 0)
            lines.append(f"{n + 1:>5}  {w.shape[0]:>7}  {w.shape[1]:>7}  {names[n]:<12}  {size:>10,}")
        lines.append(f"{self.n_parameters:,} parameters, {self.dtype}, {self.device}")
        text = "\n".join(lines)
        print(text)
        return text

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model to a .npz or .safetensors file (which needs the extra `recipes`), whole or not at all."""
        arrays = {f"w{n}": w for n, w in enumerate(self.weights)}
        arrays |= {f"b{n}": b for n, b in enumerate(self.biases)}
        architecture = {
            "layers": self.layers, "activations": self.activations, "output": self.output, "bias": self.bias,
            "dtype": self.dtype,
        }  # fmt: skip
        formats.save_arrays(path, arrays, {"architecture": architecture, "user": self.metadata})

    def _blocks(self, n: int) -> Iterable[slice]:
        """Slices of n rows, each the work of a moment."""
        rows = max(1, FORWARD_BLOCK // sum(w.size for w in self.weights))
        return (slice(start, min(start + rows, n)) for start in range(0, n, rows))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_engine": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        parameters = aligned_zeros(self._layout.size, self.dtype)
        parameters[...] = self._parameters
        self._parameters = parameters

    def __repr__(self) -> str:
        return f"MLP({self.layers}, activation={self.activations}, output={self.output!r}, dtype={self.dtype!r})"


def load(path: str | PathLike[str], **options: Any) -> MLP:
    """Read a model that `MLP.save` wrote. `options`: threads, device, seed, as for MLP.

    Raises ValueError for a file that is damaged, of a newer version or not fastnn's.
    """
    arrays, metadata = formats.load_arrays(path)
    try:
        a = metadata["architecture"]
        model = MLP(
            a["layers"], a["activations"], a["output"], bias=a["bias"], dtype=a["dtype"], init="zeros", **options
        )
        for n, w in enumerate(model.weights):
            w[...] = arrays[f"w{n}"]
        for n, b in enumerate(model.biases):
            b[...] = arrays[f"b{n}"]
        model.metadata = metadata["user"]
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a model of this version of fastnn: {error}") from error
    return model


def _widths(layers: Sequence[int]) -> list[int]:
    widths = list(layers)
    if len(widths) < 2 or not all(
        isinstance(w, (int, np.integer)) and not isinstance(w, bool) and w >= 1 for w in widths
    ):
        raise ValueError(f"layers must be at least two widths >= 1, from input to output, got {layers!r}")
    return [int(w) for w in widths]


def _activations(activation: str | Sequence[str], hidden: int) -> list[str]:
    names = [activation] * hidden if isinstance(activation, str) else list(activation)
    if len(names) != hidden:
        raise ValueError(f"activation must be one name or one per hidden layer ({hidden}), got {activation!r}")
    for name in {*names, activation} if isinstance(activation, str) else names:
        if scalar.canonical(name) not in scalar.ACTIVATIONS:
            known = ", ".join([*scalar.ACTIVATIONS, *scalar.ALIASES])
            raise ValueError(f"activation must be one of {known}, got {name!r}")
    return [scalar.canonical(name) for name in names]


def _column_means(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    total = np.zeros(values.shape[1])
    for start in range(0, len(rows), 1 << 16):
        total += values[rows[start : start + (1 << 16)]].sum(0, dtype=np.float64)
    return total / len(rows)


def _r2(residual: Any, spread: np.ndarray) -> float:
    """The coefficient of determination, averaged over outputs, as scikit-learn's r2_score."""
    constant = spread == 0
    score = 1.0 - residual / np.where(constant, 1.0, spread)
    score = np.where(constant, np.where(residual == 0, 1.0, 0.0), score)
    return float(np.mean(score))
