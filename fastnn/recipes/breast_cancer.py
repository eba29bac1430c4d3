"""Breast cancer: which initialisation, which optimiser, and why the columns are standardised first.

A network of 30-32-16-1 tells malignant from benign tumours on scikit-learn's 569 rows of 30 measurements. As in the
article, weights start naively, with Xavier's or with He's variance; the article's outlook, "better with preprocessing,
Adam or SGD", is tried in all combinations. The best way by the textbook (He for ReLU, Adam, standardised columns) was
chosen beforehand and is the one that is reported in full and timed beside PyTorch.
"""

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import plots
from fastnn.history import History
from fastnn.recipes import console, options
from fastnn.tables import data

LAYERS = [30, 32, 16, 1]
EPOCHS, BATCH_SIZE, HELD_OUT = 50, 32, 0.2
INITS: dict[str, Any] = {"naive": ("normal", 1.0), "Xavier": "xavier", "He": "he"}
OPTIMIZERS: dict[str, fastnn.SGD | fastnn.Adam] = {"SGD": fastnn.SGD(0.1), "Adam": fastnn.Adam(0.001)}
INPUTS = ("raw", "standardised")
CHOSEN = ("standardised", "Adam", "He")

Rows = tuple[np.ndarray, np.ndarray]


def split(seed: int) -> dict[str, tuple[Rows, Rows]]:
    """Raw and standardised: (X, y) to train on and (X, y) held out, the classes in proportion; y is 1 for malignant."""
    rows = data.load("breast-cancer")
    X, y = np.asarray(rows.inputs), np.asarray(rows.target) == "malignant"
    train, test = rows.split(HELD_OUT, y, seed)
    mean, deviation = X[train].mean(axis=0), X[train].std(axis=0)
    scaled = (X - mean) / deviation
    return {name: ((Z[train], y[train]), (Z[test], y[test])) for name, Z in zip(INPUTS, (X, scaled), strict=True)}


def train(
    rows: tuple[Rows, Rows], optimizer: str, init: str, seed: int, threads: int | None = None
) -> tuple[fastnn.MLP, History]:
    """A trained network and its history, the rows held out measured after each epoch."""
    net = fastnn.MLP(LAYERS, activation="relu", output="sigmoid", init=INITS[init], seed=seed, threads=threads)
    console.prepare(net, *rows[0], OPTIMIZERS[optimizer])
    history = net.fit(
        *rows[0],
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        optimizer=OPTIMIZERS[optimizer],
        validation_data=rows[1],
        callbacks=[console.Watch(f"{optimizer}, {init}", EPOCHS)],
        progress=False,
    )
    return net, console.finished(history)


def main(argv: Sequence[str]) -> int | None:
    """Run the recipe."""
    parser = options.parser("breast-cancer", "Compare initialisations, optimisers and inputs on breast cancer data.")
    args = parser.parse_args(argv)
    options.check(args)

    rows = split(args.seed)
    (_, y), (X_test, y_test) = rows[CHOSEN[0]]
    print(f"Breast cancer: {len(y)} rows to train on, {len(y_test)} held out; 30-32-16-1, ReLU and sigmoid")
    how = "SGD at rate 0.1, Adam at 0.001; naive: normal(0, 1)"
    print(f"{EPOCHS} epochs in batches of {BATCH_SIZE}; {how}", flush=True)

    runs = {
        (inputs, optimizer, init): train(rows[inputs], optimizer, init, args.seed, args.threads)
        for inputs, optimizer, init in itertools.product(INPUTS, OPTIMIZERS, INITS)
    }
    histories = {key: history for key, (_, history) in runs.items()}
    for inputs in INPUTS:
        console.heading(f"{inputs.capitalize()} inputs: loss over the epochs, and what came of it on the rows held out")
        for optimizer, init in itertools.product(OPTIMIZERS, INITS):
            history = histories[inputs, optimizer, init]
            console.line(
                f"{optimizer:<5}{init}",
                f"{history.loss[0]:9.3g} {console.curve(history.loss, 25)} {history.loss[-1]:<8.3g}"
                f"  loss {history.val_loss[-1]:<8.3g} accuracy {console.percent(history.val_accuracy[-1])}",
            )

    net, history = runs[CHOSEN]
    console.heading("Standardised, Adam, He: the rows held out")
    predicted = net.predict(X_test)[:, 0] > 0.5
    print(report(y_test, predicted))
    console.line("accuracy", f"{console.percent((predicted == y_test).mean())} of {len(y_test)} rows")

    console.heading(f"Time for {EPOCHS} epochs, each with its validation")
    total = sum(history.seconds for history in histories.values())
    console.line("fastnn", f"{history.seconds:.3f} s, {console.threads(history)}; all {len(runs)} runs: {total:.2f} s")
    try:
        seconds, accuracy = time_torch(rows[CHOSEN[0]], args.seed, history.threads)
        ratio = f"{seconds / history.seconds:.1f} times fastnn's time"
        console.line("PyTorch", f"{seconds:.3f} s on as many: {ratio}; accuracy {console.percent(accuracy)}")
    except ImportError as error:
        console.line("PyTorch", f"not timed: {error}")

    if args.metrics:
        options.write_metrics(args.metrics, {" ".join(key): history for key, history in histories.items()})
        console.line("written", args.metrics)
    if args.plot:
        for path in draw(Path(args.plot), histories):
            console.line("written", str(path))
    return None


