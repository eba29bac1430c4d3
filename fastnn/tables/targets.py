"""From targets as given to what a network learns, and from its outputs back to classes and units."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fastnn.files import formats
from fastnn.tables.preprocessing import moments
from fastnn.tables.table import DataError, quoted

MAX_CLASSES_GUESSED = 20


@dataclass(frozen=True)
class Target:
    """Class labels, or numbers shifted and scaled; written into the model's file with `to_dict` and `from_dict`.

    name:          what is predicted.
    classes:       the classes, text or numbers, sorted; label i of the network is classes[i]. None for a regression.
    shift, scale:  (outputs,) float64 of a regression: z is learnt as (z - shift) / scale.
    written:       the classes as a file writes them, where they are numbers in a form of its own, 007 say; else None.
    """

    name: str
    classes: tuple[str | int | float, ...] | None
    shift: np.ndarray
    scale: np.ndarray
    written: tuple[str, ...] | None = None

    @classmethod
    def fit(
        cls, values: np.ndarray, name: str, task: str = "auto", *, scaling: bool = True, source: str = ""
    ) -> Target:
        """Fit on targets (n,), text or numbers, or (n, outputs), numbers.

        task: "classification", "regression", or "auto": classification for text, for booleans, for one-hot rows and for
        whole numbers of at most MAX_CLASSES_GUESSED different values, regression for all else. scaling: standardise the
        numbers of a regression. source: the file, for the messages. Raises DataError for a target that never varies,
        text in a regression, numbers too large to square, and rows of a classification that are not one-hot.
        """
        values = _flat(values)
        what = f"{source}: target '{name}'" if source else f"target '{name}'"
        if values.ndim == 2:
            one_hot = bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())
            if task == "classification" and not one_hot:
                raise DataError(f"{what} has {values.shape[1]} columns that are not one-hot: give one column")
            if one_hot and task != "regression":
                return cls._of_classes(name, np.arange(values.shape[1]), len(values), what)
        elif task == "classification" or (task == "auto" and _looks_like_classes(values)):
            return cls._of_classes(name, np.unique(values), len(values), what)
        if _is_text(values):
            raise DataError(f"{what} is text, as {values[0]!r}: those are classes, and a regression needs numbers")
        mean, deviation = moments(values.reshape(len(values), -1))
        if (np.ptp(values.reshape(len(values), -1), axis=0) == 0).any():
            raise DataError(f"{what} never varies: every row has the same value")
        if not np.isfinite(mean + deviation).all():
            raise DataError(f"{what} holds numbers too large to standardise")
        if not scaling:
            mean, deviation = np.zeros_like(mean), np.ones_like(deviation)
        return cls(name, None, mean, deviation)

    @classmethod
    def _of_classes(cls, name: str, classes: np.ndarray, n_rows: int, what: str) -> Target:
        if len(classes) == 1:
            raise DataError(f"{what} has one class only, {_plain(classes[0])!r}: there is nothing to tell apart")
        if len(classes) > max(MAX_CLASSES_GUESSED, n_rows // 2):
            raise DataError(f"{what} has {len(classes)} different values in {n_rows} rows: those are no classes")
        return cls(name, tuple(map(_plain, classes)), np.zeros(0), np.zeros(0))

    def as_written(self, values: np.ndarray, cells: Sequence[str]) -> Target:
        """The same target with each class named as the first of the `cells` (n,) that hold `values` (n,) writes it.

        Warns of a class that is written in several ways: of one number, or of texts that differ only in capitals.
        DataError where a number has more digits than a float64.
        """
        if self.classes is None:
            return self
        if self.text:
            self._warn_of_capitals()
            return self
        large = [name for name in self.classes if abs(float(name)) >= 2**53]
        if large:
            raise DataError(
                f"target '{self.name}' has classes of more digits than a number keeps, {large[0]} say: read it as text "
                f"(--text {self.name})"
            )
        first: dict[Any, str] = {}
        for value, cell in zip(values.tolist(), cells, strict=True):
            first.setdefault(value, cell)
        both = next(
            ((first[v], cell) for v, cell in zip(values.tolist(), cells, strict=True) if first[v] != cell), None
        )
        if both:
            warnings.warn(
                f"target '{self.name}': {both[0]!r} and {both[1]!r} are one number, and so one class "
                f"(--text {self.name} tells them apart)",
                stacklevel=2,
            )
        written = tuple(first[name] for name in self.classes)
        return replace(self, written=None if written == tuple(map(str, self.classes)) else written)

    def _warn_of_capitals(self) -> None:
        """Warn of classes of text that differ only in capitals, unless those are single letters."""
        first: dict[str, str] = {}
        for name in map(str, self.classes or ()):
            other = first.setdefault(name.casefold(), name)
            if other != name and len(name) > 1:
                warnings.warn(
                    f"target '{self.name}': {other!r} and {name!r} are two classes, and differ only in capitals: write "
                    "them alike if they are one",
                    stacklevel=3,
                )
                return

    def warn_of_absent(self, labels: np.ndarray) -> None:
        """Warn of classes of which no label (n,) is: nothing can be learnt of them."""
        if self.classes is not None:
            counts = np.bincount(labels, minlength=len(self.classes))
            absent = [name for name, n in zip(self.class_names, counts, strict=True) if n == 0]
            if absent:
                warnings.warn(
                    f"target '{self.name}': no row of class {quoted(absent, 5)} is among those to learn from",
                    stacklevel=2,
                )

    @property
    def class_names(self) -> tuple[str | int | float, ...]:
        """The classes as predictions name them; none of a regression."""
        return self.written or self.classes or ()

    @property
    def task(self) -> str:
        """ "classification" or "regression"."""
        return "regression" if self.classes is None else "classification"

    @property
    def n_outputs(self) -> int:
        """The width of the network's last layer."""
        return len(self.shift if self.classes is None else self.classes)

    @property
    def text(self) -> bool:
        """Whether the targets are text."""
        return self.classes is not None and isinstance(self.classes[0], str)

    def encode(self, values: np.ndarray, where: Callable[[int], str] = "row {}".format) -> np.ndarray:
        """What the network learns: int64 labels (n,), or float32 (n, outputs).

        values: as in `fit`. where: the place of a row for the message. Raises DataError for an unknown class, another
        number of columns, a row of classes that is not one-hot, and a number beyond float32.
        """
        values = _flat(values)
        if self.classes is None:
            columns = values.reshape(len(values), -1)
            if _is_text(values) or columns.shape[1] != self.n_outputs:
                got = "text" if _is_text(values) else columns.shape[1]
                raise DataError(f"target '{self.name}': expected numbers in {self.n_outputs} columns, got {got}")
            with np.errstate(over="ignore"):
                numbers = ((columns - self.shift) / self.scale).astype(np.float32)
            large = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
            if len(large):
                raise DataError(f"{where(int(large[0]))}: {values[large[0]]} is too large for float32")
            return numbers
        if values.ndim == 2:
            if values.shape[1] != self.n_outputs:
                raise DataError(
                    f"target '{self.name}' has {values.shape[1]} columns, the model {self.n_outputs} classes"
                )
            wrong = np.flatnonzero(((values != 0) & (values != 1)).any(axis=1) | (values.sum(axis=1) != 1))
            if len(wrong):
                raise DataError(f"{where(int(wrong[0]))}: expected a one-hot row, got {values[wrong[0]].tolist()}")
            return values.argmax(axis=1)
        label = {name: i for i, name in enumerate(self.classes)}
        labels = np.array([label.get(_plain(value), -1) for value in values], dtype=np.int64)
        if labels.min(initial=0) < 0:
            row = int(np.argmin(labels))
            unknown = _plain(values[row])
            raise DataError(f"{where(row)}: {unknown!r} is none of the classes learnt: {quoted(self.class_names)}")
        return labels

    def decode(self, outputs: np.ndarray, where: Callable[[int], str] = "row {}".format) -> np.ndarray:
        """What the network's outputs (n, outputs) say: classes (n,), or float64 (n, outputs) in the target's units.

        where: the place of a row for the message. Raises DataError for an output that is not finite.
        """
        wrong = np.argwhere(~np.isfinite(outputs))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"{where(row)}: the network's output is {outputs[row, column]}: "
                "the row's numbers are too large for it, or its weights are not finite"
            )
        if self.classes is None:
            return outputs * self.scale + self.shift
        return np.array(self.class_names, dtype=object)[outputs.argmax(axis=1)]

    def to_dict(self) -> dict[str, Any]:
        """Lists, numbers and text only, for JSON."""
        classes, written = (None if names is None else list(names) for names in (self.classes, self.written))
        numbers = {"shift": self.shift.tolist(), "scale": self.scale.tolist()}
        return {"name": self.name, "classes": classes, "written": written, **numbers}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Target:
        """What `to_dict` gave, or did before there was `written`. ValueError for what else a file may hold."""
        classes = written = None
        if values.get("classes") is not None:
            kind = str if values["classes"][:1] and isinstance(values["classes"][0], str) else (int, float)
            classes = tuple(formats.entries(values, "classes", kind))
            if len(set(classes)) < max(2, len(classes)):
                raise ValueError(f"classes must be at least two and different, got {quoted(classes)}")
        if values.get("written") is not None:
            written = tuple(formats.entries(values, "written", str, len(classes or ())))
        shift, scale = (formats.numbers(values, key, None if classes is None else 0) for key in ("shift", "scale"))
        if len(shift) != len(scale) or not (scale > 0).all():
            raise ValueError(f"scale must have {len(shift)} numbers above 0, got {scale}")
        return cls(formats.entry(values, "name", str), classes, shift, scale, written)


def _flat(values: np.ndarray) -> np.ndarray:
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _is_text(values: np.ndarray) -> bool:
    return values.dtype.kind in "OU"


def _looks_like_classes(values: np.ndarray) -> bool:
    if _is_text(values) or values.dtype == bool:
        return True
    return bool((values == np.floor(values)).all()) and len(np.unique(values)) <= MAX_CLASSES_GUESSED


def _plain(value: Any) -> str | int | float:
    """A class as Python's str, int or float: 1.0 and True are the class 1."""
    if isinstance(value, str):
        return str(value)
    return int(value) if value == int(value) else float(value)
