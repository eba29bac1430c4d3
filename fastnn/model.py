"""MLP: a dense network, its parameters, what it predicts and what it can learn."""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import initializers, inputs, optimizers
from fastnn.callbacks import Callback
from fastnn.files import DataError, formats, reading
from fastnn.history import History
from fastnn.inputs import architectures
from fastnn.training import evaluation
from fastnn.training import fit as training
from fastnn.training import progress as reports
from fastnn.training.arguments import FitOptions
from fastnn.training.data import Data
from fastnn.training.loading import load_kernels
from fastnn.training.optimizer_state import Memory, Noise
from kernels import backends
from kernels.activations import ACTIVATIONS
from kernels.engine.requests import Needs
from kernels.layout import Layout, address, aligned_copy, aligned_zeros
from kernels.losses import LossChoice
from kernels.process import forks
from kernels.ranges import check_count, check_number

if TYPE_CHECKING:
    from fastnn.profile import Profile

# Multiply-adds between two looks for Ctrl-C, about 0.1 s of them, and the most rows, for what each row needs
FORWARD_BLOCK = 1 << 33
FORWARD_ROWS = 1 << 16

_making = forks.lock()  # engines


def _decided(name: str, what: str, argument: str = "", by: str = "a new MLP") -> Any:
    """An attribute that is decided when a model is made: what runs the model is made for it.

    argument: of what it is made, where that has another name. by: what takes that argument.
    """

    def get(model: "MLP") -> Any:
        return getattr(model, f"_{name}")

    def refuse(model: "MLP", value: Any) -> None:
        raise AttributeError(f"{name} is decided when a model is made: pass {argument or name}={value!r} to {by}")

    return property(get, refuse, doc=what)


@functools.cache
def _for_outputs(dtype: np.dtype) -> Needs:
    """What `predict` needs for X of this dtype. Made once: it takes 1 us of the 10 of a row."""
    return Needs(gathered=(dtype, None, None), outputs=True)


class Views(tuple[np.ndarray, ...]):
    """A layer's array each, views into the model's parameters. To change the model one writes into them."""

    def __setitem__(self, n: Any, value: Any) -> None:
        """Take back an array that is here already, as `weights[0] -= step` does; refuse any other."""
        if value is not self[n]:
            raise TypeError(f"a model's array cannot be replaced: write into it, as in weights[{n!r}][...] = values")


