"""`fastnn train`: load a table, prepare it, train a network on it, measure the network and save it."""

import os
import warnings
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import callbacks, optimizers, plots
from fastnn.cli import arguments, models, report
from fastnn.cli.checks import not_over, targets_of
from fastnn.cli.exits import EXIT_INTERRUPTED
from fastnn.files import formats
from fastnn.history import History
from fastnn.losses import LOSSES, loss_for
from fastnn.tables import baseline
from fastnn.tables.data import Dataset, load
from fastnn.tables.preprocessing import Preprocessing, check_magnitude
from fastnn.tables.table import DataError, Table
from fastnn.tables.targets import Target
from kernels.layers import NORMS
from kernels.losses import names_for


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("data", metavar="DATA", type=arguments.path, help=arguments.DATA_HELP)
    arguments.add_targets(parser)
    _add_data(parser.add_argument_group("data"))
    _add_network(parser.add_argument_group("network"))
    _add_training(parser.add_argument_group("training"))
    _add_output(parser.add_argument_group("output"))


def _add_data(group: Any) -> None:
    group.add_argument("--target", metavar="COLUMN", help="the column of a CSV to predict")
    group.add_argument("--task", choices=["auto", "classification", "regression"], default="auto", help="default auto")
    group.add_argument(
        "--ignore", metavar="COLUMNS", type=arguments.names, default=(), help="columns of a CSV to leave out, a,b"
    )
    group.add_argument(
        "--text", metavar="COLUMNS", type=arguments.names, default=(), help="number columns that are categories"
    )
    group.add_argument("--no-scaling", action="store_true", help="do not standardise numbers nor divide bytes by 255")
    group.add_argument(
        "--validation", metavar="SHARE", type=arguments.share, default=0.1, help="rows held out (default 0.1)"
    )


def _add_network(group: Any) -> None:
    group.add_argument("--layers", type=arguments.widths, default=(64, 64), help="hidden widths (default 64,64)")
    group.add_argument("--activation", default="relu", help="of the hidden layers (default relu)")
    group.add_argument("--norm", choices=NORMS, help="what normalises the hidden layers (default nothing)")
    group.add_argument(
        "--dropout", metavar="SHARE", type=arguments.share, default=0.0, help="of the hidden layers (default 0)"
    )


def _add_training(group: Any) -> None:
    group.add_argument("--epochs", metavar="N", type=arguments.count, default=100, help="default 100")
    group.add_argument("--batch-size", metavar="N", type=arguments.count, default=32, help="default 32")
    group.add_argument(
        "--optimizer",
        metavar="NAME",
        choices=optimizers.known,
        default="adam",
        help=f"one of {', '.join(optimizers.known)} (default adam)",
    )
    group.add_argument(
        "--learning-rate", metavar="R", type=arguments.rate, help="default the optimizer's, 0.001 for adam"
    )
    group.add_argument(
        "--loss",
        metavar="NAME",
        type=arguments.loss,
        help=f"of a regression one of {_forms('identity')}, of classes one of {_forms('softmax')}, the first by "
        "default; errors are in standard deviations where targets are standardised, as they are for losses of any "
        "numbers",
    )
    group.add_argument("--l2", metavar="R", type=arguments.penalty, default=0.0, help="penalty on weights (default 0)")
    group.add_argument(
        "--early-stopping",
        metavar="PATIENCE",
        type=arguments.count,
        help="stop after PATIENCE epochs without a better val_loss",
    )
    group.add_argument("--seed", metavar="N", type=arguments.seed, default=0, help="default 0: the same run each time")
    group.add_argument("--threads", metavar="N", type=arguments.count, help="default: all cores")
    group.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default auto")
    arguments.add_precision(group, "float32")


def _add_output(group: Any) -> None:
    group.add_argument(
        "--output",
        metavar="MODEL",
        type=arguments.path,
        help=".npz or .safetensors (default: DATA's name + .fastnn.npz)",
    )
    group.add_argument(
        "--metrics", metavar="FILE.csv", type=arguments.path, help="write loss and metrics of each epoch"
    )
    group.add_argument("--plot", metavar="DIR", type=arguments.path, help="draw the training curves into this folder")


def _forms(output: str) -> str:
    """The losses that go with these outputs as the command line takes them: NAME, NAME:PARAMETER, or either."""
    forms = []
    for name in names_for(output):
        parameter = LOSSES[name].parameter
        given = "" if parameter is None else f":{parameter.name.upper()}"
        forms.append(f"{name}[{given}]" if parameter is not None and parameter.default is not None else name + given)
    return ", ".join(forms)


