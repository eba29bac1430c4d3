"""`fastnn predict`: a row of CSV for each row of DATA."""

import csv
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn.cli import arguments, models
from fastnn.cli.checks import not_over
from fastnn.tables.data import load
from fastnn.tables.table import DataError, write_csv
from fastnn.tables.targets import Target

PREDICT_ROWS = 65536


def add_arguments(parser: ArgumentParser) -> None:
    """Add the command's arguments."""
    arguments.add_model(parser)
    parser.add_argument(
        "data", metavar="DATA", type=arguments.path, help=f"raw rows, prepared as in training: {arguments.DATA_HELP}"
    )
    parser.add_argument("--output", metavar="FILE.csv", type=arguments.path, help="default: standard output")
    parser.add_argument("--proba", action="store_true", help="add the probability of each class")
    arguments.add_precision(parser, None)


def run(args: Namespace) -> None:
    """Write what the model says of each row, to a file or standard output."""
    model, preprocessing, target = models.load(args)
    if args.proba and not target.classes:
        raise DataError("--proba: a regression has no probabilities")
    if args.output:
        not_over("--output", args.output, args.model, args.data)
    data = load(args.data, part="test")
    preprocessing.warn_of_new(data.inputs)
    blocks = (slice(start, start + PREDICT_ROWS) for start in range(0, len(data), PREDICT_ROWS))
    outputs = np.concatenate([model.predict(preprocessing.transform(data.inputs, block)) for block in blocks])
    lines = [_header(target, args.proba), *_rows(target, outputs, target.decode(outputs, data.where), args.proba)]
    if args.output:
        write_csv(args.output, lines)
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerows(lines)


def _header(target: Target, proba: bool) -> list[str]:
    if proba:
        return [target.name, *(f"probability_{name}" for name in target.class_names)]
    if target.classes or target.n_outputs == 1:
        return [target.name]
    return [f"{target.name}_{i}" for i in range(target.n_outputs)]


def _rows(target: Target, outputs: np.ndarray, decoded: Any, proba: bool) -> Iterable[list[Any]]:
    if not target.classes:
        return ([f"{value:.9g}" for value in row] for row in decoded)
    if proba:
        return ([name, *(f"{value:.9g}" for value in row)] for name, row in zip(decoded, outputs, strict=True))
    return ([name] for name in decoded)
