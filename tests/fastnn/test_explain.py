"""The schedule of a training step as text."""

from pathlib import Path

import numpy as np
import pytest

import fastnn
from kernels.cpu.engine.engine import Engine
from tests.programs import ROOT, run

PAGE = Path(ROOT) / "kernels" / "engine" / "README.md"


def test_the_page_shows_what_explain_prints():
    text = fastnn.MLP([784, 256, 128, 10], threads=2).explain(128)
    assert f"```\n{text}\n```" in PAGE.read_text()


@pytest.mark.parametrize(
    ("layers", "rows", "threads"),
    [([20, 16, 3], 32, 1), ([2, 25, 50, 50, 25, 1], 1000, 2), ([1024, 2048, 2048, 1024, 10], 512, 2), ([5, 1], 7, 2)],
)
def test_there_is_a_line_for_each_phase(layers, rows, threads):
    net = fastnn.MLP(layers, output="identity", threads=threads)
    engine = Engine(net.network, net.parameters, threads)
    schedule = engine._step_schedule(rows, engine.training_threads(rows), dx=False, split=False)
    text = net.explain(rows)
    lines = text.splitlines()[3:-2]
    assert [line.split()[0] for line in lines] == ["once"] * schedule.once + ["each"] * (len(lines) - schedule.once)
    assert len(lines) == len(schedule.phases) + (schedule.first_layer > 0)  # the rows of X are gathered
    assert str(rows) in text
    grouped = f"{schedule.gradient_groups} groups of {schedule.group_rows} rows"
    assert (grouped in text) == bool(schedule.gradient_groups)


def test_nothing_is_compiled():
    run(
        "import fastnn\n"
        "fastnn.MLP([4, 3, 2]).explain(8)\n"
        "from kernels.cpu.compiler import jit\n"
        "assert not jit.Kernel.loaded, jit.Kernel.loaded"
    )


@pytest.mark.parametrize("rows", [0, -1, 1.5, "8", None, np.nan])
def test_rows_must_be_a_number_of_rows(rows):
    with pytest.raises((TypeError, ValueError), match="rows"):
        fastnn.MLP([4, 3, 2]).explain(rows)