@dataclass(frozen=True)
class Rows:
    """The rows to learn from, prepared, and those to validate on.

    X, y: to learn from. held_out: (X, y) to validate on, None for none. share: of X that `fit` is to hold out itself.
    """

    preprocessing: Preprocessing
    X: np.ndarray
    y: np.ndarray
    held_out: tuple[np.ndarray, np.ndarray] | None = None
    share: float = 0.0

    @property
    def validates(self) -> bool:
        """Whether there are rows to validate on."""
        return self.held_out is not None or self.share > 0


def run(args: Namespace) -> int | None:
    """Load, prepare, fit, measure, save, report."""
    output = _model_path(args)
    if args.plot:
        plots.prepare(args.plot)
    data = load(args.data, args.targets, target=args.target, ignore=args.ignore, text_target=args.target in args.text)
    _check(args, data)
    target = _target(args, data)
    rows = _prepare(args, data, target)
    if args.early_stopping and not rows.validates:
        raise DataError("--early-stopping needs rows to validate on: raise --validation")
    model, optimizer = _network(args, rows, target), make_optimizer(args)
    report.describe(args, data, target, rows.preprocessing, model, optimizer, rows.validates)
    stopping = callbacks.EarlyStopping(patience=args.early_stopping) if args.early_stopping else None
    history = _fit(args, model, optimizer, rows, stopping)
    if history.interrupted and history.epochs == 0:
        report.line("saved", "nothing: not one epoch had ended")
        return EXIT_INTERRUPTED
    learnt = _measured(model, target, rows, history)
    output = _save(model, target, rows, output, history)  # before anything else can fail
    measured = [learnt, *_validated(model, target, rows, history, stopping)]
    report.metrics("all rows" if rows.share else "train", learnt.metrics)
    for held_out in measured[1:]:
        report.metrics("validation", held_out.metrics)
    baseline.warn_if_worse(measured, target, model.metadata["loss"], stopped_early=bool(stopping))
    report.speed(history, len(rows.y))
    report.saved(output, data)
    if args.plot:
        plots.history(history, args.plot)
    if history.diverged:
        before = f"{output} has the model from before it"
        raise ValueError(f"training diverged in epoch {history.epochs}: lower --learning-rate ({before})")
    return EXIT_INTERRUPTED if history.interrupted else None


def _model_path(args: Namespace) -> Path:
    """Where to save the model, checked before anything else is done."""
    path = Path(args.output or f"{Path(args.data).resolve().stem}.fastnn.npz")
    formats.check_suffix(path)
    if not path.parent.is_dir():
        raise DataError(f"--output: there is no folder {path.parent}")
    if path.is_dir():
        raise DataError(f"--output: {path} is a folder")
    if not os.access(path.parent, os.W_OK):
        raise DataError(f"--output: no permission to write into the folder {path.parent}")
    not_over("--output", path, args.data, args.targets)
    if args.metrics:
        not_over("--metrics", args.metrics, args.data, args.targets, path)
    return path


def _check(args: Namespace, data: Dataset) -> None:
    """Raise DataError for options that do not fit the data, and for data without targets."""
    if not isinstance(data.inputs, Table):
        for option in ("target", "ignore", "text"):
            if getattr(args, option):
                raise DataError(f"--{option} names columns of a CSV, and {data.source} is none")
    targets_of(data)
    if args.target in args.text and args.task == "regression":
        raise DataError(f"--text {args.target}: a regression needs numbers")


def _target(args: Namespace, data: Dataset) -> Target:
    """What to predict."""
    values = targets_of(data)
    scaling = not args.no_scaling and _takes_any_targets(args.loss)
    target = Target.fit(values, data.target_name, args.task, scaling=scaling, source=data.source)
    if isinstance(data.inputs, Table):
        target = target.as_written(values, data.inputs.columns[data.target_name])
    return target


def _takes_any_targets(loss: str | tuple[str, float] | None) -> bool:
    """Whether a loss has no need of targets as they are given, -1 and 1 say; one that is not known is refused later."""
    name = loss[0] if isinstance(loss, tuple) else loss
    return name not in LOSSES or not LOSSES[name].targets.must


