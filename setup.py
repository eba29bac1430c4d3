"""What pyproject.toml cannot say: wheels hold kernels that are compiled while they are built.

FASTNN_LEVELS names the levels, separated by spaces, "all" or "none"; else it is the best that this machine has, with
the kernels that most networks use alone, for whoever installs from a clone waits. Where kernels cannot be made, the
wheel has none, and those who use it compile at first use.
"""

import os
import subprocess
import sys
import warnings
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
OBJECTS = Path("kernels", "cpu", "compiler", "shipped", "objects")


class BuildWithKernels(build_py):
    """Copies the modules, and makes kernels beside them."""

    def run(self) -> None:
        """Do both; an editable installation has no kernels."""
        super().run()
        names = os.environ.get("FASTNN_LEVELS", "here").split()
        if self.editable_mode or names == ["none"]:
            return
        options = ["--usual", "--best"] if names == ["here"] else [] if names == ["all"] else names
        program = [sys.executable, "-m", "kernels.cpu.compiler.shipped.build", *options]
        target = Path(self.build_lib, OBJECTS).absolute()
        try:
            subprocess.run([*program, "--folder", str(target)], cwd=ROOT, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            if names != ["here"]:
                raise
            warnings.warn(f"the package is built without compiled kernels: {error}", stacklevel=1)


class WheelOfPlatform(bdist_wheel):
    """A wheel for all Pythons of one platform, where it holds kernels."""

    def finalize_options(self) -> None:
        """Say that it is no wheel for all platforms."""
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self) -> tuple[str, str, str]:
        """Kernels ask for nothing of Python's."""
        return "py3", "none", super().get_tag()[2]


class WithKernels(Distribution):
    """Has what a platform decides."""

    def has_ext_modules(self) -> bool:
        """Modules are installed where a platform's are."""
        return True


setup(distclass=WithKernels, cmdclass={"build_py": BuildWithKernels, "bdist_wheel": WheelOfPlatform})
