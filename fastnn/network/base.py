"""A network: how it is made, its parameters, what runs it, and what is printed and written of it."""

import os
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import Any

import numpy as np

from fastnn import initializers
from fastnn.files import formats
from fastnn.inputs import architectures
from fastnn.network.attributes import Views, decided
from fastnn.network.loading import load_kernels
from fastnn.training import progress as reports
from fastnn.training.optimizer_state import Memory, Noise
from kernels import backends
from kernels.activations import ACTIVATIONS
from kernels.declarations.ranges import check_count
from kernels.engine.network import Network, perceptron
from kernels.engine.requests import Needs
from kernels.layout import Layout, Norm, address, aligned_copy, aligned_zeros
from kernels.process import forks

# Multiply-adds between two looks for Ctrl-C, about 0.1 s of them, and the most rows, for what each row needs
FORWARD_BLOCK = 1 << 33
FORWARD_ROWS = 1 << 16

_making = forks.lock()  # engines


class Model:
    """The base of MLP, which says what the arguments are."""

    layers = decided("layers", "The widths of input, hidden layers and output.")
    activations = decided("activations", "The name of each hidden layer's activation.", "activation")
    output = decided("output", "The name of the output activation.")
    dropout = decided("dropout", "The share of each hidden layer's outputs that training drops.")
    bias = decided("bias", "Whether layers have biases.")
    norm = decided("norm", 'What normalises hidden layers: "layer", "batch" or None.')
    init = decided("init", "How the first weights were drawn.")
    dtype = decided("dtype", 'That of the parameters: "float32" or "float64".')
    device = decided("device", 'Where the model runs: "cpu" or "cuda".', by="MLP or fastnn.load")
    precision = decided("precision", "To what products round their factors.", by="MLP or fastnn.load")
    threads = decided("threads", "The most threads that run it; None for all there are.", by="MLP or fastnn.load")
    seed = decided("seed", "That of all that is random, or None.", by="MLP or fastnn.load")

    def __init__(
        self,
        layers: Sequence[int],
        activation: str | Sequence[str] = "relu",
        output: str = "softmax",
        *,
        dropout: float | Sequence[float] = 0.0,
        bias: bool = True,
        norm: str | None = None,
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
        self._bias, self._norm = bool(bias), architectures.norm(norm)
        self._dtype, self._device = architectures.dtype(dtype), architectures.device(device, self.norm)
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
        self._network = perceptron(
            self.layers, self.activations, self.output, bias=self.bias, dropout=self.dropout, norm=self.norm
        )
        self._layout = Layout.of(self.network, self.dtype)
        self._parameters = aligned_zeros(self.layout.size, self.dtype)
        for each in self.norms:
            each.gamma[...] = 1.0
            if each.variance is not None:
                each.variance[...] = 1.0
        for n, w in enumerate(self.weights):
            w[...] = initializers.draw(self._scheme(n), w.shape[0], w.shape[1], self.random, self.dtype)

    def _scheme(self, n: int) -> str | tuple[str, float]:
        if not isinstance(self.init, str) or self.init != "auto":
            return self.init
        return ACTIVATIONS[self.activations[n]].init if n < len(self.activations) else "xavier"

    @property
    def network(self) -> Network:
        """The layers, as engines take them."""
        return self._network

    @property
    def layout(self) -> Layout:
        """How `parameters` is laid out."""
        return self._layout

    @property
    def parameters(self) -> np.ndarray:
        """The flat buffer of all that is learnt and kept (and padding); writing to it changes the model.

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
        return Views(self.layout.weights(self.parameters))

    @weights.setter
    def weights(self, value: Any) -> None:
        raise AttributeError("weights cannot be replaced: write into them, as in weights[0][...] = values")

    @property
    def biases(self) -> Views:
        """Views (O,) of each layer's bias, none for a network without; writing to them changes the model."""
        return Views(self.layout.biases(self.parameters))

    @biases.setter
    def biases(self, value: Any) -> None:
        raise AttributeError("biases cannot be replaced: write into them, as in biases[0][...] = values")

    @property
    def norms(self) -> tuple[Norm, ...]:
        """What normalises each hidden layer: gamma, beta, and with norm "batch" running mean and variance, views (O,).

        Writing to them changes the model. Empty for a network without `norm`.
        """
        return tuple(self.layout.norms(self.parameters))

    @norms.setter
    def norms(self, value: Any) -> None:
        raise AttributeError("norms cannot be replaced: write into them, as in norms[0].gamma[...] = values")

    @property
    def named_arrays(self) -> dict[str, np.ndarray]:
        """Views of all that is learnt and kept, as files name it: w0, ..., b0, ..., gamma0, ..."""
        arrays = {f"w{n}": w for n, w in enumerate(self.weights)}
        arrays |= {f"b{n}": b for n, b in enumerate(self.biases)}
        for n, norm in enumerate(self.norms):
            arrays |= {f"{name}{n}": array for name, array in norm._asdict().items() if array is not None}
        return arrays

    @property
    def n_parameters(self) -> int:
        """The number of weights, biases, and what normalisations learn."""
        learnt = [*self.weights, *self.biases, *(array for norm in self.norms for array in (norm.gamma, norm.beta))]
        return sum(array.size for array in learnt)

    def engine(self, needs: Needs | None = None) -> Any:
        """What runs this network: its buffers and compiled code, made when first asked for; needs as for `prepare`."""
        loaded = self._loaded if needs is None else needs in self._loaded
        if self._engine is None or self._engine.process != os.getpid() or not loaded:
            self.prepare(reports.line, needs or Needs())
        return self._engine

    def prepare(self, say: Callable[[str], None], needs: Needs) -> float:
        """Make what `engine` returns, with all that is needed loaded.

        Parameters
        ----------
        say : callable
            What is told a line where something has to be compiled.
        needs : Needs
            What is to be loaded.

        Returns
        -------
        float
            The seconds that compiling took, 0 for none.
        """
        engine = self._made()
        if needs in self._loaded:
            return 0.0
        seconds = load_kernels(engine, say, needs)
        self._loaded.add(needs)
        return seconds

    def _made(self) -> Any:
        """What runs this network in this process, with nothing compiled."""
        with _making:  # or two threads would each make one, and train at once
            if self._engine is None or self._engine.process != os.getpid():
                self._engine = backends.engine(self.device, self.precision)(
                    self.network, self._parameters, self.threads, self.precision
                )
                self._loaded = set()
        return self._engine

    def blocks(self, n: int) -> Iterable[slice]:
        """Slices of n rows, each the work of a moment."""
        rows = min(max(1, FORWARD_BLOCK // self.engine().multiply_adds), FORWARD_ROWS)
        return (slice(start, min(start + rows, n)) for start in range(0, n, rows))

    def explain(self, rows: int) -> str:
        """How a training step is made. Nothing is compiled.

        Parameters
        ----------
        rows : int
            The rows of the batch, at least 1.

        Returns
        -------
        str
            Phases and their tiles, or a GPU's launches, in the words of kernels/engine/README.md.

        Raises
        ------
        ValueError
            For `rows` that is no integer of at least 1.
        """
        check_count("rows", rows)
        return str(self._made().explain(rows))

    def summary(self) -> None:
        """Print the network as a table: per layer its widths, activation and number of parameters."""
        stages = self.network.stages
        names = [stage.layer.activation for stage in stages[:-1]] + [self.output]
        if self.norm:  # of each hidden layer the activation follows that
            names[:-1] = [name for each in self.activations for name in ("", f"{self.norm} norm, {each}")]
        width = max(10, *map(len, names))
        print(f"{'layer':>5}  {'inputs':>7}  {'outputs':>7}  {'activation':<{width}}  {'parameters':>11}")
        for n, (stage, name) in enumerate(zip(stages, names, strict=True), 1):
            size = (stage.w_rows + stage.layer.bias) * stage.outputs
            print(f"{n:>5}  {stage.inputs:>7,}  {stage.outputs:>7,}  {name:<{width}}  {size:>11,}")
        biases = "" if self.bias else ", no biases"
        products = "" if self.precision == "float32" else f", products in {self.precision}"
        print(f"{self.n_parameters:,} parameters in {self.dtype}{biases}{products}, on the {self.device}")
        if any(self.dropout):
            print(f"dropout of hidden layers: {', '.join(f'{rate:g}' for rate in self.dropout)}")

    def save(self, path: str | PathLike[str], *, allow_nan: bool = False) -> None:
        """Write the model to a file, whole or not at all.

        Parameters
        ----------
        path : str or path-like
            A .npz or .safetensors file. The latter needs the extra `recipes`.
        allow_nan : bool
            Whether weights and biases may be NaN or infinite.

        Raises
        ------
        ValueError
            For another suffix, and for parameters that are NaN or infinite, unless allow_nan is True.
        ImportError
            For .safetensors without the package safetensors.
        OSError
            Where the file cannot be written.
        """
        arrays = self.named_arrays
        for name, array in arrays.items():
            if not (allow_nan or np.isfinite(array).all()):
                got = f"{array[~np.isfinite(array)][0]} in {name}"
                raise ValueError(
                    f"parameters must be finite to be saved, or pass allow_nan=True to save them, got {got}"
                )
        architecture = {
            "layers": self.layers, "activations": self.activations, "output": self.output, "bias": self.bias,
            "dtype": self.dtype, "dropout": self.dropout, "precision": self.precision, "norm": self.norm,
        }  # fmt: skip
        formats.save_arrays(path, arrays, {"architecture": architecture, "user": self.metadata})

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
        parts += [f"norm={self.norm!r}"] if self.norm else []
        parts.append(f"dtype={self.dtype!r}")
        parts += [] if self.precision == "float32" else [f"precision={self.precision!r}"]
        return f"MLP({', '.join(parts)})"
