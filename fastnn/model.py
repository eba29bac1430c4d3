"""MLP: a dense network, its parameters, what it predicts and what it can learn."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import inputs, optimizers
from fastnn.callbacks import Callback
from fastnn.history import History
from fastnn.inputs import architectures
from fastnn.network.base import Network
from fastnn.training import evaluation
from fastnn.training import loop as training
from fastnn.training.data import Data
from kernels.engine.requests import Needs
from kernels.losses import LossChoice
from kernels.ranges import check_count, check_number

if TYPE_CHECKING:
    from fastnn.profile import Profile


@functools.cache
def _for_outputs(dtype: np.dtype) -> Needs:
    """What `predict` needs for X of this dtype. Made once: it takes 1 us of the 10 of a row."""
    return Needs(gathered=(dtype, None, None), outputs=True)


class MLP(Network):
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

    @classmethod
    def from_architecture(cls, architecture: Sequence[Mapping[str, Any]], **options: Any) -> "MLP":
        """A network from the articles' form, a list of {"input_dim": 2, "output_dim": 25, "activation": "relu"}.

        The last activation is the output's. A hidden layer may have a "dropout". `options` are those of MLP.
        """
        layers, activations, rates = architectures.chain(architecture)
        return cls(layers, activations[:-1], activations[-1], **{"dropout": rates, **options})

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
        return training.fit(
            self, X, y, epochs, batch_size, optimizer, loss, l2, shuffle, validation_data, validation_split,
            sample_weight, class_weight, callbacks, progress, stop_if_diverged,
        )  # fmt: skip

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
        return evaluation.measure(self, data.X, data.target, data.loss, weight=data.weight)

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
