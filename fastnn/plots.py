"""Pictures: curves, gradient norms, decision boundaries, images. Each function writes a file and returns its path.

matplotlib is imported when the first picture is drawn, through its Figure objects alone: no window, no global state.
Every function raises ImportError naming the extra `recipes` where matplotlib is missing, and OSError for a file that
cannot be written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from fastnn.history import History

Predict = Any  # a function from points (n, 2) to the probability (n, 1) of class 1
BLUE, ORANGE = "#2563a8", "#d9742b"
COLOURS = (BLUE, ORANGE, "#3a8f5c", "#8a4fa0", "#b03a48", "#6b7280")
DPI = 120
MARGIN = 0.4  # around the points of a decision boundary, in their unit
GRID = 200  # points on a side where a decision boundary is evaluated
FRAME_SECONDS = 0.08


def prepare(folder: str | PathLike[str]) -> None:
    """Make the folder.

    Parameters
    ----------
    folder : str or path-like
        The folder. Those above it are made, too.

    Raises
    ------
    ImportError
        Naming the extra where matplotlib is missing.
    OSError
        For a folder that cannot be made or written into.
    """
    _figure((1, 1))
    Path(folder).mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(folder))


def history(history: History, folder: str | PathLike[str]) -> list[Path]:
    """Draw each metric over the epochs beside its twin on the validation rows.

    Parameters
    ----------
    history : History
        What `fit` returned.
    folder : str or path-like
        The folder of the pictures, which are loss.png and so on.

    Returns
    -------
    list of Path
        The files written.
    """
    written = []
    for name in [name for name in history.metrics if not name.startswith("val_") and name != "learning_rate"]:
        both = {"train": history.metrics[name], "validation": history.metrics.get(f"val_{name}", [])}
        lines = {label: (range(1, len(values) + 1), values) for label, values in both.items() if values}
        written.append(curves(Path(folder) / f"{name}.png", lines, "epoch", name))
    return written


Lines = Mapping[str, tuple[Sequence[float] | np.ndarray, Sequence[float] | np.ndarray]]


def curves(path: Path, lines: Lines, xlabel: str, ylabel: str, *, title: str = "", log: str = "") -> Path:
    """Draw lines in one frame.

    Parameters
    ----------
    path : Path
        The file to write.
    lines : mapping of str to (x, y)
        A label and two sequences of numbers for each line.
    xlabel, ylabel : str
        What the axes show.
    title : str
        Stands above the frame.
    log : str
        The axes that are logarithmic: "", "x", "y" or "xy".

    Returns
    -------
    Path
        The file written.
    """
    return curve_grid(path, [[(title, lines)]], xlabel, ylabel, log=log)


def curve_grid(
    path: Path, panels: Sequence[Sequence[tuple[str, Lines]]], xlabel: str, ylabel: str, *, log: str = ""
) -> Path:
    """Draw rows of frames that share their axes, with one legend.

    Parameters
    ----------
    path : Path
        The file to write.
    panels : sequence of sequences of (title, lines)
        The frames of each row, whose lines are as in `curves`.
    xlabel, ylabel : str
        What the axes show.
    log : str
        The axes that are logarithmic: "", "x", "y" or "xy".

    Returns
    -------
    Path
        The file written.
    """
    rows, columns = len(panels), len(panels[0])
    figure = _figure((6.4, 4.0) if rows * columns == 1 else (4.2 * columns, 2.9 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for i, row in enumerate(panels):
        for j, (title, lines) in enumerate(row):
            frame = _tidy(axes[i, j])
            for colour, (label, (x, y)) in zip(COLOURS, lines.items(), strict=False):
                frame.plot(x, y, color=colour, label=label, linewidth=1.8, marker="o" if len(y) == 1 else None)
            frame.set_title(title, loc="left", fontsize=10, fontweight="bold")
            frame.set(xlabel=xlabel if i == rows - 1 else "", ylabel=ylabel if j == 0 else "")
            if "x" in log:
                frame.set_xscale("log")
            if "y" in log:
                frame.set_yscale("log")
    if len(panels[0][0][1]) > 1:
        axes[0, -1].legend(frameon=False, fontsize=9)
    return _save(figure, path)


def gradient_norms(path: Path, norms: Mapping[str, Sequence[float]], title: str) -> Path:
    """Draw the norms of the layers' gradients, a line per network.

    Parameters
    ----------
    path : Path
        The file to write.
    norms : mapping of str to sequence of float
        A label and, from the first layer to the last, the norm of each layer's gradient.
    title : str
        Stands above the frame.

    Returns
    -------
    Path
        The file written.
    """
    figure = _figure((6.4, 4.0))
    frame = _tidy(figure.subplots())
    for colour, (label, values) in zip(COLOURS, norms.items(), strict=False):
        frame.plot(range(1, len(values) + 1), values, "o-", color=colour, label=label, linewidth=1.8)
    frame.set_xticks(range(1, 1 + max(map(len, norms.values()))))
    frame.set_yscale("log")
    frame.set(xlabel="layer, from the inputs to the outputs", ylabel="norm of the gradient")
    frame.set_title(title, loc="left", fontsize=10, fontweight="bold")
    frame.legend(frameon=False, fontsize=9)
    return _save(figure, path)


def images(path: Path, pixels: np.ndarray, titles: Sequence[str]) -> Path:
    """Draw images side by side, a title above each.

    Parameters
    ----------
    path : Path
        The file to write.
    pixels : ndarray (n, height, width)
        The images, whose least numbers are white.
    titles : sequence of str
        A title for each.

    Returns
    -------
    Path
        The file written.
    """
    columns = min(6, len(pixels))
    rows = -(-len(pixels) // columns)
    figure = _figure((1.5 * columns, 1.8 * rows))
    frames = figure.subplots(rows, columns, squeeze=False).ravel()
    for frame in frames:
        frame.set_axis_off()
    for frame, image, title in zip(frames, pixels, titles, strict=False):
        frame.imshow(image, cmap="gray_r", interpolation="nearest")
        frame.set_title(title, fontsize=9)
    return _save(figure, path)


def decision_boundary(path: Path, panels: Mapping[str, Predict], X: np.ndarray, y: np.ndarray) -> Path:
    """Draw what each network says of the plane, and the points, in frames side by side.

    Parameters
    ----------
    path : Path
        The file to write.
    panels : mapping of str to callable
        A title and a function from points (n, 2) to the probability (n, 1) of class 1.
    X : ndarray (n, 2)
        The points.
    y : ndarray (n,)
        Their classes, 0 and 1.

    Returns
    -------
    Path
        The file written.
    """
    figure = _figure((3.1 * len(panels) + 0.6, 2.7))
    axes = figure.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
    for frame, (title, predict) in zip(axes, panels.items(), strict=True):
        filled = _draw_boundary(frame, predict, X, y, title)
    bar = figure.colorbar(filled, ax=list(axes), ticks=[0, 0.5, 1], pad=0.02, aspect=24, shrink=0.8)
    bar.set_label("probability of class 1", fontsize=9)
    bar.outline.set_visible(False)
    return _save(figure, path)


def boundary_animation(path: Path, frames: Iterable[tuple[str, Predict]], X: np.ndarray, y: np.ndarray) -> Path:
    """Draw a GIF of the boundary as it changes, the last frame held for 2 seconds.

    Parameters
    ----------
    path : Path
        The file to write.
    frames : iterable of (title, callable)
        A title and a function from points (n, 2) to the probability (n, 1) of class 1.
    X : ndarray (n, 2)
        The points.
    y : ndarray (n,)
        Their classes, 0 and 1.

    Returns
    -------
    Path
        The file written.
    """
    from matplotlib.animation import PillowWriter
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure((4.8, 3.6))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    writer = PillowWriter(fps=round(1 / FRAME_SECONDS))
    with writer.saving(figure, str(path), dpi=90):
        for title, predict in frames:
            axes.clear()
            _draw_boundary(axes, predict, X, y, title)
            writer.grab_frame()
        for _ in range(round(2 / FRAME_SECONDS)):
            writer.grab_frame()
    return path


def _draw_boundary(frame: Any, predict: Predict, X: np.ndarray, y: np.ndarray, title: str) -> Any:
    """The filled contours of the probability of class 1, the line at 1/2 and the points."""
    from matplotlib.colors import LinearSegmentedColormap

    low, high = X.min(axis=0) - MARGIN, X.max(axis=0) + MARGIN
    plane = np.stack(np.meshgrid(*np.linspace(low, high, GRID).T), axis=-1)
    probability = np.asarray(predict(plane.reshape(-1, 2)), dtype=np.float64).reshape(GRID, GRID)
    colours = LinearSegmentedColormap.from_list("boundary", ["#9fc0e0", "#f7f7f7", "#f3c19b"])
    filled = frame.contourf(plane[..., 0], plane[..., 1], probability, levels=np.linspace(0, 1, 21), cmap=colours)
    frame.contour(plane[..., 0], plane[..., 1], probability, levels=[0.5], colors="#222222", linewidths=1.4)
    for value, colour in ((0, BLUE), (1, ORANGE)):
        frame.scatter(*X[y == value].T, s=7, color=colour, edgecolor="white", linewidth=0.3)
    frame.set_title(title, loc="left", fontsize=10, fontweight="bold")
    frame.set_aspect("equal")
    frame.set_xticks([])
    frame.set_yticks([])
    frame.spines[:].set_visible(False)
    return filled


def _figure(size: tuple[float, float]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError('drawing needs matplotlib: pip install "fastnn-numba[recipes]"') from None
    return Figure(figsize=size, layout="constrained")


def _tidy(frame: Any) -> Any:
    frame.spines[["top", "right"]].set_visible(False)
    frame.grid(color="#e5e7eb", linewidth=0.8)
    frame.set_axisbelow(True)
    return frame


def _save(figure: Any, path: Path) -> Path:
    figure.savefig(path, dpi=DPI)
    return path
