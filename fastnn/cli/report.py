"""What `fastnn train` and `fastnn evaluate` print: a label and what there is to say, on a line."""

from __future__ import annotations

import shlex
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from fastnn.history import History
from fastnn.optimizers import Optimizer
from fastnn.tables.data import Dataset
from fastnn.tables.preprocessing import Preprocessing
from fastnn.tables.table import Table, quoted
from fastnn.tables.targets import Target
from kernels.losses import loss_and_parameter


def describe(
    args: Namespace,
    data: Dataset,
    target: Target,
    preprocessing: Preprocessing,
    model: Any,
    optimizer: Optimizer,
    validates: bool,
) -> None:
    """What is about to be learnt, from what and with what."""
    n_columns, n_texts = len(preprocessing.names), len(preprocessing.categories)
    columns = f"{n_columns - n_texts:,} of numbers" + (f", {n_texts:,} of text" if n_texts else "")
    line("data", f"{data.source}: {len(data):,} rows, {n_columns:,} columns ({columns})")
    task = f"{target.task} of '{target.name}'"
    if target.classes:
        task += f", {len(target.classes)} classes: {quoted(target.class_names, 10)}"
        task += " (--task regression if these are quantities)" if args.task == "auto" and not target.text else ""
    line("task", task)
    if (preprocessing.scale == 255).all():
        scaled = "bytes divided by 255"
    elif data.memory_mapped:
        scaled = "memory-mapped, taken as they are"
    else:
        scaled = "numbers as they are" if args.no_scaling else "numbers standardised"
    line("inputs", f"{preprocessing.n_inputs:,}, {scaled}" + (", text one-hot encoded" if n_texts else ""))
    widths = [*(f"{width} {args.activation}" for width in args.layers), f"{target.n_outputs} {model.output}"]
    more = f", {args.norm} norm" if args.norm else ""
    more += f", dropout {args.dropout:g}" if args.dropout else ""
    more += "" if model.precision == "float32" else f", products in {model.precision}"
    line("network", f"{' -> '.join([str(preprocessing.n_inputs), *widths])}, {model.n_parameters:,} parameters{more}")
    held_out = f"{100 * args.validation:.3g} % of the rows held out" if validates else "no rows held out"
    how = f"batches of {args.batch_size}, {args.optimizer} at {optimizer.learning_rate}"
    declared, parameter = loss_and_parameter(model.metadata["loss"])
    loss = f", {declared.name} {parameter:g}" if parameter else f", {declared.name}" if args.loss else ""
    line("training", f"{held_out}; up to {args.epochs} epochs, {how}{loss}")
    sys.stdout.flush()


def metrics(label: str, values: dict[str, float]) -> None:
    """What was measured."""
    line(label, ", ".join(f"{name} {value:.4g}" for name, value in values.items()))


def speed(history: History, n_rows: int) -> None:
    """How long training took, on how many rows and on what."""
    rate = f"{n_rows * history.epochs / max(history.seconds, 1e-9):,.0f} rows/s"
    compiling = f", and {history.compile_seconds:.1f} s of compiling" if history.compile_seconds >= 0.05 else ""
    on = "on cuda" if history.device == "cuda" else f"on cpu, {history.threads} thread{'s'[: history.threads != 1]}"
    line("speed", f"{history.epochs} epochs in {history.seconds:.3g} s, {rate} {on}{compiling}")


def saved(path: Path, data: Dataset) -> None:
    """Where the model is, and a command that predicts with it."""
    new = "NEW.npy" if data.memory_mapped else shlex.quote(data.source)
    line("saved", str(path))
    line("next", f"fastnn predict {shlex.quote(str(path))} {'NEW.csv' if isinstance(data.inputs, Table) else new}")


def line(label: str, text: str) -> None:
    """A line of the report."""
    print(f"{label:<12}{text}")
