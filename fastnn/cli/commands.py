"""What each command of the command line does. Each takes the parsed arguments and may return an exit code."""

from __future__ import annotations

import csv
import importlib
import os
import platform
import sys
import warnings
from argparse import Namespace
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import callbacks, optimizers, plots
from fastnn.cli import report
from fastnn.cli.exits import EXIT_INTERRUPTED
from fastnn.files import formats, reading
from fastnn.losses import LOSSES, loss_for
from fastnn.tables import baseline
from fastnn.tables.data import Dataset, load
from fastnn.tables.preprocessing import Preprocessing, check_magnitude
from fastnn.tables.table import DataError, Table, quoted, write_csv
from fastnn.tables.targets import Target

PREDICT_ROWS = 65536


def train(args: Namespace) -> int | None:
    """`fastnn train`: load, prepare, fit, measure, save."""
    output = _model_path(args)
    if args.plot:
        plots.prepare(args.plot)
    data = load(args.data, args.targets, target=args.target, ignore=args.ignore, text_target=args.target in args.text)
    _check_train(args, data)
    assert data.target is not None

    scaling = not args.no_scaling
    target = Target.fit(data.target, data.target_name, args.task, scaling=scaling, source=data.source)
    if isinstance(data.inputs, Table):
        target = target.as_written(data.target, data.inputs.columns[data.target_name])
    preprocessing, training, validation = _prepare(args, data, target)
    if args.early_stopping and not validation:
        raise DataError("--early-stopping needs rows to validate on: raise --validation")

    model = fastnn.MLP(
        [preprocessing.n_inputs, *args.layers, target.n_outputs],
        activation=args.activation,
        dropout=args.dropout,
        output="softmax" if target.classes else "identity",
        device=args.device,
        precision=args.precision,
        threads=args.threads,
        seed=args.seed,
    )
    loss = loss_for(model.output, args.loss)
    model.metadata["loss"] = loss
    optimizer = _optimizer(args)
    report.describe(args, data, target, preprocessing, model, optimizer, bool(validation))
    stopping = callbacks.EarlyStopping(patience=args.early_stopping) if args.early_stopping else None
    logger = callbacks.CSVLogger(args.metrics) if args.metrics else None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training diverged", RuntimeWarning)  # the error below names the options
        history = model.fit(
            *training,
            epochs=args.epochs,
            batch_size=min(args.batch_size, len(training[1])),
            optimizer=optimizer,
            loss=loss,
            l2=args.l2,
            **validation,
            callbacks=[callback for callback in (stopping, logger) if callback],
        )
    if history.interrupted and history.epochs == 0:
        report.line("saved", "nothing: not one epoch had ended")
        return EXIT_INTERRUPTED
    if history.diverged and history.epochs == 1:
        raise ValueError("training diverged in its first epoch: lower --learning-rate (nothing was saved)")
    metrics = _measure(model, target, *training)
    if not np.isfinite(metrics["loss"]):
        raise ValueError("training diverged: the loss is not finite; lower --learning-rate (nothing was saved)")
    if history.interrupted or history.diverged:  # the last whole run's model is kept
        how = "interrupted" if history.interrupted else "diverged"
        output = output.with_name(f"{output.stem}.{how}{output.suffix}")
    model.metadata.update(inputs=preprocessing.to_dict(), target=target.to_dict())
    model.save(output)  # before anything else can fail
    del model.metadata["inputs"], model.metadata["target"]  # the rows here are prepared
    report.metrics("all rows" if "validation_split" in validation else "train", metrics)
    measured = [baseline.Measured("the rows learnt from", metrics, training[1])]
    if "validation_data" in validation:
        X, y = validation["validation_data"]
        measured.append(baseline.Measured(f"the {len(y):,} rows held out", _measure(model, target, X, y), y))
    elif validation:
        last = -2 if history.diverged else -1
        epoch = last if stopping is None or stopping.best_epoch is None else stopping.best_epoch
        values = {name: value[epoch] for name, value in history.metrics.items() if "val_" in name}
        values = {name.removeprefix("val_"): value for name, value in values.items()}
        measured.append(baseline.Measured("the rows held out", values))
    for held_out in measured[1:]:
        report.metrics("validation", held_out.metrics)
    baseline.warn_if_worse(measured, target, loss, stopped_early=bool(stopping))
    report.speed(history, len(training[1]))
    report.saved(output, data)
    if args.plot:
        plots.history(history, args.plot)
    if history.diverged:
        before = f"{output} has the model from before it"
        raise ValueError(f"training diverged in epoch {history.epochs}: lower --learning-rate ({before})")
    return EXIT_INTERRUPTED if history.interrupted else None


