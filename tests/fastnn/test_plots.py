"""What the pictures show, read from the figures, and that the files are pictures."""

import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib import image
from PIL import Image

from fastnn import plots
from fastnn.history import History
from tests.programs import environment


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    figures = []
    save = plots._save

    def keep(figure, path):
        figures.append(figure)
        return save(figure, path)

    monkeypatch.setattr(plots, "_save", keep)
    return figures


def lines_of(axes):
    return {line.get_label(): np.array(line.get_xydata()).T.tolist() for line in axes.get_lines()}


def assert_drawn(path):
    pixels = image.imread(path)[..., :3]
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 10


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(PermissionError) as caught:
        plots.prepare(tmp_path / "a")
    assert caught.value.filename == str(tmp_path / "a")


def test_curves(tmp_path, figures):
    path = tmp_path / "c.png"
    lines = {"a": (range(1, 4), [3.0, 2.0, 1.0]), "b": ([1, 3], [2.5, 0.5])}
    assert plots.curves(path, lines, "epoch", "loss", title="Falling", log="y") == path
    assert_drawn(path)
    (axes,) = figures[0].axes
    assert lines_of(axes) == {"a": [[1, 2, 3], [3, 2, 1]], "b": [[1, 3], [2.5, 0.5]]}
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("epoch", "loss", "Falling")
    assert (axes.get_xscale(), axes.get_yscale()) == ("linear", "log")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]


def test_a_single_curve_needs_no_legend_and_a_single_point_can_be_seen(tmp_path, figures):
    plots.curves(tmp_path / "c.png", {"a": ([1], [2.0])}, "epoch", "loss")
    (axes,) = figures[0].axes
    assert axes.get_legend() is None
    assert axes.get_lines()[0].get_marker() == "o"


def test_a_grid_of_curves_shares_its_axes(tmp_path, figures):
    panels = [[(f"{row}{column}", {"a": ([0, column + 1], [0, row])}) for column in range(3)] for row in range(2)]
    assert_drawn(plots.curve_grid(tmp_path / "g.png", panels, "x", "y", log="x"))
    axes = figures[0].axes
    assert [frame.get_title(loc="left") for frame in axes] == ["00", "01", "02", "10", "11", "12"]
    assert [frame.get_xlabel() for frame in axes] == ["", "", "", "x", "x", "x"]
    assert [frame.get_ylabel() for frame in axes] == ["y", "", "", "y", "", ""]
    assert len({(*frame.get_xlim(), *frame.get_ylim()) for frame in axes}) == 1
    assert {frame.get_xscale() for frame in axes} == {"log"}


def test_history_draws_each_metric_beside_its_validation(tmp_path, figures):
    history = History({"loss": [2.0, 1.0], "accuracy": [0.5, 0.6], "val_loss": [3.0, 2.0], "learning_rate": [1.0, 1.0]})
    assert plots.history(history, tmp_path) == [tmp_path / "loss.png", tmp_path / "accuracy.png"]
    assert lines_of(figures[0].axes[0]) == {"train": [[1, 2], [2, 1]], "validation": [[1, 2], [3, 2]]}
    assert lines_of(figures[1].axes[0]) == {"train": [[1, 2], [0.5, 0.6]]}


def test_gradient_norms(tmp_path, figures):
    path = plots.gradient_norms(tmp_path / "n.png", {"naive": [1e-6, 1e-3], "He": [1.0, 2.0, 1.0]}, "Gradients")
    assert_drawn(path)
    (axes,) = figures[0].axes
    assert lines_of(axes) == {"naive": [[1, 2], [1e-6, 1e-3]], "He": [[1, 2, 3], [1, 2, 1]]}
    assert axes.get_yscale() == "log"
    assert axes.get_xticks().tolist() == [1, 2, 3]


def test_images_and_their_titles(tmp_path, figures):
    pixels = np.random.default_rng(0).random((8, 5, 4))
    assert_drawn(plots.images(tmp_path / "i.png", pixels, [f"image {n}" for n in range(8)]))
    shown = [frame for frame in figures[0].axes if frame.images]
    np.testing.assert_array_equal([frame.images[0].get_array() for frame in shown], pixels)
    assert [frame.get_title() for frame in shown] == [f"image {n}" for n in range(8)]
    assert [len(frame.images) for frame in figures[0].axes] == [1] * 8 + [0] * 4


def right_of(border):
    """The probability of class 1 is 1 right of x = border, and 0 left of it."""
    return lambda plane: (plane[:, :1] > border).astype(float)


POINTS = np.array([[-1.0, 0.0], [-0.5, 1.0], [1.0, 0.0], [0.5, 1.0]])
CLASSES = np.array([0, 0, 1, 1])


def is_blue(pixel):
    return pixel[2] > pixel[0]


def test_a_decision_boundary(tmp_path, figures):
    path = plots.decision_boundary(
        tmp_path / "b.png", {"at 0": right_of(0.0), "far right": right_of(9.0)}, POINTS, CLASSES
    )
    assert_drawn(path)
    first, second, bar = figures[0].axes
    assert [frame.get_title(loc="left") for frame in (first, second)] == ["at 0", "far right"]
    assert bar.get_ylabel() == "probability of class 1"
    for frame in (first, second):
        np.testing.assert_allclose([*frame.get_xlim(), *frame.get_ylim()], [-1.4, 1.4, -0.4, 1.4])
    scattered = [
        np.array(collection.get_offsets()) for collection in first.collections if len(collection.get_offsets())
    ]
    drawn = [points.tolist() for points in scattered if len(points) == 2]
    assert drawn == [POINTS[:2].tolist(), POINTS[2:].tolist()]

    pixels = image.imread(path)[::-1]  # the first row is at the bottom, as in data coordinates

    def pixel(frame, x, y):
        column, row = frame.transData.transform((x, y)) * plots.DPI / figures[0].dpi
        return pixels[round(row), round(column)]

    assert is_blue(pixel(first, -0.8, 0.5))
    assert not is_blue(pixel(first, 0.8, 0.5))
    assert is_blue(pixel(second, 0.8, 0.5))


def test_the_animation_has_a_frame_for_each_and_holds_the_last(tmp_path):
    path = tmp_path / "b.gif"
    frames = [(f"{n} epochs", right_of(border)) for n, border in enumerate((9.0, 0.5, 0.0, -9.0))]
    assert plots.boundary_animation(path, iter(frames), POINTS, CLASSES) == path
    with Image.open(path) as gif:
        assert (gif.format, gif.n_frames) == ("GIF", 4)
        durations, centres = [], []
        for n in range(gif.n_frames):
            gif.seek(n)
            durations.append(gif.info["duration"])
            pixels = gif.convert("RGB")
            centres.append(is_blue(pixels.getpixel((pixels.width * 3 // 5, pixels.height // 2))))
    assert centres == [True, True, False, False]
    assert durations[:3] == [80, 80, 80]
    assert durations[3] > 1500


def test_prepare_makes_the_folder(tmp_path):
    plots.prepare(tmp_path / "a/b")
    plots.prepare(tmp_path / "a/b")
    assert (tmp_path / "a/b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        plots.prepare(tmp_path / "file")


def test_without_matplotlib_the_extra_is_named_and_no_folder_made(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'needs matplotlib: pip install "fastnn-numba\[recipes\]"'):
        plots.prepare(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_no_window_and_no_global_state(tmp_path):
    code = (
        "import sys; from pathlib import Path; from fastnn import plots\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"plots.curves(Path({str(tmp_path)!r}) / 'c.png', {{'a': ([1, 2], [2, 1])}}, 'x', 'y')\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
