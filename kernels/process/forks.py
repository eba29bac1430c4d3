"""What the child of a fork has to make anew: it has the caller's thread alone, and must not wait for another's lock."""

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Generic, TypeVar
from weakref import WeakSet

T = TypeVar("T")

_renewed: WeakSet[Any] = WeakSet()
_held: list[AbstractContextManager[Any]] = []
_in_child: list[Callable[[], None]] = []
_forking = threading.local()  # its `stack`: the locks that this thread has while it forks


def lock() -> Any:
    """A lock that the thread which has it can take again, and that the child of a fork finds open."""
    return renewed(threading.RLock())


def renewed(thing: Any) -> Any:
    """A lock, or whatever else has its method `_at_fork_reinit`: that is called in the child of each fork."""
    _renewed.add(thing)
    return thing


def hold(lock: AbstractContextManager[Any]) -> None:
    """Have forks take this lock, after those held before: what it guards is then whole in the child."""
    _held.append(lock)


def in_child(function: Callable[[], None]) -> None:
    """Have a function called in the child of each fork."""
    _in_child.append(function)


class cached(Generic[T]):  # noqa: N801 (a decorator)
    """functools.cached_property without the lock that Python 3.11's holds while it computes, one for all objects."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, thing: Any, owner: type | None = None) -> T:
        value = thing.__dict__[self._name] = self._compute(thing)
        return value


def _before() -> None:
    _forking.stack = ExitStack()
    for lock in _held:
        _forking.stack.enter_context(lock)


def _after_in_parent() -> None:
    _forking.stack.close()


def _after_in_child() -> None:
    _forking.stack.close()
    for thing in list(_renewed):
        thing._at_fork_reinit()
    for function in _in_child:
        function()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