def predict(args: Namespace) -> None:
    """`fastnn predict`: a row of CSV for each row of DATA."""
    model, preprocessing, target = _load_model(args)
    if args.proba and not target.classes:
        raise DataError("--proba: a regression has no probabilities")
    if args.output:
        _not_over("--output", args.output, args.model, args.data)
    data = load(args.data, part="test")
    preprocessing.warn_of_new(data.inputs)
    blocks = (slice(start, start + PREDICT_ROWS) for start in range(0, len(data), PREDICT_ROWS))
    outputs = np.concatenate([model.predict(preprocessing.transform(data.inputs, block)) for block in blocks])
    decoded = target.decode(outputs, data.where)
    if not target.classes:
        header = [target.name] if target.n_outputs == 1 else [f"{target.name}_{i}" for i in range(target.n_outputs)]
        rows: Iterable[list[Any]] = ([f"{value:.9g}" for value in row] for row in decoded)
    elif args.proba:
        header = [target.name, *(f"probability_{name}" for name in target.class_names)]
        rows = ([name, *(f"{value:.9g}" for value in row)] for name, row in zip(decoded, outputs, strict=True))
    else:
        header, rows = [target.name], ([name] for name in decoded)
    if args.output:
        write_csv(args.output, [header, *rows])
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *rows])


def evaluate(args: Namespace) -> None:
    """`fastnn evaluate`: the model's metrics on DATA."""
    model, preprocessing, target = _load_model(args)
    data = load(args.data, args.targets, target=target.name, part="test", text_target=target.text)
    if data.target is None:
        raise DataError(_no_target(data))
    y = target.encode(data.target, data.where_target)
    preprocessing.warn_of_new(data.inputs)
    metrics = _measure(model, target, preprocessing.transform(data.inputs), y)
    report.line("data", f"{data.source}: {len(data):,} rows")
    report.metrics("metrics", metrics)


def recipe(args: Namespace) -> int | None:
    """`fastnn recipe`: hand over to fastnn.recipes."""
    from fastnn.recipes import RECIPES

    if args.name is None:
        print("\n".join(RECIPES))
        return None
    if args.name not in RECIPES:
        raise ValueError(f"no recipe {args.name!r}: the recipes are {', '.join(RECIPES)}")
    return importlib.import_module(f"fastnn.recipes.{RECIPES[args.name]}").main(args.arguments)


def info(args: Namespace) -> None:
    """`fastnn info`: versions, and what the kernels run on."""
    import llvmlite
    import numba

    from kernels import backends, devices

    versions = {"fastnn": fastnn.__version__, "python": platform.python_version(), "numpy": np.__version__}
    versions |= {"numba": numba.__version__, "llvmlite": llvmlite.__version__}
    device = devices.device("auto")
    facts = versions | {"device": device} | backends.package("cpu").info()
    if device == "cuda":
        facts |= backends.package("cuda").info()
    else:
        facts["gpu"] = devices.why_not()
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(f"{name:<{width}}{value}")


def warmup(args: Namespace) -> None:
    """`fastnn warmup`: compile into the cache."""
    from kernels import backends, devices

    used = {"cpu", devices.device("auto")}
    seconds = sum(backends.package(device).warmup(dtypes=tuple(args.dtype)) for device in sorted(used))
    print(f"kernels for {' and '.join(args.dtype)} are ready after {seconds:.1f} s")


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
    _not_over("--output", path, args.data, args.targets)
    if args.metrics:
        _not_over("--metrics", args.metrics, args.data, args.targets, path)
    return path


def _not_over(option: str, path: Any, *others: Any) -> None:
    """Refuse to write a file over another of this command's."""
    for other in others:
        if other is not None and os.path.realpath(path) == os.path.realpath(other):
            raise DataError(f"{option}: {path} is a file that this command reads or writes already")


