"""Work in a thread of its own, which no signal cuts in two: Python runs signal handlers in the main thread alone."""

import contextlib
import contextvars
import ctypes
import threading
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakSet

from kernels.process import forks

R = TypeVar("R")

STACK = 16 << 20  # bytes: the compiler's recursion is deep

_starting = forks.lock()
_abandoned: WeakSet[threading.Thread] = WeakSet()  # threads whose callers have been interrupted


def with_stack(size: int, start: Callable[[], R]) -> R:
    """start(), which starts a thread; that has a stack of `size` bytes, whatever threading.stack_size says."""
    with _starting:
        usual = threading.stack_size()
        try:
            threading.stack_size(size)
            return start()
        finally:
            threading.stack_size(usual)


def apart(work: Callable[[], R], stop: Callable[[], None] | None = None) -> R:
    """work(), in a thread of its own. An exception out of a signal handler, Ctrl-C say, leaves at once.

    The work then goes on to its end, or until the program ends. Not so with `stop`, for work on the caller's memory:
    that is called, and what it brings to an end is waited for. Such work stays in a thread that has no signal handlers.
    """
    if stop is not None and threading.current_thread() is not threading.main_thread():
        return work()
    done, permit, ended, results, errors = threading.Lock(), [True], [], [], []
    done.acquire()

    def run() -> None:
        try:
            if _claim(permit):
                results.append(work())
        except BaseException as error:  # the caller's
            errors.append(error)
        finally:
            ended.append(True)
            done.release()

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="fastnn")
    try:
        try:
            with_stack(STACK, thread.start)
        except RuntimeError:  # there are no more threads, or the interpreter is about to end
            if not _claim(permit):
                raise
            return work()
        done.acquire()
    except BaseException:
        if stop is None:
            _abandoned.add(thread)
        else:
            stop()
            _withdraw(permit, ended, done)
        raise
    if errors:
        raise errors.pop()
    return results.pop()


def _claim(permit: list[bool]) -> bool:
    """Whether the work is this thread's to do, or to call off: the first that asks has it."""
    try:
        return permit.pop()
    except IndexError:
        return False


def _withdraw(permit: list[bool], ended: list[bool], done: threading.Lock) -> None:
    """Return when the work has ended, or will never begin; whatever signal handlers raise meanwhile comes too late."""
    while not (ended or _claim(permit)):
        with contextlib.suppress(BaseException):
            done.acquire()


def _break_off() -> None:
    """Have nobody wait at the end of a program for what nobody wants any more."""
    for thread in _abandoned:
        if thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


threading._register_atexit(_break_off)  # type: ignore[attr-defined]
