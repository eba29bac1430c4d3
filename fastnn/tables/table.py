"""CSV files. Read as columns of text, with the place of every cell kept for the messages; and written.

The first line is the header. The delimiter is the one of comma, semicolon, tab and bar that divides it into the most
columns, unless a line before it names one, as Excel's sep=; does. Lines of nothing but blanks are skipped, blanks
around a cell are dropped, and a cell of `MISSING` is a missing value; where it is a line's only one, it has to be
written, as "". Where another delimiter than the comma separates the cells, all numbers of a column may have a decimal
comma, as in 1234,5. A column whose only points or commas could stand for thousands, as in 1.234, is refused unless the
file tells what they are.
"""

from __future__ import annotations

import codecs
import csv
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from os import PathLike, fspath
from typing import Any, BinaryIO, TextIO

import numpy as np

from fastnn.files import LONGEST_LINE, BoundedReader, DataError, append, open_file, reading, replace
from kernels.process import forks

MISSING = frozenset(["", "NA", "N/A", "n/a", "<NA>", "NaN", "nan", "-nan", "null", "NULL", "None", "?"])

# A column with at most this share of texts among its values is a number column with mistakes in it, not a text column.
MISTAKES = 0.1

# The columns that a file may have, and then some: a cell of one byte takes 100 in memory.
MOST_CELLS = 1 << 17

# A number as spreadsheets write them somewhere: 1234,5 or 1.234,5 or 1,234.5 or 1'234.5 or 12,34,567
_DIGITS = r"(\d+|\d{1,3}([.,'\u2019\s]\d{3})+|\d{1,2}(,\d{2})+,\d{3})([.,]\d+)?"
WRITTEN_NUMBER = re.compile(rf"[-+]?{_DIGITS}")

# The same with what may stand around it: a currency, a percent sign, quotes, a minus that is none of ASCII's, brackets.
_AROUND = r"([-+\u2212\u2013()\"'%\u2030$\u20ac\u00a3\u00a5\u20b9\s]|USD|EUR|GBP|CHF|JPY|CNY|INR|Rs\.?)*"
MARKED_NUMBER = re.compile(_AROUND + _DIGITS + _AROUND)

# Digits of which a point or a comma could divide thousands or decimals
_THOUSANDS = {mark: re.compile(rf"[-+]?[1-9]\d{{0,2}}({re.escape(mark)}\d{{3}})+") for mark in ".,"}

# The two, each with the other one
_MARKS = ((".", ","), (",", "."))

# Numbers with that mark before the decimals, and the other one, if any, between thousands
_WRITTEN_WITH = {
    mark: re.compile(
        rf"[-+]?(?=[.,\d])(\d+|[1-9]\d{{0,2}}({re.escape(other)}\d{{3}})+)?({re.escape(mark)}\d+)?([eE][-+]?\d+)?"
    )
    for mark, other in _MARKS
}

# A point between day and month, month and year, or hour and minute stands before no decimals.
_DATE = re.compile(r"(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])|(0?[1-9]|1[0-2])\.(19|20)\d\d|([01]?\d|2[0-4])\.[0-5]\d")

# What stands before the decimals where this divides the cells, and nothing else in the file says it
_USUAL_MARK = {",": ".", ";": ","}


