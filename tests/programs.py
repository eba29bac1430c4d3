"""Python programs in processes of their own: for what depends on the environment, on signals or on a fresh start."""

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parent.parent
# Where this process has the packages from that are tested: programs have them from there too, compiled kernels included
PACKAGES = Path(find_spec("kernels").origin).parents[1]
# Seconds until what does not end is ended: far more than any of this takes where a busy machine leaves it little time
PATIENCE = 600
# The first line of a program that is to be interrupted: what a shell starts in the background ignores Ctrl-C, as does
# whatever that starts in turn
CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def environment(**variables: str | None) -> dict[str, str]:
    """This process's environment with some variables changed, or with None removed.

    The packages and the tests of this process are found, before those of the folder where a program runs, and so is
    tbb's library, which its wheel puts where no loader looks.
    """
    paths = {"PYTHONPATH": f"{PACKAGES}{os.pathsep}{ROOT}", "LD_LIBRARY_PATH": os.path.join(sys.prefix, "lib")}
    result = os.environ | {"PYTHONSAFEPATH": "1"}
    for name, path in paths.items():
        result[name] = os.pathsep.join([path, *filter(None, [result.get(name)])])
    for name, value in variables.items():
        result.pop(name, None)
        if value is not None:
            result[name] = value
    return result


def run(program: str, *, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess:
    """Run a program to its end, its warnings errors; fails with what it wrote to stderr if it fails."""
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment() if env is None else env, capture_output=True, text=True, timeout=PATIENCE,
    )  # fmt: skip
    assert result.returncode == 0, f"exit status {result.returncode}:\n{result.stderr}"
    return result
