"""What `fit` says while it works: a bar where that can be seen, else a line per epoch, to stderr."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any


class Progress:
    """The progress of one fit; use as a context manager.

    progress: None for a bar when tqdm is installed and stderr is a terminal or a notebook, otherwise a line per epoch,
    at most one a second; True for that in any case; False for silence.
    """

    def __init__(self, progress: bool | None, epochs: int) -> None:
        self.silent, self.epochs = progress is False, epochs
        self._bar: Any = None
        self._said = 0.0
        self._last = ""
        if not self.silent and _seen():
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=epochs, unit="epoch", file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._last:
            self._print(self._last)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self.silent:
            return
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            self._print(text)

    def epoch(self, number: int, logs: Mapping[str, float]) -> None:
        """Epoch `number`, counted from 0, has ended with these values."""
        if self.silent:
            return
        if self._bar is not None:
            self._bar.set_postfix({name: f"{value:.4g}" for name, value in logs.items()}, refresh=False)
            self._bar.update()
            return
        values = ", ".join(f"{name} {value:.4g}" for name, value in logs.items())
        self._last = f"epoch {number + 1}/{self.epochs}: {values}"
        now = time.monotonic()
        if now - self._said >= 1.0:
            self._print(self._last)
            self._said, self._last = now, ""

    def _print(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _seen() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
