"""What the recipes' command lines share: their common options, and the files these ask for."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from os import PathLike
from typing import Any

from fastnn import plots
from fastnn.cli import arguments
from fastnn.history import History
from fastnn.tables.table import write_csv


def parser(name: str, description: str, *, seed: int = 0) -> ArgumentParser:
    """A parser with the options that every recipe has."""
    parser = arguments.Parser(prog=f"fastnn recipe {name}", description=description)
    parser.add_argument("--plot", metavar="DIR", help="draw pictures into this folder")
    parser.add_argument("--metrics", metavar="FILE.csv", help="write what was measured in each epoch")
    parser.add_argument(
        "--seed",
        metavar="N",
        type=arguments.seed,
        default=seed,
        help=f"default {seed}; each seed is the same run each time",
    )
    parser.add_argument("--threads", metavar="N", type=arguments.count, help="default: all cores")
    return parser


def check(args: Namespace) -> None:
    """Make the files and folders that are asked for possible, or raise, before time is spent on training."""
    if args.plot:
        plots.prepare(args.plot)
    if args.metrics:
        write_csv(args.metrics, [])


def write_metrics(path: str | PathLike[str], runs: Mapping[str, History]) -> None:
    """Write a CSV with a line per run and epoch, counted from 0; what a run did not measure stays empty."""
    columns = list(dict.fromkeys(name for history in runs.values() for name in history.metrics))
    rows: list[list[Any]] = [["run", "epoch", *columns]]
    for run, history in runs.items():
        for epoch in range(history.epochs):
            values = [history.metrics[name][epoch] if name in history.metrics else "" for name in columns]
            rows.append([run, epoch, *values])
    write_csv(path, rows)
