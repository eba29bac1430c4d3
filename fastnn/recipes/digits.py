"""Handwritten digits: a deep network that does not learn, and what mends it, step by step.

The article's network has four hidden layers of ReLU and 20x20 pixels; it was given up after five minutes without
learning anything and then mended, in four steps that are repeated here in their order. Each step keeps what the steps
before it changed. All of them descend in batches of 32 at a rate that falls from 0.2 to 0 along a cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import plots
from fastnn.history import History
from fastnn.recipes import console, options
from fastnn.schedules import CosineDecay
from fastnn.tables import data
from fastnn.tables.table import DataError

EPOCHS, BATCH_SIZE, RATE = 30, 32, 0.2
MNIST_TRAIN = 5000  # as many as the article had; all others are held out
HELD_OUT = 0.2  # of scikit-learn's digits
N_SHOWN, N_DRAWN = 4, 12  # wrong digits on the terminal, and in the picture


@dataclass(frozen=True)
class Step:
    """One of the article's steps."""

    name: str
    what: str
    init: Any
    hidden: Sequence[int]
    output: str
    l2: float


WIDE, NARROW = (300, 300, 300, 300), (200, 100, 50, 50)
STEPS = (
    Step(
        "naive", "initial weights from normal(0, 0.01): the gradient vanishes", ("normal", 0.01), WIDE, "softmax", 0.03
    ),
    Step("He", "initial weights with He's variance, 2 / inputs", "he", WIDE, "softmax", 0.03),
    Step("fewer weights", "narrower layers", "he", NARROW, "softmax", 0.03),
    Step("no softmax", "sigmoid outputs, a tenth of the L2 penalty", "he", NARROW, "sigmoid", 0.003),
)


