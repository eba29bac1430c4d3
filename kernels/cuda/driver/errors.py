"""What the driver refuses, as errors of one line."""

import contextlib
from collections.abc import Iterator


class OutOfMemoryError(MemoryError):
    """The GPU has no room for an array, or for a kernel's code, or this process has none on it at all."""


def failure(error: Exception) -> Exception:
    """OutOfMemoryError where the driver has no memory, else RuntimeError: each library has classes of its own."""
    if "OUT_OF_MEMORY" in str(error):
        return OutOfMemoryError("device 'cuda' has no room for what is to run on it: use device='cpu'")
    return RuntimeError(f"device 'cuda' failed: {error}")


@contextlib.contextmanager
def driver_errors() -> Iterator[None]:
    """Raise the `failure` that an error of the driver is."""
    try:
        yield
    except Exception as error:
        raise failure(error) from error
