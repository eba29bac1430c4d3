"""Numba finds the public functions whichever was imported first, and who does not import `kernels` pays nothing."""

import os

import pytest

from tests.programs import PACKAGES, environment, run

USED = """
import numpy as np
x = np.array([[-1.0, 2.0]])
@numba.njit
def mine(x, y):
    kernels.activate(x, "relu", out=y)
y = np.full_like(x, np.nan)
mine(x, y)
assert y.tolist() == [[0.0, 2.0]], y
from kernels.nopython import _Finder
assert _Finder not in sys.meta_path
"""
ORDERS = {
    "numba first": "import numba; import kernels",
    "kernels first": "import kernels; import numba",
    "numba in between": "import fastnn; import kernels; import numba; import fastnn.model",
    "after the first compilation": "import numba; numba.njit(lambda x: x)(1); import kernels",
    "after a call from Python": (
        "import kernels; import numpy as np; kernels.activate(np.ones((1, 1)), 'relu'); import numba"
    ),
}


@pytest.mark.parametrize("order", ORDERS)
def test_numba_finds_the_functions(order):
    run(f"import sys; {ORDERS[order]}\n{USED}")


def test_numba_finds_a_function_by_its_own_name_and_with_a_signature():
    run("""
from kernels import activate
from numba import njit, float64, void

@njit(void(float64[:, ::1], float64[:, ::1]))
def mine(x, y):
    activate(x, "relu", out=y)
""")


CACHED = """
import json, sys
IMPORTS
import numpy as np

@numba.njit(cache=True)
def mine(x, y):
    kernels.activate(x, "relu", out=y)

x = np.array([[-1.0, 2.0]])
y = np.full_like(x, np.nan)
mine(x, y)
assert y.tolist() == [[0.0, 2.0]], y
print(sum(mine.stats.cache_hits.values()), sum(mine.stats.cache_misses.values()))
"""


@pytest.mark.parametrize("order", ["numba first", "kernels first"])
def test_a_cached_function_is_right_in_the_next_process(order, tmp_path):
    (tmp_path / "cached.py").write_text(CACHED.replace("IMPORTS", ORDERS[order]))
    env = environment(PYTHONPATH=os.pathsep.join(map(str, [tmp_path, PACKAGES])))
    assert [run("import cached", env=env).stdout for _ in range(2)] == ["0 1\n", "1 0\n"]


def test_numba_is_not_imported_before_it_is_needed():
    run("""
import sys, numpy as np, kernels, fastnn
fastnn.MLP([2, 2], device="cpu")
heavy = {"numba", "llvmlite", "kernels.cpu", "kernels.cuda"} & set(sys.modules)
assert not heavy, heavy
kernels.activate(np.ones((1, 1)))
assert "numba" in sys.modules
""")


def test_programs_without_kernels_have_nothing_of_it():
    run("""
import sys, numba
finders = list(sys.meta_path)
assert numba.njit(lambda x: x + 1)(1) == 2
assert sys.meta_path == finders
found = [name for name in sys.modules if name.partition(".")[0] in ("kernels", "fastnn")]
assert not found, found
""")


def test_other_distributions_are_found_as_before():
    run("""
import sys
from importlib import metadata
before = {d.metadata["Name"]: d.version for d in metadata.distributions()}
import kernels
after = {d.metadata["Name"]: d.version for d in metadata.distributions()}
assert after == before | {"kernels-inside-numba": "1"}, set(after) ^ set(before)
assert metadata.version("numpy") == before["numpy"]
try:
    metadata.version("no-such-distribution")
except metadata.PackageNotFoundError:
    pass
else:
    raise AssertionError
metadata.packages_distributions()
""")
