"""The command line: `main`, its entry point; one module a command in `commands`, and what they share."""

from fastnn.cli.program import main

__all__ = ["main"]