def _check_train(args: Namespace, data: Dataset) -> None:
    if not isinstance(data.inputs, Table):
        for option in ("target", "ignore", "text"):
            if getattr(args, option):
                raise DataError(f"--{option} names columns of a CSV, and {data.source} is none")
    if data.target is None:
        raise DataError(_no_target(data))
    if args.target in args.text and args.task == "regression":
        raise DataError(f"--text {args.target}: a regression needs numbers")


def _prepare(
    args: Namespace, data: Dataset, target: Target
) -> tuple[Preprocessing, tuple[np.ndarray, np.ndarray], dict[str, Any]]:
    """The preprocessing, the rows to train on (X, y), and what tells `fit` the rows to validate on, {} for none."""
    y = target.encode(np.asarray(data.target), data.where_target)
    if isinstance(data.inputs, np.memmap) and (args.no_scaling or data.inputs.dtype != np.uint8):
        # left as it is: `fit` draws the rows and converts them batch by batch
        if not args.no_scaling:
            check_magnitude(data.inputs, data.source)
        n_validation = int(args.validation * len(data))
        share = {"validation_split": n_validation / len(data)} if n_validation else {}
        preprocessing = Preprocessing.fit(data.inputs, data.names, scaling=False)
        return preprocessing, (preprocessing.transform(data.inputs), y), share
    rows, held_out = data.split(args.validation, y if target.classes else None, args.seed)
    target.warn_of_absent(y[rows])
    text = [name for name in args.text if name != args.target]
    preprocessing = Preprocessing.fit(data.inputs, data.names, rows, scaling=not args.no_scaling, text=text)
    if len(held_out):
        preprocessing.warn_of_new(data.inputs, held_out)
    validation = {"validation_data": (preprocessing.transform(data.inputs, held_out), y[held_out])}
    training = preprocessing.transform(data.inputs, rows), y[rows]
    return preprocessing, training, validation if len(held_out) else {}


def _no_target(data: Dataset) -> str:
    if isinstance(data.inputs, Table):
        return f"{data.source}: say what to predict: --target COLUMN, one of {quoted(data.names)}"
    if data.source.endswith(".npy"):
        return f"{data.source}: name the file of the targets behind it, as in {data.source} y.npy"
    return f"{data.source}: there are no targets" + (" (an array y)" if data.source.endswith(".npz") else "")


def _optimizer(args: Namespace) -> Any:
    optimizer: Any = optimizers.get(args.optimizer)
    return optimizer if args.learning_rate is None else replace(optimizer, learning_rate=args.learning_rate)


def _load_model(args: Namespace) -> tuple[Any, Preprocessing, Target]:
    path, options = args.model, {"precision": args.precision} if args.precision else {}
    try:
        model = fastnn.load(path, **options)
    except ValueError as error:
        raise ValueError(str(error).replace("pass precision='float32'", "pass --precision float32")) from error
    if not {"inputs", "target"} <= model.metadata.keys():
        raise DataError(
            f"{path}: does not tell how its inputs were prepared, as `fastnn train` does; use fastnn.load in Python"
        )
    loss = model.metadata.get("loss")
    name = loss[0] if isinstance(loss, list) and loss else loss
    if isinstance(name, str) and name not in LOSSES:
        raise DataError(
            f"{path}: has learnt by the loss {name!r}, which is not known here: use fastnn.load in Python, in a "
            "program that makes it with fastnn.Loss"
        )
    with reading(path, "is damaged, or was not saved by `fastnn train` of this version"):
        preprocessing = Preprocessing.from_dict(formats.entry(model.metadata, "inputs", dict))
        target = Target.from_dict(formats.entry(model.metadata, "target", dict))
        widths = preprocessing.n_inputs, target.n_outputs
        if widths != (model.layers[0], model.layers[-1]):
            raise ValueError(f"it prepares rows for a network from {widths[0]} to {widths[1]} widths, not {model!r}")
        loss_for(model.output, loss)
    del model.metadata["inputs"], model.metadata["target"]  # its rows will be prepared
    return model, preprocessing, target


def _measure(model: Any, target: Target, X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """The model's metrics; for a regression the root of the mean squared error in the target's units, too."""
    metrics = model.evaluate(X, y, loss=model.metadata.get("loss"))
    if not target.classes:
        metrics["rmse"] = float(np.sqrt(np.mean(((model.predict(X) - y) * target.scale) ** 2)))
    return metrics
