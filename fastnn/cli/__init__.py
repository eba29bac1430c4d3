"""The command line: its arguments and its errors. What the commands do is in `commands.py`.

Nothing but the standard library is imported before a command runs, so that `fastnn --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from fastnn.cli.exits import EXIT_BROKEN_PIPE, EXIT_ERROR, EXIT_INTERRUPTED

DATA_HELP = (
    "a .csv with a header, an .npz with X and y, an .npy of inputs, a folder of MNIST's IDX files, or a data set of "
    "scikit-learn's: iris, wine, breast_cancer, digits, diabetes, moons"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (`sys.argv`'s by default).

    Returns the exit code: 0; 2 after one line `fastnn: error: ...` on stderr; 130 after Ctrl-C; 141 where the reader of
    stdout has gone. Arguments that cannot be parsed, --help and --version raise SystemExit, as argparse does.
    """
    for name in ("stdout", "stderr"):  # None where whoever starts this has closed it
        setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))  # noqa: SIM115
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            args = _parser().parse_args(argv)
            code: int | None = args.command(args)
            sys.stdout.flush()
            return code or 0
        except KeyboardInterrupt:
            _say("fastnn: interrupted")
            return EXIT_INTERRUPTED
        except BrokenPipeError:  # the reader has left (`| head`)
            _drop(sys.stdout)
            return EXIT_BROKEN_PIPE
        except (ValueError, OSError, ImportError, MemoryError, RuntimeError) as error:
            _say(f"fastnn: error: {_one_line(error)}")
            _flush(sys.stdout)
            return EXIT_ERROR
        finally:
            _flush(sys.stderr)