def _prepare(args: Namespace, data: Dataset, target: Target) -> Rows:
    """The rows, divided and prepared."""
    y = target.encode(np.asarray(targets_of(data)), data.where_target)
    if isinstance(data.inputs, np.memmap) and (args.no_scaling or data.inputs.dtype != np.uint8):
        return _as_they_are(args, data.inputs, y, data)
    rows, held_out = data.split(args.validation, y if target.classes else None, args.seed)
    target.warn_of_absent(y[rows])
    text = [name for name in args.text if name != args.target]
    preprocessing = Preprocessing.fit(data.inputs, data.names, rows, scaling=not args.no_scaling, text=text)
    validation = None
    if len(held_out):
        preprocessing.warn_of_new(data.inputs, held_out)
        validation = preprocessing.transform(data.inputs, held_out), y[held_out]
    return Rows(preprocessing, preprocessing.transform(data.inputs, rows), y[rows], validation)


def _as_they_are(args: Namespace, X: np.ndarray, y: np.ndarray, data: Dataset) -> Rows:
    """The rows of a memory map: `fit` draws those held out, and converts all batch by batch."""
    if not args.no_scaling:
        check_magnitude(X, data.source)
    n_validation = int(args.validation * len(data))
    preprocessing = Preprocessing.fit(X, data.names, scaling=False)
    return Rows(preprocessing, preprocessing.transform(X), y, share=n_validation / len(data))


def _network(args: Namespace, rows: Rows, target: Target) -> Any:
    """A new network, whose metadata name its loss."""
    model = fastnn.MLP(
        [rows.preprocessing.n_inputs, *args.layers, target.n_outputs],
        activation=args.activation,
        norm=args.norm,
        dropout=args.dropout,
        output="softmax" if target.classes else "identity",
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        seed=args.seed,
    )
    model.metadata["loss"] = loss_for(model.output, args.loss)
    return model


def make_optimizer(args: Namespace) -> optimizers.Optimizer:
    """The optimiser that --optimizer and --learning-rate say."""
    optimizer: Any = optimizers.get(args.optimizer)
    return optimizer if args.learning_rate is None else replace(optimizer, learning_rate=args.learning_rate)


def _fit(
    args: Namespace, model: Any, optimizer: optimizers.Optimizer, rows: Rows, stopping: callbacks.EarlyStopping | None
) -> History:
    validation = {"validation_data": rows.held_out} if rows.held_out else {"validation_split": rows.share}
    logger = callbacks.CSVLogger(args.metrics) if args.metrics else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training diverged", RuntimeWarning)  # `run` names the options
        return model.fit(
            rows.X,
            rows.y,
            epochs=args.epochs,
            batch_size=min(args.batch_size, len(rows.y)),
            optimizer=optimizer,
            loss=model.metadata["loss"],
            l2=args.l2,
            **(validation if rows.validates else {}),
            callbacks=[callback for callback in (stopping, logger) if callback],
        )


def _measured(model: Any, target: Target, rows: Rows, history: History) -> baseline.Measured:
    """The metrics of the rows learnt from. Raises ValueError where training has left no model."""
    if history.diverged and history.epochs == 1:
        raise ValueError("training diverged in its first epoch: lower --learning-rate (nothing was saved)")
    metrics = models.measure(model, target, rows.X, rows.y)
    if not np.isfinite(metrics["loss"]):
        raise ValueError("training diverged: the loss is not finite; lower --learning-rate (nothing was saved)")
    return baseline.Measured("the rows learnt from", metrics, rows.y)


def _validated(
    model: Any, target: Target, rows: Rows, history: History, stopping: callbacks.EarlyStopping | None
) -> list[baseline.Measured]:
    """The metrics of the rows held out, as a list of one; of none where there are none."""
    if rows.held_out is not None:
        X, y = rows.held_out
        return [baseline.Measured(f"the {len(y):,} rows held out", models.measure(model, target, X, y), y)]
    if not rows.share:
        return []
    last = -2 if history.diverged else -1
    epoch = last if stopping is None or stopping.best_epoch is None else stopping.best_epoch
    values = {name: value[epoch] for name, value in history.metrics.items() if "val_" in name}
    values = {name.removeprefix("val_"): value for name, value in values.items()}
    return [baseline.Measured("the rows held out", values)]


def _save(model: Any, target: Target, rows: Rows, path: Path, history: History) -> Path:
    """Save the model with what prepares its rows; returns where. The last whole run's model is kept."""
    if history.interrupted or history.diverged:
        how = "interrupted" if history.interrupted else "diverged"
        path = path.with_name(f"{path.stem}.{how}{path.suffix}")
    model.metadata.update(inputs=rows.preprocessing.to_dict(), target=target.to_dict())
    model.save(path)
    del model.metadata["inputs"], model.metadata["target"]  # the rows here are prepared
    return path
