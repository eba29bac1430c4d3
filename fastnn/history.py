"""What a training run leaves behind: one value per epoch of everything that was measured, and how long it took."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from fastnn.tables.table import write_csv

USUAL_METRICS = ("loss", "accuracy", "r2", "val_loss", "val_accuracy", "val_r2", "learning_rate")


@dataclass(repr=False)
class History:
    """The record of one `fit`.

    Parameters
    ----------
    metrics : dict of str to list of float
        One value per epoch of everything that was measured. Each list is an attribute as well: `history.val_loss`. One
        of USUAL_METRICS that this run did not measure is an empty list.
    interrupted : bool
        Whether Ctrl-C ended the run.
    seconds : float
        Time spent training, without compilation, in seconds.
    compile_seconds : float
        Time spent compiling kernels, in seconds.
    device : str
        Where it ran, "cpu" or "cuda".
    threads : int
        The most threads that it ran on.
    diverged : bool
        Whether the loss of an epoch, or the parameters at its end, were not finite numbers. The parameters of a run
        that goes on even then are looked at when it ends. The loss of an epoch that ended a run is not finite,
        whichever of them was not.
    """

    metrics: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 0.0
    compile_seconds: float = 0.0
    device: str = "cpu"
    threads: int = 1
    diverged: bool = False

    def __getattr__(self, name: str) -> list[float]:
        if name in USUAL_METRICS or name in self.__dict__.get("metrics", ()):
            return self.metrics.get(name, [])
        measured = ", ".join(self.__dict__.get("metrics", ())) or "nothing"
        raise AttributeError(f"History has no {name!r}; measured were: {measured}")

    def __repr__(self) -> str:
        """What was reached, in a line: all the values of a long training would fill the screen."""
        last = [f"{name}={values[-1]:.4g}" for name, values in self.metrics.items() if values]
        parts = [f"epochs={self.epochs}", *last, f"seconds={self.seconds:.3g}"]
        parts += [f"{name}=True" for name in ("interrupted", "diverged") if getattr(self, name)]
        return f"History({', '.join(parts)})"

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *USUAL_METRICS, *self.metrics]

    @property
    def epochs(self) -> int:
        """The number of epochs recorded."""
        return max((len(values) for values in self.metrics.values()), default=0)

    def append(self, logs: Mapping[str, float]) -> None:
        """Add one epoch, whole or not at all.

        Parameters
        ----------
        logs : mapping of str to float
            What was measured.

        Raises
        ------
        ValueError
            If `logs` does not name what the epochs before it named.
        """
        if self.metrics and logs.keys() != self.metrics.keys():
            raise ValueError(f"logs must name {', '.join(self.metrics)} as before, got {', '.join(logs) or 'nothing'}")
        row, epochs = {name: float(value) for name, value in logs.items()}, self.epochs
        try:
            for name, value in row.items():
                self.metrics.setdefault(name, []).append(value)
        except BaseException:  # Ctrl-C: an epoch is recorded whole or not at all
            for values in self.metrics.values():
                del values[epochs:]
            raise

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write a table: a line per epoch, counted from 0, and a column per metric, as CSVLogger does.

        Parameters
        ----------
        path : str or path-like
            The file, which appears whole or not at all.

        Raises
        ------
        OSError
            Where it cannot be written.
        """
        rows = ([epoch, *row] for epoch, row in enumerate(zip(*self.metrics.values(), strict=True)))
        write_csv(path, [["epoch", *self.metrics], *rows])