@dataclass(frozen=True)
class Table:
    """Cells of a CSV file, column by column.

    columns:   name -> the column's cells as text, in the file's order, each list as long as `lines`.
    lines:     the line of the file (from 1) in which each row ends.
    delimiter: what divides the cells. Where it is no comma, numbers may have a decimal comma, in all of a column.
    """

    path: str
    columns: dict[str, list[str]]
    lines: list[int]
    delimiter: str = ","
    _parsed: dict[str, np.ndarray | None] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.lines)

    def where(self, row: int, name: str) -> str:
        """The place of a cell as messages name it."""
        return f"{self.path}: line {self.lines[row]}, column '{name}'"

    def check_columns(self, names: list[str]) -> None:
        """DataError unless the table has every column of `names`."""
        absent = [name for name in names if name not in self.columns]
        if absent:
            raise DataError(
                f"{self.path}: line 1 has no column {quoted(absent)}; the columns are {quoted(self.columns)}"
                + (" (the first line must name the columns)" if all(map(_is_number, self.columns)) else "")
            )

    def is_number(self, name: str) -> bool:
        """Whether every value of the column reads as a number.

        DataError where there is no value, where all but a few are numbers, and where the numbers could be several or
        have more to them than digits.
        """
        numbers = self._parse(name)
        if numbers is not None and not np.isnan(numbers).all():
            return True
        values = [(row, cell) for row, cell in enumerate(self.columns[name]) if cell not in MISSING]
        read = self._reader(name)
        texts = [(row, cell) for row, cell in values if not _is_number(cell, read)]
        if not values:
            raise DataError(f"{self.path}: column '{name}' has no value at all; leave it out (--ignore {name})")
        others = [(row, cell) for row, cell in texts if not MARKED_NUMBER.fullmatch(cell)]
        if texts and not others:
            row, cell = texts[0]
            raise DataError(f"{self.where(row, name)}: {_to_be_written(cell)}; or read it as text (--text {name})")
        if texts and len(texts) <= MISTAKES * len(values):
            row, cell = texts[0]
            raise DataError(
                f"{self.where(row, name)}: {cell!r} is not a number, as {len(values) - len(texts)} of the column's "
                f"{len(values)} values are; mend it, or read the column as text (--text {name})"
            )
        return not texts

    def warn_of_numbers(self, name: str) -> None:
        """Warn of a text column that looks like numbers in part."""
        values = [(row, cell) for row, cell in enumerate(self.columns[name]) if cell not in MISSING]
        read = self._reader(name)
        others = [(r, cell) for r, cell in values if not _is_number(cell, read) and not MARKED_NUMBER.fullmatch(cell)]
        if len(others) < (1 - MISTAKES) * len(values):
            row, cell = others[0]
            warnings.warn(
                f"{self.where(row, name)}: {cell!r} is not a number, as {len(values) - len(others)} of the column's "
                f"{len(values)} values seem to be: it is taken as text; mend it, or say so (--text {name})",
                stacklevel=3,
            )

    def numbers(self, name: str) -> np.ndarray:
        """The column as float64 (rows,), NaN where the cell is missing. DataError at a text, NaN or infinity."""
        cells, numbers = self.columns[name], self._parse(name)
        if numbers is None:
            read = self._reader(name)
            row = next(i for i, cell in enumerate(cells) if cell not in MISSING and not _is_number(cell, read))
            marked = MARKED_NUMBER.fullmatch(cells[row])
            what = _to_be_written(cells[row]) if marked else f"expected a number, got {cells[row]!r}"
            raise DataError(f"{self.where(row, name)}: {what}")
        for row in np.flatnonzero(~np.isfinite(numbers)).tolist():
            if cells[row] not in MISSING:
                place = self.where(row, name)
                raise DataError(f"{place}: {cells[row]!r} is not finite; a missing value is an empty cell")
        return numbers

    def _parse(self, name: str) -> np.ndarray | None:
        """The column as float64, NaN where the cell is missing, None if one is a text; kept for the next call."""
        if name not in self._parsed:
            mark = self._mark(name)
            read = _READERS[mark]
            try:
                values = [math.nan if cell in MISSING else read(cell) for cell in self.columns[name]]
            except ValueError:
                self._parsed[name] = None
            else:
                self._check_mark(name, mark)
                self._parsed[name] = np.array(values)
        return self._parsed[name]

    def _reader(self, name: str) -> Callable[[str], float]:
        """What reads the numbers of a column, or raises ValueError."""
        return _READERS[self._mark(name)]

    def _mark(self, name: str) -> str:
        """What stands before the decimals of a column if it is one of numbers."""
        return "," if self.delimiter != "," and any("," in cell for cell in self.columns[name]) else "."

    def _check_mark(self, name: str, mark: str) -> None:
        """DataError where each point (or comma) of the column could divide thousands, unless the file tells otherwise.

        It tells by its delimiter, and by other columns unless any of them has the other mark before decimals.
        """
        cells, groups = self.columns[name], _THOUSANDS[mark]
        first = next((row for row, cell in enumerate(cells) if mark in cell), None)
        if first is None or not all(groups.fullmatch(cell) for cell in cells if mark in cell):
            return
        other = "." if mark == "," else ","
        usual = _USUAL_MARK.get(self.delimiter) == mark
        marks, hints = self._decimal_marks
        if (usual or mark in marks) and other not in hints:
            return
        cell = cells[first]
        raise DataError(
            f"{self.where(first, name)}: {cell!r} could be {cell.replace(mark, '')} or "
            f"{_READERS[mark](cell):.12g}; write the column without separators of thousands or, if those are decimals, "
            f"{cell}0 here; or read it as text (fastnn train --text {name})"
        )

    @forks.cached
    def _decimal_marks(self) -> tuple[set[str], set[str]]:
        """Which of the point and the comma stands before decimals in the file: what surely does, and what may.

        Surely: in a column of nothing but such numbers, or beside the other mark. A comma in any cell that reads so
        may. Points are in too many texts, as those of versions, for that.
        """
        marks, hints = set(), set()
        for cells in self.columns.values():
            values = set(cells) - MISSING
            for mark, other in [pair for pair in _MARKS if pair[0] not in marks]:
                said = [cell for cell in values if _has_decimals(cell, mark, other)]
                if any("," in cell for cell in said):
                    hints.add(mark)
                if any(mark in cell and other in cell for cell in said) or (
                    said and all(map(_WRITTEN_WITH[mark].fullmatch, values)) and not all(map(_DATE.fullmatch, values))
                ):
                    marks.add(mark)
        return marks, hints | marks

    def texts(self, name: str) -> np.ndarray:
        """The column as an object array (rows,) of str, '' where the cell is missing."""
        return np.array(["" if cell in MISSING else cell for cell in self.columns[name]], dtype=object)

    def target(self, name: str, text: bool = False) -> np.ndarray:
        """The column as `numbers` where all of it are and `text` is false, else as `texts`. No cell may be missing."""
        for row, cell in enumerate(self.columns[name]):
            if cell in MISSING:
                raise DataError(f"{self.where(row, name)}: the target is missing")
        if text:
            return self.texts(name)
        if self.is_number(name):
            return self.numbers(name)
        self.warn_of_numbers(name)
        return self.texts(name)


