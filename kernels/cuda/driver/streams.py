"""Which stream a thread enqueues on, and what it enqueues."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from kernels.cuda.compiler.target import api
from kernels.cuda.driver.errors import driver_errors

Launch = tuple[Any, Any, tuple[Any, ...]]  # a kernel, its blocks and arguments

current = threading.local()  # a thread's `stream`: what `launching` was given; its `record`: see `recorded`


@contextlib.contextmanager
def launching(stream: Any) -> Iterator[None]:
    """What this thread enqueues meanwhile goes to this stream, 0 for the default one."""
    before, current.stream = current_stream(), stream
    try:
        yield
    finally:
        current.stream = before


def recorded(enqueue: Callable[[], None]) -> list[Launch]:
    """What `enqueue` launches, without launching it."""
    record: list[Launch] = []
    current.record = record
    try:
        enqueue()
    finally:
        current.record = None
    return record


def current_stream() -> Any:
    """The stream that this thread enqueues on."""
    return getattr(current, "stream", 0)


def handle(stream: Any) -> int:
    """A stream's address, 0 for the default one."""
    return int(stream.handle) if stream else 0


def external_stream(handle: int) -> Any:
    """A stream that another library made."""
    return api.external_stream(handle) if handle else 0


def wait(later: Any, earlier: Any) -> None:
    """What is enqueued on one stream from now on starts after what another has by now."""
    if handle(later) != handle(earlier):
        with driver_errors():
            event = api.event(timing=False)
            event.record(earlier)
            event.wait(later)
