"""MLP: a dense network, its parameters, what it predicts and what it can learn."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import inputs, optimizers
from fastnn.callbacks import Callback
from fastnn.history import History
from fastnn.inputs import architectures
from fastnn.inputs.arguments import FitOptions
from fastnn.inputs.data import Data
from fastnn.network.base import Model
from fastnn.network.folding import fold
from fastnn.training import evaluation
from fastnn.training import fit as training
from kernels.declarations.ranges import check_number
from kernels.engine.requests import Needs
from kernels.losses import LossChoice

if TYPE_CHECKING:
    from fastnn.profile import Profile


@functools.cache
def _for_outputs(dtype: np.dtype) -> Needs:
    """What `predict` needs for X of this dtype. Made once, not for every row."""
    return Needs(gathered=(dtype, None, None), outputs=True)


class MLP(Model):
    """A dense network: layers of x @ w + b, an activation after each hidden one, an output activation at the end.

    Parameters
    ----------
    layers : sequence of int
        The widths of input, hidden layers and output.
    activation : str or sequence of str
        The hidden layers' activation, one name or one per layer (docs/activations.md).
    output : str
        The output activation: "softmax" (classes), "sigmoid" (one or several yes/no labels), "identity" (numbers) or
        "exp" (counts).
    dropout : float or sequence of float
        The share of a hidden layer's outputs that is 0 in a training step while the others grow to make up for it, one
        rate in [0, 1) or one per layer. What is not training drops nothing.
    bias : bool
        Whether layers have biases.
    norm : str, optional
        What normalises each hidden layer between its product and its activation. "layer" takes each row's mean and
        variance over its columns. "batch" takes each column's over the rows of a training step, and running ones, which
        steps move by a tenth towards theirs, wherever nothing is learnt. Either is scaled by `gamma` and shifted by
        `beta` of `norms`, which are learnt, and neither decayed nor in the l2 term. It needs device "cpu".
    init : str or tuple
        How the first weights are drawn: "auto" (he for the ReLU family, xavier otherwise), a name of
        fastnn.initializers, or ("normal", scale).
    dtype : str
        That of the parameters, "float32" or "float64".
    device : str
        "cpu", "cuda" (an NVIDIA GPU; needs the extra `cuda`), or "auto", the GPU where one can be used.
    precision : str
        To what the products of a float32 network round their factors. "float32" is not at all; a CPU with AMX makes
        large products of three parts of each factor, which is no less exact. "bf16" is to 8 significant bits, on a
        GPU's tensor cores or a CPU with AVX512-BF16; it is faster with AMX and from some 16 rows on. "tf32" is to 11,
        on tensor cores alone. Sums, parameters and the optimiser's state stay float32. On the CPU layers of fewer than
        4096 weights, or 8 inputs or outputs, do too.
    threads : int, optional
        The most threads that run it, by default NUMBA_NUM_THREADS or all cores. The bits are the same with any number.
    seed : int, optional
        That of the initial weights, the shuffling, the split-off of validation rows and dropout.

    Raises
    ------
    TypeError, ValueError
        Naming the argument that is wrong.
    ImportError, RuntimeError
        For device "cuda", naming what is missing.
    """

    @classmethod
    def from_architecture(cls, architecture: Sequence[Mapping[str, Any]], **options: Any) -> "MLP":
        """A network from the articles' form.

        Parameters
        ----------
        architecture : sequence of mappings
            {"input_dim": 2, "output_dim": 25, "activation": "relu"} for each layer, of which the last activation is the
            output's. A hidden layer may have a "dropout".
        **options
            Those of MLP.

        Returns
        -------
        MLP
            A new network.

        Raises
        ------
        TypeError, ValueError
            Naming the layer or the option that is wrong.
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

        Parameters
        ----------
        X : array-like (n, inputs)
            Numbers of up to 64 bits in any byte order and strides, a memory map too. They are converted batch by batch,
            never copied whole. A model on a GPU also takes arrays there (CuPy's, PyTorch's), X and y without a copy if
            they are in C order.
        y : array-like (n,) or (n, outputs)
            Integer labels (n,), one-hot rows or probabilities (n, outputs), several labels, or numbers. Integers are
            read where they lie.
        epochs : int
            How often all rows are gone through.
        batch_size : int
            The rows of a step.
        optimizer : Optimizer or str
            An optimiser, or the name of one with its defaults (docs/optimizers.md).
        loss : str or tuple, optional
            By default that of the output: cross-entropy for softmax and sigmoid, poisson for exp, else
            mean_squared_error. sum_squared_error is the articles'. Others, one of your own (fastnn.Loss) among them, go
            by their names, or with their parameter as in ("softmax_cross_entropy", 0.1), which smooths labels
            (docs/losses.md). A name that is none lists all.
        l2 : float
            Adds 1/2 * l2 * sum(w^2) to the loss, biases excepted.
        shuffle : bool
            Whether each epoch draws a new order of the rows: four bytes a row, six more for a while where they are over
            two million.
        validation_data : tuple, optional
            (X, y) or (X, y, weights), on which `evaluate` measures after each epoch.
        validation_split : float
            The fraction of rows, drawn at random, that is held out. They keep their sample_weight.
        sample_weight : array-like (n,), optional
            The weights of the rows, each at least 0. One below 1e-32 of the largest counts as zero.
        class_weight : mapping, "balanced" or None
            {label: weight}, or weights that make all classes weigh the same; for labels and one-hot rows.
        callbacks : iterable of Callback
            What is told of epochs and slices of steps.
        progress : bool, optional
            None shows a bar in a terminal or notebook and lines elsewhere, True a bar, False nothing.
        stop_if_diverged : bool
            Whether training ends where its loss or parameters are not finite.

        Returns
        -------
        History
            What was measured in each epoch, and how long it took.

        Raises
        ------
        TypeError, ValueError
            With the model unchanged, for input that does not fit, and for a schedule that is wrong in its first million
            steps. At a later step the schedule's error ends training; the model keeps what it has learnt.

        Warns
        -----
        RuntimeWarning
            After the first slice of steps whose loss or parameters are not finite, with which training ends. The model
            gets the parameters from the end of the epoch before, or those it had. The last epoch in the history is the
            one that was not finite, and `diverged` is True. Its loss, in the callbacks' logs too, is NaN if the
            parameters alone were lost.
        UserWarning
            After Ctrl-C, which ends training. The history so far is returned, its `interrupted` True. A step that would
            take longer is given up: some of its weights may have been updated, each by its whole gradient.
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
        """Make one step on all rows of X.

        Calls in a row with equal optimisers share its state: they are the steps of one training. Another optimiser
        starts with fresh state, and so does the first call after `fit`.

        Parameters
        ----------
        X, y, optimizer, loss, l2, sample_weight
            As for `fit`.

        Returns
        -------
        dict of str to float
            "loss" and "accuracy" from before the step; no accuracy for identity and exp outputs.

        Raises
        ------
        TypeError, ValueError
            With the model unchanged, for input that does not fit.
        """
        return training.train_on_batch(self, X, y, optimizer, loss, l2, sample_weight)

    def predict(self, X: Any) -> Any:
        """The network's outputs.

        Parameters
        ----------
        X : array-like (n, inputs)
            Numbers as for `fit`. There may be no rows.

        Returns
        -------
        ndarray (n, outputs) of the model's dtype
            Probabilities for softmax and sigmoid. NaN in a row stays in that row. On a CPU with AMX the last bits of a
            row may be others among many rows than alone: see `precision` of MLP. For X on a GPU it is an array of
            numba-cuda, which is there too.

        Raises
        ------
        TypeError, ValueError
            For X that does not fit, and for a network of `fastnn train` that takes rows that have been prepared.
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
        """The loss and the metrics on these rows.

        Parameters
        ----------
        X, y, loss
            As for `fit`.
        sample_weight : array-like (n,), optional
            What a row counts in all of them, each at least 0.

        Returns
        -------
        dict of str to float
            "loss", without the l2 term, and "accuracy", or "r2" for identity and exp outputs.

        Raises
        ------
        TypeError, ValueError
            For input that does not fit.
        """
        data = Data.checked(self, X, y, loss, sample_weight)
        self.engine(data.needs(outputs=data.target.metric is None))
        request = evaluation.EvaluateRequest(data.X, data.target, data.loss, weight=data.weight)
        return evaluation.measure(self, request)

    def loss_and_gradients(
        self, X: Any, y: Any, *, loss: LossChoice | None = None, l2: float = 0.0, sample_weight: Any = None
    ) -> tuple[float, list[np.ndarray], list[np.ndarray], np.ndarray]:
        """Backpropagation for its own sake, without dropout and without an update.

        Parameters
        ----------
        X, y, loss, l2, sample_weight
            As for `fit`.

        Returns
        -------
        loss : float
            The loss with the l2 term.
        dw : list of ndarray (inputs, outputs)
            Its gradient with respect to `weights`.
        db : list of ndarray (outputs,)
            Its gradient with respect to `biases`.
        dX : ndarray (n, inputs)
            Its gradient with respect to X. All are of the model's dtype.

        Raises
        ------
        TypeError, ValueError
            For input that does not fit.
        """
        data = Data.checked(self, X, y, loss, sample_weight)
        check_number("l2", l2, 0)
        n = len(data.X)
        (scale,) = data.scales(data.mass(None, n))
        value, gradient, dx = self.engine(data.needs(rows=n, gradients=True)).gradients(
            data.X, data.target.values, weight=data.weight, scale=scale, loss=data.loss, l2=l2
        )
        return value, self.layout.weights(gradient), self.layout.biases(gradient), dx

    def folded(self) -> "MLP":
        """The same function without normalisation: each is made a part of the dense layer before it.

        Returns
        -------
        MLP
            A new network without `norm`, whose `predict` gives the same up to rounding. It has biases. Of a network
            without normalisation it is a copy.

        Raises
        ------
        ValueError
            With norm "layer", which goes by each row's own mean and variance.
        """
        net = MLP(
            self.layers, self.activations, self.output, dropout=self.dropout, bias=self.bias or bool(self.norm),
            init="zeros", dtype=self.dtype, device=self.device, precision=self.precision, threads=self.threads,
            seed=self.seed,
        )  # fmt: skip
        fold(self, net)
        net.metadata = {**self.metadata}
        return net

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
        """Where the time of a training step goes, layer by layer and phase by phase.

        The first steps of a `fit` are made, on a copy of the parameters, for about a second. The model stays as it is.

        Parameters
        ----------
        X, y, batch_size, optimizer, loss, l2, shuffle, sample_weight, class_weight
            As for `fit`.

        Returns
        -------
        Profile
            Print it for a table. Time is set against the roofline: the least that the phase's operations or its bytes
            could take, by peaks measured in between on as many threads.

        Raises
        ------
        TypeError, ValueError
            For input that does not fit, and ValueError for a model on a GPU.

        References
        ----------
        Williams, Waterman & Patterson 2009, "Roofline: an insightful visual performance model for multicore
        architectures".
        """
        from fastnn.profile import profile

        return profile(
            self, X, y, batch_size=batch_size, optimizer=optimizer, loss=loss, l2=l2, shuffle=shuffle,
            sample_weight=sample_weight, class_weight=class_weight,
        )  # fmt: skip