def read_csv(path: str | PathLike[str]) -> Table:
    """Read a CSV file with a header, in UTF-8, or in UTF-16 where that begins with its mark.

    A first column without a name, as pandas writes an index, is left out, and so are others without a name that have no
    value, as a delimiter at the end of every line makes one. Raises DataError for a file that is empty or without rows,
    an unnamed column with values, a repeated name, and a line with more or fewer cells than the header; OSError where
    the file cannot be read.
    """
    path = fspath(path)
    lines: list[int] = []
    with reading(path, "is damaged or not a CSV file"), open_file(path) as content:
        file = io.TextIOWrapper(content, _encoding(content), newline="")
        try:
            named = re.fullmatch(r'"?sep=(.)"?\s*', file.readline())
            delimiter = named[1] if named else max(",;\t|", key=lambda delimiter: _n_columns(file, delimiter))
            file.seek(0)
            record = _Lines(file, delimiter)
            reader = csv.reader(record, delimiter=delimiter, strict=True)
            if named:
                next(reader)
            names = [name.strip() for name in next(reader, [])]
            _check_header(path, names, reader.line_num)
            columns = list(zip(*_rows(path, reader, record, names, lines), strict=True))
        except csv.Error as error:
            raise DataError(f"{path}: line {reader.line_num}: not a CSV file: {error}") from None
        except UnicodeDecodeError as error:
            wrong = f"{error.reason} {error.object[error.start]:#04x}"
            raise DataError(f"{path}: not a text file in UTF-8: {wrong}; save it as one (Excel's CSV UTF-8)") from None
    if not lines:
        raise DataError(f"{path}: line 1 is the header, and no row follows it")
    names = names[: len(columns)]
    for position, (name, column) in enumerate(zip(names, columns, strict=True), 1):
        if not name and position > 1 and any(column):
            raise DataError(f"{path}: line 1, column {position} has no name")
    cells = {name: list(column) for name, column in zip(names, columns, strict=True) if name}
    return Table(path, cells, lines, delimiter)


