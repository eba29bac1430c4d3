"""The command line as a program: it parses, runs a command and says what went wrong.

Nothing but the standard library is imported before a command is known, so that `fastnn --help` answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn, TextIO

from fastnn.cli.arguments import CommandParser, Parser
from fastnn.cli.commands import COMMANDS
from fastnn.cli.exits import EXIT_BROKEN_PIPE, EXIT_ERROR, EXIT_INTERRUPTED


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
            code: int | None = args.run(args)
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


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *details: Any) -> NoReturn:
        import fastnn

        print(f"fastnn {fastnn.__version__}")
        parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="fastnn", description="Train and run dense neural networks.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=CommandParser)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, description=text, module=f"fastnn.cli.commands.{name}")
    return parser
