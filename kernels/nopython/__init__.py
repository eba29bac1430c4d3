"""The public functions inside a user's own `@njit` code.

Numba learns of them before it compiles for the first time: it then calls the entry points `numba_extensions` of every
distribution that Python finds. From the import of `kernels` on, Python finds one whose entry point is `register`. It is
offered here and not in pyproject.toml. Programs that do not import `kernels` then have nothing to do with it, and
programs that import it out of a source tree have it, too.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_FILES = {
    "METADATA": "Metadata-Version: 2.1\nName: kernels-inside-numba\nVersion: 1\n",
    "entry_points.txt": "[numba_extensions]\ninit = kernels.nopython:register\n",
}


class _Finder:
    """What Python asks for modules, of which it has none, and for distributions, of which it has one."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        return None

    @staticmethod
    def find_distributions(context: Any = None) -> Iterable[Any]:
        return [] if context is not None and context.name is not None else [_distribution()]


def _distribution() -> Any:
    from importlib import metadata  # only whoever asks has imported it

    class Offered(metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            return _FILES.get(filename)

        def locate_file(self, path: Any) -> Path:
            return Path(__file__).parent / path

    return Offered()


def offer() -> None:
    """Have Numba learn of the public functions: at once where it may have compiled already, else when it is to."""
    sys.meta_path.append(_Finder)
    if "numba" in sys.modules:
        register()


def register() -> None:
    """Make the public functions callable from nopython code. Numba calls it; a second call does nothing."""
    from kernels.nopython import overloads

    if _Finder in sys.meta_path:
        sys.meta_path.remove(_Finder)
    overloads.register()
