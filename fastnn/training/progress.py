"""What `fit` says while it works: a bar where that can be seen, else a line per epoch, to stderr."""

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

from fastnn.training.observers import Epoch, Observer

LINE_SECONDS = 1.0  # between two lines, the first and the last excepted
BAR_SECONDS = 0.1  # between two looks of the bar


def line(text: str) -> None:
    """A line on stderr; where that takes none, as a file on a full disk, the work goes on."""
    if sys.stderr is not None:
        with suppress(OSError):
            print(text, file=sys.stderr, flush=True)


class Progress(Observer):
    """The progress of one fit; use as a context manager.

    progress: None for a bar when tqdm is installed and stderr is a terminal or a notebook, otherwise a line per epoch,
    at most one a second; True for a bar wherever tqdm is installed; False for silence.
    """

    def __init__(self, progress: bool | None, epochs: int, steps: int) -> None:
        self.silent, self.epochs, self.steps = progress is False, epochs, steps
        self._bar: Any = None
        self._said = -LINE_SECONDS
        self._unsaid: tuple[int, Mapping[str, float]] | None = None
        if not self.silent and (progress or _seen()):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=epochs * steps, unit="step", desc=f"epoch 1/{epochs}", file=sys.stderr)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._show()
        if self._bar is not None:
            self._bar.close()

    def slice_ended(self, epoch: Epoch) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(epoch.steps)
            self._later(epoch.number, epoch.logs, BAR_SECONDS)

    def epoch_ended(self, epoch: Epoch) -> None:
        """Show what an epoch has reached."""
        if not self.silent:
            self._later(epoch.number, epoch.logs, BAR_SECONDS if self._bar is not None else LINE_SECONDS)

    def _later(self, epoch: int, logs: Mapping[str, float], interval: float) -> None:
        """Show these values, now or, where others have just been shown, at the end if none come after them."""
        self._unsaid = epoch, logs
        if time.monotonic() - self._said >= interval:
            self._show()

    def _show(self) -> None:
        if self._unsaid is None:
            return
        epoch, logs = self._unsaid
        self._said, self._unsaid = time.monotonic(), None
        values = ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if name != "learning_rate")
        if self._bar is not None:
            self._bar.set_description(f"epoch {epoch + 1}/{self.epochs}", refresh=False)
            self._bar.set_postfix_str(values)
        else:
            line(f"epoch {epoch + 1}/{self.epochs}: {values}")


def _seen() -> bool:
    """Whether somebody watches: stderr is a terminal, or this is a notebook."""
    return "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
