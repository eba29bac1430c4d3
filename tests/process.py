"""Running Python in a process of its own: for what is read from the environment once, when something is imported."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import kernels

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = Path(kernels.__file__).resolve().parents[1]  # the folder of the `kernels` that is under test


def run_python(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    packages: Path = PACKAGES,
    folder: Path = ROOT,
    timeout: float = 300.0,
) -> str:
    """What `python -W error <arguments>` prints, run in `folder` with `kernels` from `packages` and this `tests`.

    Variables of Numba that this process was given do not reach it: `environment` says all. Fails with its stderr.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")}
    variables["PYTHONPATH"] = os.pathsep.join([str(packages), str(ROOT)])
    variables |= environment or {}
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env=variables, cwd=folder, capture_output=True, text=True, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout
