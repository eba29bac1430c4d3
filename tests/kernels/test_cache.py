"""Compiled kernels on disk: a damaged file is written anew, and a full disk is no obstacle."""

import errno
import shutil
import textwrap

import pytest
from numba.core.caching import FunctionCache

from kernels.cpu.compiler import cache
from tests.programs import environment, run

PROGRAM = textwrap.dedent("""
    import numpy as np
    import kernels
    from kernels.process import announcing

    compiled = []
    with announcing.announced_to(lambda: compiled.append(1)):
        print(kernels.activate(np.array([[-1.0, 2.0]]), "relu").tolist(), bool(compiled))
""")
RIGHT = "[[0.0, 2.0]]"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that the program has filled."""
    folder = tmp_path_factory.mktemp("filled")
    assert run(PROGRAM, env=environment(NUMBA_CACHE_DIR=str(folder))).stdout == f"{RIGHT} True\n"
    return folder


@pytest.mark.parametrize("suffix", [".nbc", ".nbi"])
@pytest.mark.parametrize("left", [0, 100])
def test_a_damaged_file_is_written_anew(filled, tmp_path, suffix, left):
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    env = environment(NUMBA_CACHE_DIR=str(tmp_path))
    for path in tmp_path.rglob(f"*{suffix}"):
        path.write_bytes(path.read_bytes()[:left])
    assert run(PROGRAM, env=env).stdout == f"{RIGHT} True\n"
    assert run(PROGRAM, env=env).stdout == f"{RIGHT} False\n"


def test_a_full_disk(monkeypatch):
    def save(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    kept = cache.Cache(test_a_full_disk, "stamp")
    monkeypatch.setattr(FunctionCache, "save_overload", save)
    with pytest.warns(RuntimeWarning, match="cannot be kept in .*: No space left on device; the next program"):
        kept.save_overload(None, None)
