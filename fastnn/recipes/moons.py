"""Two moons: the network of the article "Let's code a neural network in plain NumPy" by Piotr Skalski.

2-25-50-50-25-1 with ReLU and a sigmoid learns to tell two interleaved half circles apart: 1000 points, a tenth of them
held out, 10,000 epochs over all others at once at rate 0.01. The article stopped there because "training took several
dozen times longer" than in Keras. Here, fastnn is timed beside the article's way of writing it, and beside Keras.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import plots
from fastnn.history import History
from fastnn.recipes import console, options, plain_numpy

ARCHITECTURE = [
    {"input_dim": 2, "output_dim": 25, "activation": "relu"},
    {"input_dim": 25, "output_dim": 50, "activation": "relu"},
    {"input_dim": 50, "output_dim": 50, "activation": "relu"},
    {"input_dim": 50, "output_dim": 25, "activation": "relu"},
    {"input_dim": 25, "output_dim": 1, "activation": "sigmoid"},
]
EPOCHS, RATE = 10_000, 0.01
NUMPY_EPOCHS, KERAS_EPOCHS, REPEATS = 200, 50, 3  # that are timed, unless --full
SPLITS = 3
BEST_POSSIBLE = 0.971  # the moons overlap: max(p0, p1) / 2 integrated over the plane, p the densities of the two moons
N_SNAPSHOTS = 80

Split = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Snapshots(fastnn.Callback):
    """Keeps the parameters after some epochs, close together at first and wide apart at the end."""

    def __init__(self, epochs: int) -> None:
        self.epochs = {*np.geomspace(1, epochs, N_SNAPSHOTS).round().astype(int).tolist()}
        self.parameters: dict[int, np.ndarray] = {}

    def on_epoch_end(self, model: fastnn.MLP, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep a copy if it is time."""
        if epoch + 1 in self.epochs:
            self.parameters[epoch + 1] = model.parameters.copy()


def split(seed: int) -> Split:
    """The article's 1000 points, split by `seed`: X_train, X_test, y_train, y_test. Seed 42 is the article's split."""
    try:
        from sklearn.datasets import make_moons
        from sklearn.model_selection import train_test_split
    except ImportError:
        raise ImportError('moons needs scikit-learn: pip install "fastnn-numba[recipes]"') from None
    X, y = make_moons(1000, noise=0.2, random_state=100)
    return train_test_split(X, y, test_size=0.1, random_state=seed)


def train(X: np.ndarray, y: np.ndarray, seed: int, threads: int | None = None) -> tuple[fastnn.MLP, History, Snapshots]:
    """A network that has learnt these points, how that went, and what it was like on the way."""
    net = fastnn.MLP.from_architecture(ARCHITECTURE, seed=seed, threads=threads)
    snapshots, optimizer = Snapshots(EPOCHS), fastnn.SGD(RATE)
    console.prepare(net, X, y, optimizer)
    history = net.fit(
        X,
        y,
        epochs=EPOCHS,
        batch_size=len(X),
        optimizer=optimizer,
        shuffle=False,
        callbacks=[snapshots, console.Watch(f"split {seed}", EPOCHS)],
        progress=False,
    )
    return net, console.finished(history), snapshots


def main(argv: Sequence[str]) -> int | None:
    """Run the recipe."""
    parser = options.parser("moons", "Tell two interleaved half circles apart.", seed=42)
    parser.add_argument("--full", action="store_true", help="run all epochs in NumPy and Keras, too: some minutes")
    args = parser.parse_args(argv)
    options.check(args)

    print("Two moons: 1,000 points with noise 0.2, 100 of them held out; 2-25-50-50-25-1, ReLU and sigmoid")
    print(f"{EPOCHS:,} epochs of full-batch gradient descent on binary cross-entropy, rate {RATE}, float32")

    console.heading("fastnn, on three splits of the points")
    seeds = range(args.seed, args.seed + SPLITS)
    splits = {seed: split(seed) for seed in seeds}
    runs = {seed: train(splits[seed][0], splits[seed][2], seed, args.threads) for seed in seeds}
    accuracies = []
    for seed, (net, history, _) in runs.items():
        accuracies.append(net.evaluate(splits[seed][1], splits[seed][3])["accuracy"])
        result = f"accuracy {console.percent(accuracies[-1])} held out, {console.percent(history.accuracy[-1])} trained"
        curve = f"{history.loss[0]:.2f} {console.curve(history.loss, 20)} {history.loss[-1]:.3f}"
        console.line(f"split {seed}", f"loss {curve}, {result}, {history.seconds:.2f} s")
    console.line("mean", f"accuracy {console.percent(float(np.mean(accuracies)))} held out")
    best = f"the moons overlap: on new points no classifier can exceed {console.percent(BEST_POSSIBLE)} on average"
    console.line("", best)

    histories = [history for _, history, _ in runs.values()]
    compare(splits[args.seed], histories, args.seed, args.full)

    if args.metrics:
        options.write_metrics(args.metrics, {f"split {seed}": history for seed, (_, history, _) in runs.items()})
        console.line("written", args.metrics)
    if args.plot:
        for path in draw(Path(args.plot), splits[args.seed], *runs[args.seed]):
            console.line("written", str(path))
    return None


