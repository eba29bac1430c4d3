"""Who hears of kernels that have to be compiled, because no cache has them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[], None] | None] = ContextVar("_listener", default=None)


@contextmanager
def announced_to(listener: Callable[[], None]) -> Iterator[None]:
    """While this lasts, `listener` is called before each kernel that the calling thread has compiled."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def announce() -> None:
    """Tell whoever listens that a kernel is about to be compiled."""
    listener = _listener.get()
    if listener is not None:
        listener()