class MLP:
    """A dense network: layers of x @ w + b, an activation after each hidden one, an output activation at the end.

    layers: widths of input, hidden layers and output. activation: the hidden layers', one name or one per layer
    (docs/activations.md). dropout: the share of a hidden layer's outputs that is 0 in a training step while the others
    grow to make up for it, one rate in [0, 1) or one per layer; what is not training drops nothing. output: softmax
    (classes), sigmoid (one or several yes/no labels), identity (numbers), exp (counts). init: "auto" (he for the ReLU
    family, xavier otherwise), or a name of fastnn.initializers, or ("normal", scale). dtype: "float32" or "float64".
    precision: to what the products of a float32 network round their factors: "float32", not at all (a CPU with AMX
    makes large products of three parts of each factor, which is no less exact); "bf16", to 8 significant bits, on a
    GPU's tensor cores or a CPU with AVX512-BF16, faster with AMX and from some 16 rows on; "tf32", to 11, on tensor
    cores alone. Sums, parameters and the optimiser's state stay float32, and on the CPU layers of fewer than 4096
    weights, or 8 inputs or outputs, do too. device: "cpu", "cuda" (an NVIDIA GPU; needs the extra `cuda`), or "auto",
    the GPU where one can be used. threads: the most that run it, by default NUMBA_NUM_THREADS or all cores; the bits
    are the same with any number. seed: of the initial weights, the shuffling, the split-off of validation rows and
    dropout.

    Raises ValueError or TypeError naming the argument that is wrong; for device "cuda" ImportError or RuntimeError
    naming what is missing.
    """

    layers = _decided("layers", "The widths of input, hidden layers and output.")
    activations = _decided("activations", "The name of each hidden layer's activation.", "activation")
    output = _decided("output", "The name of the output activation.")
    dropout = _decided("dropout", "The share of each hidden layer's outputs that training drops.")
    bias = _decided("bias", "Whether layers have biases.")
    init = _decided("init", "How the first weights were drawn.")
    dtype = _decided("dtype", 'That of the parameters: "float32" or "float64".')
    device = _decided("device", 'Where the model runs: "cpu" or "cuda".', by="MLP or fastnn.load")
    precision = _decided("precision", "To what products round their factors.", by="MLP or fastnn.load")
    threads = _decided("threads", "The most threads that run it; None for all there are.", by="MLP or fastnn.load")
    seed = _decided("seed", "That of all that is random, or None.", by="MLP or fastnn.load")

    def __init__(
        self,
        layers: Sequence[int],
        activation: str | Sequence[str] = "relu",
        output: str = "softmax",
        *,
        dropout: float | Sequence[float] = 0.0,
        bias: bool = True,
        init: str | tuple[str, float] = "auto",
        dtype: str = "float32",
        device: str = "auto",
        precision: str = "float32",
        threads: int | None = None,
        seed: int | None = None,
    ) -> None:
        self._layers = architectures.widths(layers)
        self._activations = architectures.activations(activation, len(self.layers) - 2)
        self._output = architectures.output(output, self.layers[-1])
        self._dropout = architectures.dropout(dropout, len(self.activations))
        if not isinstance(bias, (bool, np.bool_)):
            raise TypeError(f"bias must be True or False, got {bias!r}")
        self._bias, self._dtype, self._device = bool(bias), architectures.dtype(dtype), architectures.device(device)
        self._precision = architectures.precision(precision, self.dtype, self.device)
        if threads is not None:
            check_count("threads", threads)
        if seed is not None:
            check_count("seed", seed, 0)
        self._threads, self._seed, self._init = threads, seed, init
        seeds: Any = np.random.SeedSequence(seed)
        self.random, self.noise = np.random.default_rng(seeds), Noise(int(seeds.entropy) % 2**63)
        forks.renewed(self.random.bit_generator.lock)
        self.metadata: dict[str, Any] = {}
        self.optimizer_state: Memory | None = None
        self._engine: Any = None
        self._loaded: set[Needs] = set()  # what the engine has been asked to load
        self._layout = Layout.of(self.layers, self.dtype, self.bias)
        self._parameters = aligned_zeros(self._layout.size, self.dtype)
        for n, w in enumerate(self.weights):
            w[...] = initializers.draw(self._scheme(n), w.shape[0], w.shape[1], self.random, self.dtype)

    def _scheme(self, n: int) -> str | tuple[str, float]:
        if not isinstance(self.init, str) or self.init != "auto":
            return self.init
        return ACTIVATIONS[self.activations[n]].init if n < len(self.activations) else "xavier"

    @classmethod
    def from_architecture(cls, architecture: Sequence[Mapping[str, Any]], **options: Any) -> "MLP":
        """A network from the articles' form, a list of {"input_dim": 2, "output_dim": 25, "activation": "relu"}.

        The last activation is the output's. A hidden layer may have a "dropout". `options` are those of MLP.
        """
        layers, activations, rates = architectures.chain(architecture)
        return cls(layers, activations[:-1], activations[-1], **{"dropout": rates, **options})

    @property
    def parameters(self) -> np.ndarray:
        """The flat buffer of all weights and biases (and padding); writing to it changes the model.

        While a GPU trains, asking for it, or for weights or biases, reads them back: a callback asks anew each time.
        """
        if self._engine is not None:
            self._engine.pull()
        return self._parameters.view()  # whose shape and dtype may be changed: the engine has the addresses of ours

    @parameters.setter
    def parameters(self, value: Any) -> None:
        own = self._parameters
        same = isinstance(value, np.ndarray) and value.shape == own.shape and address(value) == address(own)
        if not same:  # as it is after `parameters -= step`
            raise AttributeError("parameters cannot be replaced: write into them, as in parameters[...] = values")

    @property
    def weights(self) -> Views:
        """Views (I, O) of each layer's weights; writing to them changes the model."""
        return Views(self._layout.weights(self.parameters))

    @weights.setter
    def weights(self, value: Any) -> None:
        raise AttributeError("weights cannot be replaced: write into them, as in weights[0][...] = values")

    @property
    def biases(self) -> Views:
        """Views (O,) of each layer's bias, none for a network without; writing to them changes the model."""
        return Views(self._layout.biases(self.parameters))

    @biases.setter
    def biases(self, value: Any) -> None:
        raise AttributeError("biases cannot be replaced: write into them, as in biases[0][...] = values")

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
        loss: LossChoice | None = None,
        l2: float = 0.0,
        *,
        shuffle: bool = True,
        validation_data: tuple[Any, ...] | None = None,
        validation_split: float = 0.0,
        sample_weight: Any = None,
        class_weight: Any = None,
        callbacks: Iterable[Callback] = (),
        progress: bool | None = None,
        stop_if_diverged: bool = True,
    ) -> History:
        """Train on from the present weights, with fresh optimiser state.

        X: (n, inputs), numbers of up to 64 bits in any byte order and strides, a memory map too: it is converted batch
        by batch, never copied whole. A model on a GPU also takes arrays there (CuPy's, PyTorch's), X and y without a
        copy if they are in C order. y: integer labels (n,), one-hot rows or probabilities (n, outputs), several
        labels, or numbers; integers are read where they lie. shuffle: draw a new order of the rows in every epoch, four
        bytes a row, six more for a while where they are over two million. loss: by default that of the output
        (cross-entropy for softmax and sigmoid, poisson for exp, else mean_squared_error); sum_squared_error is the
        articles'. l2 adds 1/2 * l2 * sum(w^2), biases excepted.
        validation_data: (X, y) or (X, y, weights), on which `evaluate` measures after each epoch. validation_split: the
        fraction of rows, drawn at random, that is held out; they keep their sample_weight. sample_weight: (n,), each
        >= 0; one below 1e-32 of the largest counts as zero. class_weight: {label: weight} or "balanced", for labels and
        one-hot rows. progress: None shows a bar in a terminal or notebook and lines elsewhere, True a bar, False
        nothing.
        Other losses, one of your own (fastnn.Loss) among them, go by their names, or with their parameter as in
        ("huber", 0.5) or ("softmax_cross_entropy", 0.1), which smooths labels; a name that is none lists all.

        Training ends with a warning after the first slice of steps whose loss or parameters are not finite: the model
        gets the parameters from the end of the epoch before, or those it had; the last epoch in the history is the one
        that was not finite, and `diverged` is True. Its loss, in the callbacks' logs too, is NaN if the parameters
        alone were lost. stop_if_diverged=False goes on.
        Ctrl-C ends training with a warning; the history so far is returned, its `interrupted` True. A step that would
        take longer is given up: some of its weights may have been updated, each by its whole gradient.
        Raises ValueError or TypeError, with the model unchanged, for input that does not fit, and for a schedule that
        is wrong in its first million steps. At a later step its error ends training; the model keeps what it has
        learnt.
        """
        options = FitOptions(
            epochs=epochs, batch_size=batch_size, optimizer=optimizer, loss=loss, l2=l2, shuffle=shuffle,
            validation_data=validation_data, validation_split=validation_split, sample_weight=sample_weight,
            class_weight=class_weight, callbacks=callbacks, progress=progress, stop_if_diverged=stop_if_diverged,
        )  # fmt: skip
        return training.fit(self, X, y, options)

    def train_on_batch(
        self,
        X: Any,
        y: Any,
        optimizer: optimizers.Optimizer | str = optimizers.Adam(),  # noqa: B008 (frozen)
        *,
        loss: LossChoice | None = None,
        l2: float = 0.0,
        sample_weight: Any = None,
    ) -> dict[str, float]:
        """One step on all rows of X. Returns {"loss", "accuracy"} (no accuracy for identity outputs) from before it.

        The arguments are those of `fit`. Calls in a row with equal optimisers share its state: they are the steps of
        one training. Another optimiser starts with fresh state, and so does the first call after `fit`.
        """
        return training.train_on_batch(self, X, y, optimizer, loss, l2, sample_weight)

    def predict(self, X: Any) -> Any:
        """The network's outputs (n, outputs): probabilities for softmax and sigmoid. NaN in a row stays in that row.

        X may have no rows. On a CPU with AMX the last bits of a row may be others among many rows than alone: see
        `precision` of MLP. For X on a GPU an array of numba-cuda, which is there too.
        """
        if self.metadata:
            inputs.check_raw(self.metadata)
        inputs.check_device(self.device, X=X)
        X = inputs.matrix(X, self.layers[0], finite=False, empty=True)
        engine = self.engine(_for_outputs(X.dtype))
        out = np.empty((len(X), self.layers[-1]), self.dtype) if isinstance(X, np.ndarray) else engine.outputs(len(X))
        if len(X) == 1:  # in no time: 1 us of 10
            engine.forward(X, out=out)
            return out
        for block in self.blocks(len(X)):
            engine.forward(X[block], out=out[block], among=len(X))
        return out

    def evaluate(
        self, X: Any, y: Any, *, loss: LossChoice | None = None, sample_weight: Any = None
    ) -> dict[str, float]:  # fmt: skip
        """{"loss", "accuracy"}, or {"loss", "r2"} for identity outputs. The loss is without the l2 term.

        sample_weight: (n,), each >= 0, what a row counts in all of them.
        """
        data = Data.checked(self, X, y, loss, sample_weight)
        self.engine(data.needs(outputs=data.target.metric is None))
        request = evaluation.EvaluateRequest(data.X, data.target, data.loss, weight=data.weight)
        return evaluation.measure(self, request)

    def loss_and_gradients(
        self, X: Any, y: Any, *, loss: LossChoice | None = None, l2: float = 0.0, sample_weight: Any = None
    ) -> tuple[float, list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Backpropagation for its own sake: (loss, [dw], [db], dX), without dropout, and no update.

        The shapes are those of `weights`, `biases` and X; the dtype is the model's.
        """
        data = Data.checked(self, X, y, loss, sample_weight)
        check_number("l2", l2, 0)
        n = len(data.X)
        (scale,) = data.scales(data.mass(None, n))
        value, gradient, dx = self.engine(data.needs(rows=n)).gradients(
            data.X, data.target.values, weight=data.weight, scale=scale, loss=data.loss, l2=l2
        )
        return value, self._layout.weights(gradient), self._layout.biases(gradient), dx

    def profile(
        self,
        X: Any,
        y: Any,
        batch_size: int = 32,
        optimizer: optimizers.Optimizer | str = optimizers.Adam(),  # noqa: B008 (frozen)
        loss: LossChoice | None = None,
        l2: float = 0.0,
        *,
        shuffle: bool = True,
        sample_weight: Any = None,
        class_weight: Any = None,
    ) -> "Profile":
        """Where the time of a training step goes, layer by layer and phase by phase; print it for a table.

        The arguments are those of `fit`, whose first steps are made, on a copy of the parameters, for about a second;
        the model stays as it is. Time is set against the roofline (Williams et al. 2009): the least that the phase's
        operations or its bytes could take, by peaks measured in between on as many threads.
        Raises ValueError or TypeError for input that does not fit, and ValueError for a model on a GPU.
        """
        from fastnn.profile import profile

        return profile(self, X, y, batch_size, optimizer, loss, l2, shuffle, sample_weight, class_weight)

    def explain(self, rows: int) -> str:
        """How a training step on a batch of `rows` rows is made, as text: kernels/engine/README.md has the words.

        Nothing is compiled. Raises ValueError for `rows` that is no integer >= 1.
        """
        check_count("rows", rows)
        return str(self._made().explain(rows))

    def engine(self, needs: Needs | None = None) -> Any:
        """What runs this network: its buffers and compiled code, made when first asked for; needs as for `prepare`."""
        loaded = self._loaded if needs is None else needs in self._loaded
        if self._engine is None or self._engine.process != os.getpid() or not loaded:
            self.prepare(reports.line, needs or Needs())
        return self._engine

    def prepare(self, say: Callable[[str], None], needs: Needs) -> float:
        """Make what `engine` returns, with all that is needed loaded.

        Returns the seconds that compiling took, or 0; where something has to be compiled, `say` is told.
        """
        seconds = load_kernels(self._made(), say, needs)
        self._loaded.add(needs)
        return seconds

    def _made(self) -> Any:
        """What runs this network in this process, with nothing compiled."""
        with _making:  # or two threads would each make one, and train at once
            if self._engine is None or self._engine.process != os.getpid():
                self._engine = backends.engine(self.device, self.precision)(
                    self.layers, self.activations, self.output, self._parameters, self.bias, self.threads, self.dropout,
                    self.precision,
                )  # fmt: skip
                self._loaded = set()
        return self._engine

    def summary(self) -> None:
        """Print the network as a table: per layer its widths, activation and number of parameters."""
        print(f"{'layer':>5}  {'inputs':>7}  {'outputs':>7}  {'activation':<10}  {'parameters':>11}")
        for n, (w, name) in enumerate(zip(self.weights, [*self.activations, self.output], strict=True), 1):
            size = w.size + (w.shape[1] if self.bias else 0)
            print(f"{n:>5}  {w.shape[0]:>7,}  {w.shape[1]:>7,}  {name:<10}  {size:>11,}")
        biases = "" if self.bias else ", no biases"
        products = "" if self.precision == "float32" else f", products in {self.precision}"
        print(f"{self.n_parameters:,} parameters in {self.dtype}{biases}{products}, on the {self.device}")
        if any(self.dropout):
            print(f"dropout of hidden layers: {', '.join(f'{rate:g}' for rate in self.dropout)}")

    def save(self, path: str | PathLike[str], *, allow_nan: bool = False) -> None:
        """Write the model to a .npz or .safetensors file (which needs the extra `recipes`), whole or not at all.

        Raises ValueError for a model with weights or biases that are NaN or infinite, unless allow_nan is True.
        """
        arrays = {f"w{n}": w for n, w in enumerate(self.weights)}
        arrays |= {f"b{n}": b for n, b in enumerate(self.biases)}
        for name, array in arrays.items():
            if not (allow_nan or np.isfinite(array).all()):
                got = f"{array[~np.isfinite(array)][0]} in {name}"
                raise ValueError(
                    f"parameters must be finite to be saved, or pass allow_nan=True to save them, got {got}"
                )
        architecture = {
            "layers": self.layers, "activations": self.activations, "output": self.output, "bias": self.bias,
            "dtype": self.dtype, "dropout": self.dropout, "precision": self.precision,
        }  # fmt: skip
        formats.save_arrays(path, arrays, {"architecture": architecture, "user": self.metadata})

    def blocks(self, n: int) -> Iterable[slice]:
        """Slices of n rows, each the work of a moment."""
        rows = min(max(1, FORWARD_BLOCK // self.engine().multiply_adds), FORWARD_ROWS)
        return (slice(start, min(start + rows, n)) for start in range(0, n, rows))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_parameters": self.parameters, "_engine": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._parameters = aligned_copy(self._parameters)
        forks.renewed(self.random.bit_generator.lock)

    def __repr__(self) -> str:
        same = len(set(self.activations)) == 1
        parts = [str(list(self.layers))]
        if self.activations:
            parts.append(f"activation={self.activations[0] if same else list(self.activations)!r}")
        parts.append(f"output={self.output!r}")
        if any(self.dropout):
            parts.append(f"dropout={self.dropout[0] if len(set(self.dropout)) == 1 else list(self.dropout)!r}")
        parts += [] if self.bias else ["bias=False"]
        parts.append(f"dtype={self.dtype!r}")
        parts += [] if self.precision == "float32" else [f"precision={self.precision!r}"]
        return f"MLP({', '.join(parts)})"


def load(path: str | PathLike[str], **options: Any) -> MLP:
    """Read a model that `MLP.save` wrote. `options`: threads, device, precision, seed, as for MLP.

    precision: by default the saved model's. Raises ValueError for a file that is damaged, of a newer version or not
    fastnn's, and for a precision that the device has not.
    """
    known = "threads", "device", "precision", "seed"
    unknown = options.keys() - set(known)
    if unknown:
        raise TypeError(f"options of load must be among {', '.join(known)}, got {', '.join(sorted(unknown))}")
    MLP([1, 2], **options)  # what is wrong with the options is not the file's fault
    with formats.open_arrays(path) as file, reading(path, "is not a model of this version of fastnn"):
        a, user = (formats.entry(file.metadata, name, dict) for name in ("architecture", "user"))
        names = formats.entry(a, "activations", list)
        for name in names:
            if isinstance(name, str) and name.isidentifier() and name not in ACTIVATIONS:
                why = f"activation {name!r} is not known here: make it with fastnn.Activation before loading"
                raise DataError(f"{os.fspath(path)} cannot be loaded: {why}")
        layers, bias = architectures.widths(formats.entry(a, "layers", list)), formats.entry(a, "bias", bool)
        arrays = {name: file.read(name, shape) for name, shape in architectures.shapes(layers, bias)}
        model = MLP(
            layers, names, formats.entry(a, "output", str),
            dropout=a.get("dropout", 0.0), bias=bias, dtype=formats.entry(a, "dtype", str), init="zeros",
            **{**options, "precision": "float32"},
        )  # fmt: skip
        for views, letter in ((model.weights, "w"), (model.biases, "b")):
            for n, view in enumerate(views):
                view[...] = arrays[f"{letter}{n}"]
        model.metadata = user
    try:
        precision = options.get("precision", a.get("precision", "float32"))
        model._precision = architectures.precision(precision, model.dtype, model.device)
    except ValueError as error:
        raise ValueError(f"{path} cannot be loaded as it is: {error}; pass precision='float32'") from error
    return model
