"""Kernels that come compiled with the package: what is loaded, what is not, and that it is what the compiler makes."""

import json
import shutil
import subprocess

import pytest

from kernels.cpu.compiler.shipped import build
from kernels.cpu.compiler.shipped.levels import LEVELS, runs_here
from tests.programs import environment, run

LEVEL = next((level for level in LEVELS.values() if runs_here(level)), None)


def can_be_made():
    try:
        return LEVEL is not None and bool(build.linker(LEVEL.machine))
    except FileNotFoundError:
        return False


pytestmark = pytest.mark.skipif(not can_be_made(), reason="no level fits this machine, or it has no linker")

FOUND = """
from kernels.cpu.compiler.shipped.library import found
library, why = found()
print(library and library.level.name, why, sep="|")
"""

TRAINED = """
import hashlib
import sys
import tempfile
import numpy as np
import fastnn

rng = np.random.default_rng(0)
X, y = rng.standard_normal((203, 31), dtype=np.float32), rng.integers(0, 3, 203)
for layers, options, optimizer in (
    ([31, 17, 3], {"activation": "tanh"}, fastnn.Adam(0.01)),
    ([31, 64, 33, 3], {"dropout": 0.25}, fastnn.SGD(0.1, momentum=0.9)),
    ([31, 20, 3], {"output": "sigmoid", "activation": "sigmoid"}, fastnn.SGD(0.1)),
):
    net = fastnn.MLP(layers, seed=0, **options)
    history = net.fit(X, y, epochs=3, batch_size=32, optimizer=optimizer, validation_split=0.2, progress=False)
    with tempfile.TemporaryDirectory() as folder:
        net.save(f"{folder}/net.npz")
        outputs = fastnn.load(f"{folder}/net.npz").predict(X)
    loss = net.evaluate(X, y)["loss"]
    digest = hashlib.sha256()
    for array in (*net.weights, *net.biases, outputs, np.array([loss, *history.loss, *history.val_loss])):
        digest.update(np.ascontiguousarray(array).tobytes())
    print(digest.hexdigest(), history.compile_seconds == 0.0, sorted({"numba", "llvmlite"} & set(sys.modules)))
"""

MIXED = """
import sys
import numpy as np
import fastnn, kernels
from kernels import reference
from kernels.maths import exp

x, w, b = (np.random.default_rng(0).standard_normal(shape, dtype=np.float32) for shape in ((9, 31), (31, 17), (17,)))
expected = kernels.linear(x, w, b, activation="tanh")
assert "numba" not in sys.modules
fastnn.Activation("bell", lambda z: exp(-z * z), lambda z: -2.0 * z * exp(-z * z))
assert np.abs(kernels.linear(x, w, b, activation="bell") - np.exp(-reference.linear(x, w, b) ** 2)).max() < 1e-5

from numba import njit

@njit
def mine(x, w, b, y):
    kernels.linear(x, w, b, activation="tanh", out=y)

y = np.empty_like(expected)
mine(x, w, b, y)
assert np.array_equal(y, expected)
"""


@pytest.fixture(scope="session")
def shipped(tmp_path_factory):
    """A folder with the usual kernels of the best level that this machine has."""
    folder = tmp_path_factory.mktemp("shipped")
    build.make(LEVEL, folder, jobs=2, usual=True)
    return folder


def using(folder, **variables):
    return environment(**{"FASTNN_LEVEL": None, "FASTNN_KERNELS": str(folder), **variables})


def test_kernels_are_those_that_the_compiler_makes_and_need_neither_numba_nor_llvmlite(shipped, tmp_path):
    lines = run(TRAINED, env=using(shipped, NUMBA_CACHE_DIR=str(tmp_path))).stdout.splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["True []"] * 3
    assert not [*tmp_path.rglob("*.nbc")]
    compiled = using(
        shipped, NUMBA_CPU_NAME=LEVEL.cpu, NUMBA_CPU_FEATURES=LEVEL.features, NUMBA_CACHE_DIR=str(tmp_path)
    )
    again = run(TRAINED, env=compiled).stdout.splitlines()
    assert [line.split()[0] for line in again] == [line.split()[0] for line in lines]
    assert "numba" in again[0]


def test_what_is_compiled_here_calls_what_is_shipped(shipped, tmp_path):
    run(MIXED, env=using(shipped, NUMBA_CACHE_DIR=str(tmp_path)))


def test_the_best_level_is_found_and_asks_nothing_of_python(shipped):
    assert run(FOUND, env=using(shipped)).stdout == f"{LEVEL.name}|the best that this CPU has\n"
    command = ["nm", "-D", "--undefined-only", str(shipped / f"{LEVEL.name}.so")]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[1::2]
    assert set(names) <= {"memset", "memcpy", "memmove"}


@pytest.mark.parametrize(
    "variables, why",
    [
        ({"NUMBA_CPU_NAME": "haswell"}, "compiled here: NUMBA_CPU_NAME is set"),
        ({"NUMBA_OPT": "1"}, "compiled here: NUMBA_OPT is set"),
        ({"FASTNN_LEVEL": "none"}, "compiled here: FASTNN_LEVEL is none"),
    ],
)
def test_variables_go_round_them(shipped, variables, why):
    assert run(FOUND, env=using(shipped, **variables)).stdout == f"None|{why}\n"


def test_a_level_that_is_not_there_is_named(tmp_path):
    assert f"the package has none for {LEVEL.name}" in run(FOUND, env=using(tmp_path)).stdout


def spoilt(shipped, folder, **changes):
    shutil.copytree(shipped, folder, dirs_exist_ok=True)
    manifest = folder / f"{LEVEL.name}.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"sources": "0123456789abcdef"}, "was made of other sources of the kernels"),
        ({"sha256": "0" * 64}, "is not what its manifest says"),
        ({"needs": ["a_feature_of_tomorrow"]}, "needs features that this CPU does not have"),
    ],
)
def test_what_does_not_fit_is_not_loaded_and_says_so(shipped, tmp_path, changes, why):
    spoilt(shipped, tmp_path, **changes)
    env = using(tmp_path, FASTNN_LEVEL=LEVEL.name)
    said = run(f"import warnings; warnings.simplefilter('ignore')\n{FOUND}", env=env).stdout
    assert said.startswith("None|compiled here: ")
    assert why in said
    with pytest.raises(AssertionError, match=f"RuntimeWarning: shipped kernels are not used: .*{why}"):
        run(FOUND, env=env)


FOREIGN = "x86-64-v3" if LEVEL is not None and LEVEL.name == "aarch64" else "aarch64"


@pytest.mark.parametrize(
    "level, why",
    [("v9", "none or one of v4-amx, v4-bf16, v4, v3, v2"), (FOREIGN, "a level that this CPU has")],
)
def test_a_level_that_cannot_be_had_is_refused(shipped, level, why):
    with pytest.raises(AssertionError, match=f"ValueError: FASTNN_LEVEL must be .*{why}"):
        run(FOUND, env=using(shipped, FASTNN_LEVEL=level))
