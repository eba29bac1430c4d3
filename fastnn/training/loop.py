"""The loop: epochs, made in slices of steps, until nothing is left to do or somebody who looks on ends it."""

import enum
from collections.abc import Callable

import numpy as np

from fastnn.training.learner import Learner
from fastnn.training.observers import Epoch, Observer
from fastnn.training.sharing import ThreadShare


class Ending(enum.Enum):
    """What has ended a training: all epochs were made, an observer ended it, or Ctrl-C."""

    COMPLETE, STOPPED, INTERRUPTED = range(3)


def run(
    learner: Learner, next_order: Callable[[], np.ndarray | None], n_rows: int, epochs: int, observer: Observer
) -> Ending:  # fmt: skip
    """Make epochs of n_rows rows, at most `epochs`.

    next_order: the rows of the next epoch, or None for all as they lie; it may return the array of the epoch before.
    Epochs that take less than coming back to Python does are made together, as far as the observer need not look.
    """
    number, stop = 0, False
    with learner.engine.training(), ThreadShare(learner.engine) as share:
        try:
            observer.train_begin()
            while number < epochs and not stop:
                together = learner.together(n_rows, observer.together(epochs - number))
                observer.epochs_begin(together)
                if together > 1:
                    ended = learner.epochs(next_order, together)
                    share.take()
                    if not observer.accepts(ended):
                        continue
                    observer.slice_ended(Epoch(number, ended[-1], together * learner.steps(n_rows)))
                else:
                    for n_steps, logs in learner.epoch(next_order()):
                        share.take()
                        stop = bool(observer.slice_ended(Epoch(number, logs, n_steps)))
                        if stop:
                            break
                    ended = [{**logs, "learning_rate": learner.memory.learning_rate}]
                for logs in ended:
                    stop = bool(observer.epoch_ended(Epoch(number, logs, stopping=stop)))
                    number += 1
                    if stop:
                        break
            observer.steps_ended()
        except BaseException as error:
            observer.failed()
            if not isinstance(error, KeyboardInterrupt):
                raise
            observer.steps_ended()
            return Ending.INTERRUPTED
        finally:
            observer.train_end()
    return Ending.STOPPED if stop else Ending.COMPLETE
