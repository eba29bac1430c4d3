"""`fastnn info`: versions, and what the kernels run on."""

import platform
from argparse import ArgumentParser, Namespace

import fastnn


def add_arguments(parser: ArgumentParser) -> None:
    """Add nothing: the command takes no arguments."""


def run(args: Namespace) -> None:
    """Print a line for each fact."""
    import llvmlite
    import numba
    import numpy as np

    from kernels import backends, devices

    versions = {"fastnn": fastnn.__version__, "python": platform.python_version(), "numpy": np.__version__}
    versions |= {"numba": numba.__version__, "llvmlite": llvmlite.__version__}
    device = devices.device("auto")
    facts = versions | {"device": device} | backends.package("cpu").info()
    if device == "cuda":
        facts |= backends.package("cuda").info()
    else:
        facts["gpu"] = devices.why_not()
    width = max(map(len, facts)) + 2
    for name, value in facts.items():
        print(f"{name:<{width}}{value}")
