"""From raw columns to what a network reads.

Fitted on the training data and written into the model's file (`to_dict`, `from_dict`), so that a model takes raw rows
when it predicts.
"""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastnn.files import formats
from fastnn.tables.table import DataError, Table, quoted

BLOCK_ROWS = 16384

# A text column of more categories than this, or than half the rows if those are over MIN_CATEGORIES, names its rows.
MAX_CATEGORIES = 1000
MIN_CATEGORIES = 20

# What a column is called that numbers the rows, the first by pandas
INDEX = re.compile(r"unnamed: .*|index|row.*|n[or]\.?|#|.*id")

# Beyond these root mean squares of the inputs training suffers. MLP([n, 64, 64, m]).fit(scale * X, y, epochs=100), X
# standardised and scale 0.001, 0.01, 1, 10, 100: of scikit-learn's digits 91.9, 96.8, 98.0, 94.9, 88.6 % are right, of
# its wines 90.0, 96.1, 96.1, 90.6, 93.3 %; r2 of its make_friedman1(1000) is 0.78, 0.97, 0.92, -0.6, -154 (on a fifth
# held out, means of five seeds).
SMALL, LARGE = 0.01, 10.0

Rows = np.ndarray | slice


@dataclass(frozen=True)
class Preprocessing:
    """Columns -> the network's inputs: numbers shifted and scaled, texts one-hot encoded, in the order of `names`.

    names:            the columns, however a table orders them.
    fill:             (columns,) float64, what a missing number becomes: the mean of the training rows.
    shift, scale:     (columns,) float64, a number z becomes (z - shift) / scale; zeros and ones leave it as it is.
    categories:       name -> the texts of a text column, one input each. A missing text is the category ''; a text that
                      was not seen in training gives zeros.
    """

    names: tuple[str, ...]
    fill: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    categories: dict[str, tuple[str, ...]]

    @classmethod
    def fit(
        cls,
        inputs: Table | np.ndarray,
        names: Sequence[str],
        rows: Rows | None = None,
        *,
        scaling: bool = True,
        text: Sequence[str] = (),
    ) -> Preprocessing:
        """Fit on the given rows (all by default) of a table's columns `names`, or of an array (n, len(names)).

        scaling: standardise number columns with the mean and the standard deviation of the rows (1 for a constant
        column), or divide by 255 where an array is of bytes; without it numbers stay as they are. text: number columns
        of a table to take as text. A text column with too many different texts, one that names its rows, is left out
        with a warning. Raises DataError for a column without a value, one of numbers too large to square, and such a
        text column that `text` names.
        """
        rows = slice(None) if rows is None else rows
        categories: dict[str, tuple[str, ...]] = {}
        mean, deviation = np.zeros(len(names)), np.ones(len(names))
        if isinstance(inputs, Table):
            names, categories = _columns_of(inputs, names, rows, text)
            mean, deviation = _table_moments(inputs, names, rows, categories)
            _warn_of_useless(inputs, [name for name in names if name not in categories], rows)
        elif inputs.dtype == np.uint8:
            deviation[:] = 255
        elif scaling:
            mean, deviation = _array_moments(inputs, rows)
        for name in np.asarray(names)[~np.isfinite(mean + deviation)]:
            raise DataError(f"column '{name}' holds numbers too large to standardise")
        shift, scale = (mean, deviation) if scaling else (np.zeros(len(names)), np.ones(len(names)))
        return cls(tuple(names), mean, shift, scale, categories)

    @property
    def n_inputs(self) -> int:
        """The number of inputs that `transform` makes of a row."""
        return sum(len(self.categories[name]) if name in self.categories else 1 for name in self.names)

    @property
    def leaves_numbers(self) -> bool:
        """Whether every column is a number that stays as it is."""
        return not self.categories and not self.shift.any() and bool((self.scale == 1).all())

    def transform(self, inputs: Table | np.ndarray, rows: Rows | None = None) -> np.ndarray:
        """The inputs of the given rows (all by default): float32 (rows, n_inputs), all finite.

        inputs: a table with at least the columns `names`, or an array (n, columns) of finite numbers, which is returned
        without a copy where numbers stay as they are. Raises DataError for a missing column, a text where a number is
        expected, another number of columns, and a number beyond float32.
        """
        if isinstance(inputs, Table):
            inputs.check_columns(list(self.names))
            return self._transform_table(inputs, slice(None) if rows is None else rows)
        if self.categories:
            raise DataError(f"the model reads text in column {quoted(self.categories)}: give it a CSV file")
        if inputs.shape[1] != len(self.names):
            raise DataError(f"the model reads {len(self.names)} columns, the data has {inputs.shape[1]}")
        if self.leaves_numbers:
            return inputs if rows is None else inputs[rows]
        index = np.arange(len(inputs))[slice(None) if rows is None else rows]
        result = np.empty((len(index), len(self.names)), np.float32)
        with np.errstate(over="ignore"):
            for block in _blocks(len(index)):
                result[block] = (inputs[index[block]] - self.shift) / self.scale
                self._check_finite(result[block])
        return result

    def warn_of_new(self, inputs: Table | np.ndarray, rows: Rows | None = None) -> None:
        """Warn of what training did not see in the given rows (all by default): texts of no category, a line a column.

        And of a column and of rows without any value, and of floats of at most 1 for a model of bytes.
        """
        if not isinstance(inputs, Table):
            if inputs.dtype.kind == "f" and (self.scale == 255).all() and inputs.max() <= 1:
                warnings.warn("the model learnt from bytes, 0 to 255, and no number here is above 1", stacklevel=2)
            return
        inputs.check_columns(list(self.names))
        rows = slice(None) if rows is None else rows
        lines = np.array(inputs.lines)[rows]
        empty = np.ones(len(lines), bool)
        for name in self.names:
            if name in self.categories:
                texts = inputs.texts(name)[rows]
                _warn_of_unseen(f"{inputs.path}: column '{name}'", texts.tolist(), self.categories[name])
                empty &= texts == ""
            else:
                missing = np.isnan(inputs.numbers(name))
                if missing.all():
                    warnings.warn(f"{inputs.path}: column '{name}' has no value: it counts as its mean", stacklevel=2)
                empty &= missing[rows]
        if empty.any():
            warnings.warn(
                f"{inputs.path}: {empty.sum()} of {len(lines)} rows have no value that the model reads, the first in "
                f"line {lines[empty][0]}",
                stacklevel=2,
            )

    def _transform_table(self, table: Table, rows: Rows) -> np.ndarray:
        n_rows = len(np.arange(len(table))[rows])
        result = np.zeros((n_rows, self.n_inputs), np.float32)
        first = 0
        for i, name in enumerate(self.names):
            if name in self.categories:
                code = {text: first + j for j, text in enumerate(self.categories[name])}
                column = np.array([code.get(text, -1) for text in table.texts(name)[rows]], dtype=np.intp)
                known = np.flatnonzero(column >= 0)
                result[known, column[known]] = 1
                first += len(code)
            else:
                values = table.numbers(name)[rows]
                values = np.where(np.isnan(values), self.fill[i], values)
                with np.errstate(over="ignore"):
                    result[:, first] = (values - self.shift[i]) / self.scale[i]
                large = np.flatnonzero(~np.isfinite(result[:, first]))
                if len(large):
                    row = int(np.arange(len(table))[rows][large[0]])
                    raise DataError(f"{table.where(row, name)}: {table.columns[name][row]} is too large for float32")
                first += 1
        return result

    def _check_finite(self, result: np.ndarray) -> None:
        finite = np.isfinite(result).all(axis=0)
        if not finite.all():
            raise DataError(f"column '{self.names[int(np.argmin(finite))]}' holds a number too large for float32")

    def to_dict(self) -> dict[str, Any]:
        """Lists, numbers and text only, for JSON."""
        return {
            "names": list(self.names),
            "fill": self.fill.tolist(),
            "shift": self.shift.tolist(),
            "scale": self.scale.tolist(),
            "categories": {name: list(texts) for name, texts in self.categories.items()},
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """What `to_dict` gave. ValueError for anything else, which a file may hold."""
        names = formats.entries(values, "names", str)
        fill, shift, scale = (formats.numbers(values, key, len(names)) for key in ("fill", "shift", "scale"))
        if not (scale > 0).all():
            raise ValueError(f"scale must be above 0, got {scale.min()}")
        texts = formats.entry(values, "categories", dict)
        categories = {name: tuple(formats.entries(texts, name, str)) for name in texts}
        if len(set(names)) < len(names) or not categories.keys() <= set(names):
            raise ValueError(f"categories must be of different names, got {quoted(categories)} of {quoted(names)}")
        return cls(tuple(names), fill, shift, scale, categories)


def _categories(table: Table, name: str, rows: Rows, wanted: bool) -> tuple[str, ...] | None:
    """The texts of a column, sorted. One that names its rows has none: it is left out with a warning, or refused."""
    texts = table.texts(name)[rows]
    categories = tuple(sorted(set(texts)))
    if len(categories) <= min(MAX_CATEGORIES, max(MIN_CATEGORIES, len(texts) // 2)):
        return categories
    message = (
        f"{table.path}: column '{name}' has {len(categories)} different texts in {len(texts)} rows, "
        "too many to be categories"
    )
    if wanted:
        raise DataError(f"{message}; leave it out (--ignore {name})")
    warnings.warn(f"{message}: it is left out", stacklevel=3)
    return None


def _warn_of_unseen(where: str, texts: list[str], known: Sequence[str]) -> None:
    """Warn of texts that are none of the known ones."""
    seen = frozenset(known)
    unseen = [text for text in texts if text not in seen]
    if unseen:
        example = repr(unseen[0]) if unseen[0] else "a missing one"
        warnings.warn(
            f"{where}: {len(unseen)} of {len(texts)} values were not seen in training, {example} say, and count as "
            f"none of {quoted(known, 3)}",
            stacklevel=3,
        )


def _warn_of_useless(table: Table, names: Sequence[str], rows: Rows) -> None:
    """Warn of an index among the number columns, and of those that never vary in the rows to learn from."""
    for name in names:
        numbers = table.numbers(name)
        if INDEX.fullmatch(name.lower()) and (numbers % 1 == 0).all() and len(np.unique(numbers)) == len(numbers):
            warnings.warn(
                f"{table.path}: column '{name}' seems to number the rows, and is learnt from: leave it out "
                f"(--ignore {shlex.quote(name)})",
                stacklevel=3,
            )
    constant = [name for name in names if np.nanmin(table.numbers(name)[rows]) == np.nanmax(table.numbers(name)[rows])]
    if constant:
        warnings.warn(
            f"{table.path}: column {quoted(constant, 5)} never varies in the rows to learn from: what other values "
            f"would mean cannot be learnt (--ignore {shlex.quote(','.join(constant[:5]))})",
            stacklevel=3,
        )


def check_magnitude(X: np.ndarray, source: str) -> None:
    """Warn where the numbers of an array that is taken as it is are far from 1, by some thousand rows all over it."""
    with np.errstate(over="ignore"):
        size = np.sqrt(np.square(X[:: max(1, len(X) // 1024)], dtype=np.float64).mean())
    if not SMALL <= size <= LARGE:
        warnings.warn(
            f"{source}: a memory map is taken as it is, and its numbers, about {size:.3g}, are far from 1: scale each "
            "column to about 1, or save X and y in one .npz, whose columns are standardised",
            stacklevel=3,
        )


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation along the first axis without the missing values; 1 for a constant's deviation."""
    with np.errstate(over="ignore", invalid="ignore"):
        present = ~np.isnan(values)
        count = present.sum(axis=0)
        mean = values.sum(axis=0, where=present) / count
        squares = np.square(values - mean).sum(axis=0, where=present)
        return mean, _varying(np.sqrt(squares / count), mean)


def _columns_of(
    table: Table, names: Sequence[str], rows: Rows, text: Sequence[str]
) -> tuple[list[str], dict[str, tuple[str, ...]]]:
    """The columns to learn from, and the categories of those that are text."""
    table.check_columns([*names, *text])
    texts = [name for name in names if name in text or not table.is_number(name)]
    found = {name: _categories(table, name, rows, name in text) for name in texts}
    categories = {name: kinds for name, kinds in found.items() if kinds is not None}
    for name in [name for name in categories if name not in text]:
        table.warn_of_numbers(name)
    left = [name for name in names if name in categories or name not in found]
    if not left:
        raise DataError(f"{table.path}: no column is left to learn from")
    return left, categories


def _table_moments(
    table: Table, names: Sequence[str], rows: Rows, categories: Collection[str]
) -> tuple[np.ndarray, np.ndarray]:
    """`moments` of each column; 0 and 1 of one of categories."""
    mean, deviation = np.zeros(len(names)), np.ones(len(names))
    for i, name in enumerate(names):
        if name not in categories:
            mean[i], deviation[i] = moments(table.numbers(name)[rows])
            if np.isnan(mean[i]):
                raise DataError(f"{table.path}: column '{name}' has no value in the rows to train on")
    return mean, deviation


def _array_moments(X: np.ndarray, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """`moments` of each column of X[rows], in float64 and block by block."""
    index = np.arange(len(X))[rows]
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(X[index[block]].sum(axis=0, dtype=np.float64) for block in _blocks(len(index))) / len(index)
        squares = sum(np.square(X[index[block]] - mean).sum(axis=0) for block in _blocks(len(index)))
        return mean, _varying(np.sqrt(squares / len(index)), mean)


def _varying(deviation: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """The deviation, 1 where it is no more than the rounding error of the mean: the column is constant."""
    return np.where(deviation <= 8 * np.finfo(np.float64).eps * np.abs(mean), 1.0, deviation)


def _blocks(n_rows: int) -> Iterator[slice]:
    return (slice(start, start + BLOCK_ROWS) for start in range(0, n_rows, BLOCK_ROWS))
