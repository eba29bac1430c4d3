"""What the benchmark modules share."""

import importlib
from types import ModuleType


def import_or_skip(name: str) -> ModuleType:
    """Import and return the module `name`; where it is missing, skip the benchmark whose `setup` calls this.

    asv counts a benchmark as skipped, not as failed, when its `setup` raises NotImplementedError.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise NotImplementedError(f"{name} is not installed") from error
