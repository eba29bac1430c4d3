"""Who looks on while a network is trained: what ends a training, and what is told and kept of its epochs."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.callbacks import Callback
from fastnn.training.optimizer_state import Memory


@dataclass(slots=True)
class Epoch:
    """An epoch as far as it has come.

    number: counted from 0. logs: what was measured so far; observers may add to it. steps: those of the slice that has
    just ended. stopping: whether an observer has ended the training by now.
    """

    number: int
    logs: dict[str, float]
    steps: int = 0
    stopping: bool = False


class Observer:
    """Looks on, in turn with others. Every method may be overridden, and none of them does anything here."""

    def together(self, left: int) -> int:
        """How many of the epochs that are left may be made before this looks at any of them."""
        return left

    def train_begin(self) -> None:
        """Called once, before the first epoch."""

    def epochs_begin(self, together: int) -> None:
        """Called before `together` epochs are made, in a single slice where they are several."""

    def accepts(self, ended: Sequence[dict[str, float]]) -> bool:
        """Whether several epochs with these logs count. Else nothing must be left of them, and fewer are made."""
        return True

    def slice_ended(self, epoch: Epoch) -> bool | None:
        """Called after each slice of steps, of an epoch or of several from `epoch` on. True ends training there."""

    def epoch_ended(self, epoch: Epoch) -> bool | None:
        """Called after every epoch. True ends training after it."""

    def failed(self) -> None:
        """Called when an error or Ctrl-C has ended the training: the epoch that was being made does not count."""

    def steps_ended(self) -> None:
        """Called once, after all steps, also where Ctrl-C has ended them."""

    def train_end(self) -> None:
        """Called once, at the very end, whatever has happened."""


EVENTS = tuple(name for name in vars(Observer) if not name.startswith("_"))


@functools.cache
def _overridden(kind: Any) -> tuple[str, ...]:
    """The methods of Observer that a class of observers has of its own."""
    return tuple(name for name in EVENTS if getattr(kind, name) is not getattr(Observer, name))


class Observers(Observer):
    """Several as one, which are told in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._methods: dict[str, list[Callable[..., Any]]] = {name: [] for name in EVENTS}
        for observer in observers:
            kind: Any = type(observer)
            for name in _overridden(kind):
                self._methods[name].append(getattr(observer, name))

    def together(self, left: int) -> int:
        """As many as all of them allow."""
        for together in self._methods["together"]:
            left = min(left, together(left))
        return left

    def train_begin(self) -> None:
        """Tell all."""
        self._tell("train_begin")

    def epochs_begin(self, together: int) -> None:
        """Tell all."""
        self._tell("epochs_begin", together)

    def accepts(self, ended: Sequence[dict[str, float]]) -> bool:
        """Whether all of them do."""
        return all([accepts(ended) for accepts in self._methods["accepts"]])

    def slice_ended(self, epoch: Epoch) -> bool:
        """Tell all; whether one of them ends training."""
        for slice_ended in self._methods["slice_ended"]:
            epoch.stopping |= bool(slice_ended(epoch))
        return epoch.stopping

    def epoch_ended(self, epoch: Epoch) -> bool:
        """Tell all; whether one of them ends training."""
        for epoch_ended in self._methods["epoch_ended"]:
            epoch.stopping |= bool(epoch_ended(epoch))
        return epoch.stopping

    def failed(self) -> None:
        """Tell all."""
        self._tell("failed")

    def steps_ended(self) -> None:
        """Tell all."""
        self._tell("steps_ended")

    def train_end(self) -> None:
        """Tell all."""
        self._tell("train_end")

    def _tell(self, event: str, *args: Any) -> None:
        for method in self._methods[event]:
            method(*args)


class Callbacks(Observer):
    """Tells a user's callbacks."""

    def __init__(self, model: Any, callbacks: Sequence[Callback], memory: Memory) -> None:
        self.model, self.callbacks, self.memory = model, callbacks, memory

    def together(self, left: int) -> int:
        """They are told of each epoch while its parameters are there."""
        return 1

    def train_begin(self) -> None:
        """Tell of the start."""
        self._tell("on_train_begin")

    def slice_ended(self, epoch: Epoch) -> bool:
        """Tell of a slice."""
        return self._tell("on_slice_end", self.memory.step - 1, dict(epoch.logs))

    def epoch_ended(self, epoch: Epoch) -> bool:
        """Tell of an epoch."""
        return self._tell("on_epoch_end", epoch.number, epoch.logs)

    def train_end(self) -> None:
        """Tell of the end."""
        self._tell("on_train_end")

    def _tell(self, event: str, *args: Any) -> bool:
        """Call a method of all callbacks that have it; whether one of them ends the training."""
        return any([getattr(callback, event, _nothing)(self.model, *args) for callback in self.callbacks])


class Validation(Observer):
    """Adds what is measured after each epoch to its logs, before the learning rate.

    measure: of the model as it is, name -> value.
    """

    def __init__(self, measure: Callable[[], dict[str, float]]) -> None:
        self.measure = measure

    def together(self, left: int) -> int:
        """Each epoch is measured."""
        return 1

    def epoch_ended(self, epoch: Epoch) -> None:
        """Measure."""
        rate = epoch.logs.pop("learning_rate")
        epoch.logs.update({f"val_{name}": value for name, value in self.measure().items()}, learning_rate=rate)


def _nothing(*args: Any) -> None:
    """What stands for a method that a callback has not."""