def compare(points: Split, histories: Sequence[History], seed: int, full: bool) -> None:
    """Print the time that fastnn, plain NumPy and Keras take for all epochs, and their accuracy where they ran them."""
    console.heading(f"Time for {EPOCHS:,} epochs")
    ours = min(history.seconds for history in histories)
    console.line("fastnn", f"{ours:6.1f} s, the fastest of {len(histories)} runs, {console.threads(histories[0])}")
    for name, measure, some in (("NumPy", time_numpy, NUMPY_EPOCHS), ("Keras", time_keras, KERAS_EPOCHS)):
        epochs, times = (EPOCHS, 1) if full else (some, REPEATS)
        try:
            peer = min((measure(points, epochs, seed) for _ in range(times)), key=lambda peer: peer.seconds)
        except ImportError as error:
            console.line(name, f"not timed: {error}")
            continue
        total = peer.seconds * EPOCHS / epochs
        how = f"accuracy {console.percent(peer.accuracy)} held out"
        if not full:
            how = f"extrapolated from the fastest of {REPEATS} runs of {epochs} epochs"
        console.line(name, f"{total:6.1f} s, {total / ours:.1f} times as long; {how}")
        console.line("", f"         {peer.system}")


@dataclass(frozen=True)
class Peer:
    """Another system's time for some epochs in seconds, its accuracy on the points held out, and what it is."""

    seconds: float
    accuracy: float
    system: str


def time_numpy(points: Split, epochs: int, seed: int) -> Peer:
    """Plain NumPy as the article writes it."""
    X, X_test, y, y_test = (array.T if array.ndim == 2 else array[None, :] for array in points)
    start = time.perf_counter()
    parameters, _ = plain_numpy.train(ARCHITECTURE, X, y, epochs, RATE, seed)
    seconds = time.perf_counter() - start
    accuracy = plain_numpy.accuracy(plain_numpy.forward(ARCHITECTURE, parameters, X_test)[0], y_test)
    return Peer(seconds, accuracy, f"NumPy {np.__version__}, float64, as the article writes it")


def time_keras(points: Split, epochs: int, seed: int) -> Peer:
    """Keras, its start and compilation apart. Raises ImportError where it or its backend is missing."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import keras
    except ImportError as error:
        raise ImportError(f"Keras cannot be imported ({error})") from None
    X, X_test, y, y_test = points
    keras.utils.set_random_seed(seed)
    layers: list[Any] = [keras.Input((2,))]
    layers += [keras.layers.Dense(layer["output_dim"], activation=layer["activation"]) for layer in ARCHITECTURE]
    model = keras.Sequential(layers)
    model.compile(loss="binary_crossentropy", optimizer=keras.optimizers.SGD(RATE), metrics=["accuracy"])
    how: dict[str, Any] = {"batch_size": len(X), "shuffle": False, "verbose": 0}
    model.fit(X, y, epochs=2, **how)  # compiles
    start = time.perf_counter()
    model.fit(X, y, epochs=epochs, **how)
    seconds = time.perf_counter() - start
    accuracy = float(model.evaluate(X_test, y_test, verbose=0)[1])
    return Peer(seconds, accuracy, f"Keras {keras.__version__} on {keras.backend.backend()}")


def draw(folder: Path, points: Split, net: fastnn.MLP, history: History, snapshots: Snapshots) -> list[Path]:
    """The boundary at three times and over all of them, loss and accuracy: the files written."""
    X, X_test, y, y_test = points

    def after(epoch: int) -> Callable[[np.ndarray], np.ndarray]:
        def predict(plane: np.ndarray) -> np.ndarray:
            net.parameters[...] = snapshots.parameters[epoch]
            return net.predict(plane)

        return predict

    times = [*snapshots.parameters]
    test: dict[str, list[float]] = {"loss": [], "accuracy": []}
    for epoch in times:
        net.parameters[...] = snapshots.parameters[epoch]
        for name, value in net.evaluate(X_test, y_test).items():
            test[name].append(value)

    frames = [(f"{epoch:,} epoch{'s'[: epoch > 1]}", after(epoch)) for epoch in times]
    shown = dict(frames[i] for i in (0, len(frames) * 3 // 4, -1))
    written = [
        plots.decision_boundary(folder / "moons.png", shown, X, y),
        plots.boundary_animation(folder / "moons.gif", frames, X, y),
    ]
    for name in test:
        train = (range(1, history.epochs + 1), history.metrics[name])
        lines = {"trained on": train, "held out": (times, test[name])}
        path = folder / f"moons-{name}.png"
        written.append(plots.curves(path, lines, "epoch", name, title=f"Two moons: {name}", log="x"))
    return written
