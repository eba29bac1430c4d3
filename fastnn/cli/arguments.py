"""What the commands' arguments share: the parser, and texts to numbers, names and paths.

An error in an argument is one line on stderr.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from fastnn.cli.exits import EXIT_ERROR

DATA_HELP = (
    "a .csv with a header, an .npz with X and y, an .npy of inputs, a folder of MNIST's IDX files, or a data set of "
    "scikit-learn's: iris, wine, breast_cancer, digits, diabetes, moons"
)


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others: one line on stderr."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()  # --help and --version have nowhere to go where this raises
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"fastnn: error: {message} (see {self.prog} --help)\n")


class CommandParser(Parser):
    """The parser of a command, whose module is imported when the command is given: `fastnn --help` needs none."""

    def __init__(self, *, module: str, **options: Any) -> None:
        super().__init__(**options)
        self._module = module

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        command = importlib.import_module(self._module)
        command.add_arguments(self)
        self.set_defaults(run=command.run)
        return super().parse_known_args(args, namespace)


def _number(
    kind: type[int] | type[float], accepts: Callable[[Any], bool], expected: str
) -> Callable[[str], int | float]:
    def parse(text: str) -> int | float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not accepts(value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        return value

    return parse


count = _number(int, lambda value: value >= 1, "a whole number of at least 1")
seed = _number(int, lambda value: value >= 0, "a whole number of at least 0")
share = _number(float, lambda value: 0 <= value < 1, "a share from 0 to below 1")
rate = _number(float, lambda value: 0 < value < float("inf"), "a number above 0")
penalty = _number(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")
_parameter = _number(float, lambda value: True, "a number behind the colon")


def path(text: str) -> str:
    """The name of a file or folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, got ''")
    return text


def loss(text: str) -> str | tuple[str, int | float]:
    """The name of a loss, or NAME:PARAMETER as a pair."""
    name, colon, parameter = text.partition(":")
    return (name, _parameter(parameter)) if colon else name


def widths(text: str) -> tuple[int | float, ...]:
    """Whole numbers between commas."""
    return tuple(count(width) for width in text.split(","))


def names(text: str) -> tuple[str, ...]:
    """Names between commas."""
    return tuple(name.strip() for name in text.split(","))


def add_model(parser: Any) -> None:
    """Add MODEL."""
    parser.add_argument("model", metavar="MODEL", type=path, help="a file that `fastnn train` saved")


def add_targets(parser: Any) -> None:
    """Add the file of targets that belongs to an .npy of inputs."""
    parser.add_argument("targets", metavar="y.npy", type=path, nargs="?", help="the targets, where DATA is an .npy")


def add_precision(parser: Any, default: str | None) -> None:
    """Add --precision; default None is the precision of the saved model."""
    parser.add_argument(
        "--precision",
        choices=["float32", "tf32", "bf16"],
        default=default,
        help="to what products round their factors; tf32 takes a GPU, bf16 that or a CPU with AVX512-BF16 (default "
        f"{default or 'as it was trained'})",
    )
