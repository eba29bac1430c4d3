"""Exclusive or: the smallest network that needs its hidden layer.

The system is that of James Loy's article "How to build your own neural network from scratch in Python": two layers of
sigmoids without biases, the sum of squared errors, 1500 iterations over the whole truth table, rate 1. The third input
is always 1 and stands in for the bias; the initial weights are uniform between 0 and 1.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fastnn
from fastnn import plots
from fastnn.history import History
from fastnn.recipes import console, options

INPUTS = np.array([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
TRUTHS = {"xor": [0, 1, 1, 0], "nand": [1, 1, 1, 0]}
ITERATIONS = 1500


def train(truth: str, seed: int, threads: int | None = None) -> tuple[fastnn.MLP, History]:
    """A network that has learnt this truth table, and how its loss fell."""
    net = fastnn.MLP([3, 4, 1], activation="sigmoid", output="sigmoid", bias=False, seed=seed, threads=threads)
    for w in net.weights:
        w[...] = net.random.random(w.shape)
    y, optimizer, loss = np.array(TRUTHS[truth]), fastnn.SGD(learning_rate=1.0), "sum_squared_error"
    console.prepare(net, INPUTS, y, optimizer, loss)
    history = net.fit(
        INPUTS,
        y,
        epochs=ITERATIONS,
        batch_size=len(INPUTS),
        optimizer=optimizer,
        loss=loss,
        shuffle=False,
        callbacks=[console.Watch(truth, ITERATIONS)],
        progress=False,
    )
    return net, console.finished(history)


def main(argv: Sequence[str]) -> int | None:
    """Run the recipe."""
    parser = options.parser("xor", "Learn the truth table of a gate.")
    parser.add_argument("--truth", choices=[*TRUTHS], default="xor", help="the gate (default xor)")
    args = parser.parse_args(argv)
    options.check(args)

    print(f"The truth table of {args.truth}, learnt by two layers of sigmoids, 3-4-1, without biases", flush=True)
    net, history = train(args.truth, args.seed, args.threads)
    outputs, expected = net.predict(INPUTS)[:, 0], TRUTHS[args.truth]

    console.heading("Sum of squared errors")
    console.line("loss", f"{history.loss[0]:.3f} {console.curve(history.loss)} {history.loss[-1]:.5f}")
    rises = int((np.diff(history.loss) > 0).sum())
    console.line("falling", "in every iteration" if rises == 0 else f"but for {rises} of the iterations")
    seconds = f"{history.seconds:.2f} s, {console.threads(history)}"
    console.line("training", f"{history.epochs:,} iterations in {seconds}")

    console.heading(f"a  b   {args.truth:<6}predicted")
    for (a, b, _), truth, output in zip(INPUTS, expected, outputs, strict=True):
        print(f"{a}  {b}   {truth:<6}{output:.3f}")
    error = np.abs(outputs - expected).max()
    print(f"the largest error is {error:.3f}")

    if args.metrics:
        options.write_metrics(args.metrics, {args.truth: history})
        console.line("written", args.metrics)
    if args.plot:
        steps = range(1, history.epochs + 1)
        title = f"Learning {args.truth}: the loss over {history.epochs:,} iterations"
        path = Path(args.plot) / f"{args.truth}.png"
        lines = {"loss": (steps, history.loss)}
        plots.curves(path, lines, "iteration", "sum of squared errors", title=title, log="y")
        console.line("written", str(path))
    return None