def report(y: np.ndarray, predicted: np.ndarray) -> str:
    """The classification report: precision, recall and F1 of each class."""
    lines = [f"  {'':<11}{'precision':>10}{'recall':>10}{'F1':>10}{'rows':>8}"]
    for name, value in (("malignant", True), ("benign", False)):
        hits = int(((y == value) & (predicted == value)).sum())
        precision, recall = hits / max(1, (predicted == value).sum()), hits / max(1, (y == value).sum())
        f1 = 2 * precision * recall / max(precision + recall, 1e-12)
        lines.append(f"  {name:<11}{precision:10.3f}{recall:10.3f}{f1:10.3f}{(y == value).sum():8d}")
    return "\n".join(lines)


def time_torch(rows: tuple[Rows, Rows], seed: int, threads: int) -> tuple[float, float]:
    """Seconds in PyTorch, written as its tutorials do, and the accuracy. Raises ImportError without PyTorch."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"PyTorch cannot be imported ({error})") from None
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    (X, y), (X_test, y_test) = (
        (torch.tensor(X, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]) for X, y in rows
    )
    model = torch.nn.Sequential()
    for n, (inputs, outputs) in enumerate(itertools.pairwise(LAYERS)):
        model.extend([torch.nn.ReLU()] if n else [])
        model.append(torch.nn.Linear(inputs, outputs))
        torch.nn.init.kaiming_normal_(model[-1].weight, nonlinearity="relu")
    loss = torch.nn.BCEWithLogitsLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def step(batch: Any) -> None:
        optimizer.zero_grad()
        loss(model(X[batch]), y[batch]).backward()
        optimizer.step()

    step(slice(BATCH_SIZE))  # the first one starts PyTorch
    start = time.perf_counter()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(X)).split(BATCH_SIZE):
            step(batch)
        with torch.no_grad():
            accuracy = ((model(X_test) > 0) == (y_test > 0.5)).float().mean().item()
    return time.perf_counter() - start, accuracy


def draw(folder: Path, histories: dict[tuple[str, str, str], History]) -> list[Path]:
    """Loss and accuracy over the epochs, a frame for each kind of inputs and optimiser: the files written."""
    written = []
    for name in ("loss", "accuracy"):
        panels = []
        for inputs in INPUTS:
            row = []
            for optimizer in OPTIMIZERS:
                values = {init: histories[inputs, optimizer, init].metrics[f"val_{name}"] for init in INITS}
                lines = {init: (range(1, EPOCHS + 1), value) for init, value in values.items()}
                row.append((f"{inputs.capitalize()} inputs, {optimizer}", lines))
            panels.append(row)
        path = folder / f"breast-cancer-{name}.png"
        log = "y" if name == "loss" else ""
        written.append(plots.curve_grid(path, panels, "epoch", f"{name}, held out", log=log))
    return written