@dataclass(frozen=True)
class Digits:
    """Images (n, side * side) with values from 0 to 1 and their labels (n,), to train on and held out."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    side: int


@dataclass(frozen=True)
class Outcome:
    """What became of a step: gradient norms per layer before training, and after it the accuracy held out."""

    net: fastnn.MLP
    norms: list[float]
    history: History
    seconds: list[float]
    accuracy: float


def load(folder: str | None, seed: int) -> Digits:
    """scikit-learn's digits of 8x8 pixels, or those in a folder of MNIST's IDX files, cropped to their 20x20 pixels."""
    if folder is None:
        rows = data.load("digits")
        pixels, side, n_train = np.asarray(rows.inputs) / 16, 8, round((1 - HELD_OUT) * len(rows))
    else:
        rows = data.load(folder)
        images = np.asarray(rows.inputs)
        if images.shape[1:] != (784,) or rows.target is None or len(rows) <= MNIST_TRAIN:
            raise DataError(f"{folder}: expected more than {MNIST_TRAIN} images of 28x28 pixels and their labels")
        cropped = images.reshape(-1, 28, 28)[:, 4:24, 4:24].reshape(-1, 400)
        pixels, side, n_train = cropped / np.float32(255), 20, MNIST_TRAIN
    order = np.random.default_rng(seed).permutation(len(rows))
    train, test = order[:n_train], order[n_train:]
    labels = np.asarray(rows.target).astype(np.int64)
    return Digits(pixels[train].astype(np.float32), labels[train], pixels[test].astype(np.float32), labels[test], side)


def run(step: Step, digits: Digits, seed: int, threads: int | None = None) -> Outcome:
    """Look at the gradients of a new network, and train it."""
    layers = [digits.side**2, *step.hidden, 10]
    net = fastnn.MLP(layers, activation="relu", output=step.output, init=step.init, seed=seed, threads=threads)
    optimizer = fastnn.SGD(CosineDecay(RATE, steps=EPOCHS * -(-len(digits.X) // BATCH_SIZE)))
    console.prepare(net, digits.X, digits.y, optimizer)
    watch = console.Watch(step.name, EPOCHS)
    _, dws, dbs, _ = net.loss_and_gradients(digits.X, digits.y)
    norms = [float(np.hypot(np.linalg.norm(dw), np.linalg.norm(db))) for dw, db in zip(dws, dbs, strict=True)]
    history = net.fit(
        digits.X,
        digits.y,
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        optimizer=optimizer,
        l2=step.l2,
        callbacks=[watch],
        progress=False,
    )
    accuracy = net.evaluate(digits.X_test, digits.y_test)["accuracy"]
    return Outcome(net, norms, console.finished(history), watch.seconds, accuracy)


def main(argv: Sequence[str]) -> int | None:
    """Run the recipe."""
    parser = options.parser("digits", "Mend a deep network that does not learn, on handwritten digits.")
    parser.add_argument("--data", metavar="DIR", help="a folder of MNIST's IDX files (default: scikit-learn's digits)")
    args = parser.parse_args(argv)
    options.check(args)

    digits = load(args.data, args.seed)
    counts = f"{len(digits.y):,} to train on, {len(digits.y_test):,} held out"
    print(f"Handwritten digits, {args.data or 'from scikit-learn'}: {digits.side}x{digits.side} pixels, {counts}")
    print(f"Four hidden layers of ReLU, {EPOCHS} epochs of gradient descent in batches of {BATCH_SIZE}, float32")
    outcomes = {}
    for number, step in enumerate(STEPS, 1):
        console.heading(f"{number}  {step.name}: {step.what}")
        outcomes[step.name] = outcome = run(step, digits, args.seed, args.threads)
        tell(step, outcome)

    last = outcomes[STEPS[-1].name]
    total = sum(outcome.history.seconds for outcome in outcomes.values())
    console.heading(f"All four steps took {total:.1f} s of training, on {console.threads(last.history)}")
    outputs = last.net.predict(digits.X_test)
    wrong = np.flatnonzero(outputs.argmax(axis=1) != digits.y_test)
    if len(wrong):
        show(digits, outputs, wrong)
    if args.metrics:
        options.write_metrics(args.metrics, {name: outcome.history for name, outcome in outcomes.items()})
        console.line("written", args.metrics)
    if args.plot:
        for path in draw(Path(args.plot), digits, outcomes, outputs, wrong):
            console.line("written", str(path))
    return None


def tell(step: Step, outcome: Outcome) -> None:
    """Print what became of a step."""
    net, history = outcome.net, outcome.history
    layers = "-".join(map(str, net.layers))
    console.line("network", f"{layers}, {net.n_parameters:,} parameters, {step.output} outputs, L2 {step.l2}")
    norms = "  ".join(f"{console.on_log_scale(norm, 1e-5, 10)} {norm:.0e}" for norm in outcome.norms)
    console.line("gradients", f"{norms}   norm per layer, first to last, before training")
    console.line("cost", f"{history.loss[0]:.2f} {console.curve(history.loss, EPOCHS)} {history.loss[-1]:.2f}")
    accuracy = f"{console.percent(outcome.accuracy)} held out, {console.percent(history.accuracy[-1])} trained"
    console.line("accuracy", f"{accuracy}, after {history.seconds:.2f} s")


def show(digits: Digits, outputs: np.ndarray, wrong: np.ndarray) -> None:
    """Print the first wrong digits side by side."""
    shown = wrong[:N_SHOWN]
    images = [console.image(digits.X_test[row].reshape(digits.side, digits.side)) for row in shown]
    width = len(images[0][0]) + 2
    print(f"  {len(wrong)} of {len(outputs):,} digits held out are read wrong, as these:\n")
    for texts in zip(*images, strict=True):
        print("  " + "".join(f"{text:<{width}}" for text in texts).rstrip())
    captions = [f"{digits.y_test[row]}, read as {outputs[row].argmax()}" for row in shown]
    print("  " + "".join(f"{caption:<{width}}" for caption in captions).rstrip() + "\n")


def draw(
    folder: Path, digits: Digits, outcomes: dict[str, Outcome], outputs: np.ndarray, wrong: np.ndarray
) -> list[Path]:
    """The cost over the seconds, the gradient norms and the first wrong digits: the files written."""
    curves = [
        (f"{number}  {step.name}", {"cost": (outcomes[step.name].seconds, outcomes[step.name].history.loss)})
        for number, step in enumerate(STEPS, 1)
    ]
    norms = {name: outcome.norms for name, outcome in outcomes.items()}
    images = digits.X_test[wrong[:N_DRAWN]].reshape(-1, digits.side, digits.side)
    titles = [f"{digits.y_test[row]}, read as {outputs[row].argmax()}" for row in wrong[:N_DRAWN]]
    written = [
        plots.curve_grid(
            folder / "digits-cost.png", [curves[:2], curves[2:]], "seconds", "cost, with the L2 penalty", log="y"
        ),
        plots.gradient_norms(folder / "digits-gradients.png", norms, "Gradients before training"),
    ]
    if len(wrong):
        written.append(plots.images(folder / "digits-wrong.png", images, titles))
    return written
