"""What the recipes show on a terminal: headings, curves and images made of characters, and how far training is."""

import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn.callbacks import Callback
from fastnn.history import History
from fastnn.inputs.data import Data
from fastnn.model import MLP
from fastnn.optimizers import Optimizer
from fastnn.training import progress

BLOCKS, SHADES = "▁▂▃▄▅▆▇█", " ░▒▓█"
ASCII_BLOCKS, ASCII_SHADES = "_.-=+*%#", " .+%#"  # where stdout cannot encode the others


class Watch(Callback):
    """A bar on a terminal that is gone when training ends; `seconds[i]` is when epoch i ended, from the start."""

    def __init__(self, title: str, epochs: int) -> None:
        self.seconds: list[float] = []
        self._start = 0.0
        self._bar: Any = None
        try:
            from tqdm import tqdm
        except ImportError:
            return
        self._bar = tqdm(total=epochs, desc=title, unit="epoch", leave=False, disable=None, file=sys.stderr)

    def on_train_begin(self, model: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_epoch_end(self, model: Any, epoch: int, logs: Mapping[str, float]) -> None:
        """Move on."""
        self.seconds.append(time.perf_counter() - self._start)
        if self._bar is not None:
            self._bar.update()

    def on_train_end(self, model: Any) -> None:
        """Wipe the bar."""
        if self._bar is not None:
            self._bar.close()


def prepare(net: MLP, X: Any, y: Any, optimizer: Optimizer, loss: str | None = None) -> None:
    """Load the kernels that `fit` with these arguments and `predict` run; a line on stderr says so if they compile."""
    data = Data.checked(net, X, y, loss)
    net.prepare(progress.line, data.needs(optimizer, len(data.X), outputs=True))


def finished(history: History) -> History:
    """The history of a whole run. Raises KeyboardInterrupt if Ctrl-C ended it: the next step would not make sense."""
    if history.interrupted:
        raise KeyboardInterrupt
    return history


def heading(text: str) -> None:
    """An empty line, then a line that stands out."""
    bold = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(f"\n\033[1m{text}\033[0m" if bold else f"\n{text}", flush=True)


def line(label: str, text: str) -> None:
    """A line of the report."""
    print(f"  {label:<11}{text}", flush=True)


def percent(share: float) -> str:
    """97.5 % for 0.975."""
    return f"{100 * share:.1f} %"


def threads(history: History) -> str:
    """1 thread, 2 threads."""
    return f"{history.threads} thread{'s'[: history.threads != 1]}"


def curve(values: Sequence[float], width: int = 40) -> str:
    """A falling cost as a row of blocks, as high as its values are between 0 and the largest of them."""
    chosen = np.asarray(values, dtype=np.float64)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(width, len(chosen))).round().astype(int)]
    highest = max(chosen[np.isfinite(chosen)], default=0.0) or 1.0
    return "".join(_block(value / highest) for value in chosen)


def on_log_scale(value: float, low: float, high: float) -> str:
    """One block, as high as `value` is between `low` and `high` on a logarithmic scale."""
    return _block(0.0 if value <= 0 else math.log(value / low) / math.log(high / low))


def image(pixels: np.ndarray) -> list[str]:
    """Lines of text for an image (height, width) of values from 0 to 1.

    A character is twice as high as wide: a pixel becomes two characters, or where the image is large, two rows a line.
    """
    height, width = pixels.shape
    if width <= 10:
        pixels = pixels.repeat(2, axis=1)
    else:
        pixels = pixels[: height // 2 * 2].reshape(height // 2, 2, width).mean(axis=1)
    shades = SHADES if _encodable(SHADES) else ASCII_SHADES
    steps = np.clip((pixels * len(shades)).astype(int), 0, len(shades) - 1)
    return ["".join(shades[step] for step in row) for row in steps]


def _block(share: float) -> str:
    blocks = BLOCKS if _encodable(BLOCKS) else ASCII_BLOCKS
    if not share < 1:  # NaN, too
        return blocks[-1]
    return blocks[max(0, int(share * len(blocks)))]


def _encodable(characters: str) -> bool:
    try:
        characters.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