def write_csv(path: str | PathLike[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write rows to a CSV file, in UTF-8, whole or not at all. An OSError names the file, on a full disk too."""

    def write(file: BinaryIO) -> None:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        text.detach()

    replace(path, write)


def append_csv(path: str | PathLike[str], rows: Iterable[Iterable[Any]]) -> None:
    """Add rows to a CSV file, in UTF-8, all or none. An OSError names the file, on a full disk too."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    append(path, text.getvalue().encode())


def quoted(names: object, limit: int = 20) -> str:
    """`'a', 'b'`: names as messages list them, the first `limit` of them."""
    listed = [f"'{name}'" for name in names]  # type: ignore[attr-defined]
    return ", ".join(listed[:limit]) + (f", and {len(listed) - limit} more" if len(listed) > limit else "")


def _encoding(file: BoundedReader) -> str:
    """UTF-8, or UTF-16, which begins with a mark, as Excel's "Unicode text" does."""
    return "utf-16" if file.peek(2)[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


class _Lines:
    """The lines of a file, of which csv.reader takes several for a record: those of one have a bound together.

    ValueError where they have more than LONGEST_LINE characters or MOST_CELLS delimiters, before they are parsed.
    """

    def __init__(self, file: TextIO, delimiter: str) -> None:
        self._file, self._delimiter = file, delimiter
        self.begin()

    def begin(self) -> None:
        """Another record follows."""
        self._length = self._n_delimiters = 0

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self._length += len(line)
            self._n_delimiters += line.count(self._delimiter)
            if self._length > LONGEST_LINE:
                raise ValueError(f"a row is longer than {LONGEST_LINE} characters")
            if self._n_delimiters > MOST_CELLS:
                raise ValueError(f"a row has more than {MOST_CELLS} times {self._delimiter!r}")
            yield line


def _n_columns(file: TextIO, delimiter: str) -> int:
    """Into how many columns a delimiter divides the header, of which a quoted cell is one, whatever is in it."""
    file.seek(0)
    try:
        return len(next(csv.reader(_Lines(file, delimiter), delimiter=delimiter, strict=True), []))
    except csv.Error:
        return 0


def _check_header(path: str, names: list[str], n_lines: int) -> None:
    if n_lines == 0:
        raise DataError(f"{path}: the file is empty")
    if not any(names):
        raise DataError(f"{path}: line 1 is blank; the first line must name the columns")
    places: dict[str, int] = {}
    for position, name in enumerate(names, 1):
        first = places.setdefault(name, position)
        if name and first != position:
            raise DataError(f"{path}: line 1, columns {first} and {position} have the same name '{name}'")


def _rows(
    path: str, reader: Iterator[list[str]], record: _Lines, names: list[str], lines: list[int]
) -> Iterator[list[str]]:
    """The rows behind the header, each up to the last named column; the line of each is appended to `lines`."""
    width = max(position for position, name in enumerate(names, 1) if name)
    record.begin()
    for row in reader:
        record.begin()
        line = reader.line_num  # type: ignore[attr-defined]
        if not row or (len(row) == 1 and row[0].isspace()):
            continue
        if any("\0" in cell for cell in row):
            raise DataError(f"{path}: line {line}: a byte of 0, which no text has: the file is damaged")
        absent = [name for name in names[len(row) :] if name]
        if absent or len(row) > len(names):
            what = f"no cell for column '{absent[0]}'" if absent else f"'{row[len(names)]}' too many"
            raise DataError(f"{path}: line {line}: {len(row)} cells where the header has {len(names)}: {what}")
        lines.append(line)
        for position, cell in enumerate(row[width:], width + 1):
            if cell.strip():
                raise DataError(f"{path}: line 1, column {position} has no name")
        yield [cell.strip() for cell in row[:width]] + [""] * (width - len(row))


def _number(cell: str) -> float:
    """The number of a cell; ValueError for 2020_1, which Python takes for one."""
    return float(cell.replace("_", "?"))


def _with_comma(cell: str) -> float:
    """The number of a cell as 1234,5; ValueError for a point, which could be anything."""
    return _number(cell.replace(".", "?").replace(",", "."))


_READERS = {".": _number, ",": _with_comma}


def _to_be_written(cell: str) -> str:
    """What is wrong with a number that has more to it than digits, and what is right."""
    what = "could be several numbers" if WRITTEN_NUMBER.fullmatch(cell) else "is not written as a plain number"
    return f"{cell!r} {what}; write 1234.5 or, where semicolons or tabs separate the cells, in all of the column 1234,5"


def _has_decimals(cell: str, mark: str, other: str) -> bool:
    """Whether the cell is a number with that mark before the decimals, and could be none with the other one there."""
    may = mark in cell or cell.count(other) > 1  # most cells cannot, and this is quick
    return may and bool(_WRITTEN_WITH[mark].fullmatch(cell)) and not _WRITTEN_WITH[other].fullmatch(cell)


def _is_number(cell: str, read: Callable[[str], float] = _number) -> bool:
    try:
        read(cell)
    except ValueError:
        return False
    return True