def _say(text: str) -> None:
    """A line on stderr, for as long as that takes one."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def _flush(stream: TextIO) -> None:
    try:
        stream.flush()
    except OSError:  # a full disk
        _drop(stream)


def _drop(stream: TextIO) -> None:
    """What is still buffered has nowhere to go: Python would try once more, and say so."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    _say(f"fastnn: warning: {message}")


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others: one line on stderr."""

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        sys.stdout.flush()  # --help and --version have nowhere to go where this raises
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_ERROR, f"fastnn: error: {message} (see {self.prog} --help)\n")


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *details: Any) -> NoReturn:
        import fastnn

        print(f"fastnn {fastnn.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="fastnn", description="Train and run dense neural networks.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_train(_add_command(commands, "train", "train a network on DATA and save it"))
    _add_predict(_add_command(commands, "predict", "what a saved model says about DATA, as a CSV"))
    _add_evaluate(_add_command(commands, "evaluate", "how well a saved model does on DATA"))
    _add_recipe(_add_command(commands, "recipe", "run an example; without NAME, list them"))
    _add_command(commands, "info", "what fastnn runs on: device, vector width, threads, cache, versions")
    warmup = _add_command(commands, "warmup", "compile the kernels now, so that no training waits for it")
    warmup.add_argument(
        "--dtype", nargs="+", choices=["float32", "float64"], default=["float32"], help="for which (default float32)"
    )
    return parser


def _add_command(commands: Any, name: str, help: str) -> argparse.ArgumentParser:
    def run(args: argparse.Namespace) -> int | None:
        from fastnn.cli import commands

        return getattr(commands, name)(args)

    parser: argparse.ArgumentParser = commands.add_parser(name, help=help, description=help)
    parser.set_defaults(command=run)
    return parser


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="DATA", type=_path, help=DATA_HELP)
    parser.add_argument("targets", metavar="y.npy", type=_path, nargs="?", help="the targets, where DATA is an .npy")

    data = parser.add_argument_group("data")
    data.add_argument("--target", metavar="COLUMN", help="the column of a CSV to predict")
    data.add_argument("--task", choices=["auto", "classification", "regression"], default="auto", help="default auto")
    data.add_argument("--ignore", metavar="COLUMNS", type=_names, default=(), help="columns of a CSV to leave out, a,b")
    data.add_argument("--text", metavar="COLUMNS", type=_names, default=(), help="number columns that are categories")
    data.add_argument("--no-scaling", action="store_true", help="do not standardise numbers nor divide bytes by 255")
    data.add_argument("--validation", metavar="SHARE", type=_share, default=0.1, help="rows held out (default 0.1)")

    network = parser.add_argument_group("network")
    network.add_argument("--layers", type=_widths, default=(64, 64), help="hidden widths (default 64,64)")
    network.add_argument("--activation", default="relu", help="of the hidden layers (default relu)")
    network.add_argument(
        "--dropout", metavar="SHARE", type=_share, default=0.0, help="of the hidden layers (default 0)"
    )

    training = parser.add_argument_group("training")
    training.add_argument("--epochs", metavar="N", type=count, default=100, help="default 100")
    training.add_argument("--batch-size", metavar="N", type=count, default=32, help="default 32")
    training.add_argument(
        "--optimizer", metavar="NAME", choices=_Optimizers(), default="adam", help="adam (default), sgd and others"
    )
    training.add_argument("--learning-rate", metavar="R", type=_rate, help="default the optimizer's, 0.001 for adam")
    training.add_argument(
        "--loss",
        metavar="NAME",
        type=_loss,
        help="such as absolute_error, huber:DELTA (in standard deviations of standardised targets) or quantile:LEVEL "
        "in a regression; a NAME that is none lists all (default mean_squared_error, cross-entropy of classes)",
    )
    training.add_argument("--l2", metavar="R", type=_penalty, default=0.0, help="penalty on weights (default 0)")
    training.add_argument(
        "--early-stopping", metavar="PATIENCE", type=count, help="stop after PATIENCE epochs without a better val_loss"
    )
    training.add_argument("--seed", metavar="N", type=seed, default=0, help="default 0: the same run each time")
    training.add_argument("--threads", metavar="N", type=count, help="default: all cores")
    training.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto", help="default auto")
    _add_precision(training, "float32")

    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", metavar="MODEL", type=_path, help=".npz or .safetensors (default: DATA's name + .fastnn.npz)"
    )
    output.add_argument("--metrics", metavar="FILE.csv", type=_path, help="write loss and metrics of each epoch")
    output.add_argument("--plot", metavar="DIR", type=_path, help="draw the training curves into this folder")


def _add_precision(parser: Any, default: str | None) -> None:
    parser.add_argument(
        "--precision",
        choices=["float32", "tf32", "bf16"],
        default=default,
        help="to what products round their factors; tf32 takes a GPU, bf16 that or a CPU with AVX512-BF16 (default "
        f"{default or 'as it was trained'})",
    )


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=_path, help="a file that `fastnn train` saved")
    parser.add_argument("data", metavar="DATA", type=_path, help=f"raw rows, prepared as in training: {DATA_HELP}")
    parser.add_argument("--output", metavar="FILE.csv", type=_path, help="default: standard output")
    parser.add_argument("--proba", action="store_true", help="add the probability of each class")
    _add_precision(parser, None)


def _add_evaluate(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=_path, help="a file that `fastnn train` saved")
    parser.add_argument("data", metavar="DATA", type=_path, help=f"raw rows with their targets: {DATA_HELP}")
    parser.add_argument("targets", metavar="y.npy", type=_path, nargs="?", help="the targets, where DATA is an .npy")
    _add_precision(parser, None)


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", nargs="?", help="which one")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="its own; NAME --help tells them")


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
_real = _number(float, lambda value: True, "a number behind the colon")
_share = _number(float, lambda value: 0 <= value < 1, "a share from 0 to below 1")
_rate = _number(float, lambda value: 0 < value < float("inf"), "a number above 0")
_penalty = _number(float, lambda value: 0 <= value < float("inf"), "a number of at least 0")


def _path(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected the name of a file, got ''")
    return text


class _Optimizers:
    """The names of optimisers, which are imported when they are asked for."""

    def __iter__(self) -> Iterator[str]:
        from kernels.optimizers import known

        return iter(known)


def _loss(text: str) -> str | tuple[str, float]:
    name, colon, parameter = text.partition(":")
    return (name, _real(parameter)) if colon else name


def _widths(text: str) -> tuple[int | float, ...]:
    return tuple(count(width) for width in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))
