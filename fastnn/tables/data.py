"""Data sets from files: a CSV, `.npz`, a pair of `.npy`, a folder of MNIST's IDX files, and scikit-learn's own.

`load` opens what the command line calls DATA; `Dataset.split` sets rows aside for validation.
"""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import warnings
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fastnn.files import DataError, npy, open_file, read_exactly, reading
from fastnn.tables.table import Table, quoted, read_csv

SKLEARN_NAMES = ("iris", "wine", "breast_cancer", "digits", "diabetes", "moons")

_CHECK_NUMBERS = 1 << 20


@dataclass(frozen=True)
class Dataset:
    """Rows of inputs, with their targets where there are any.

    Parameters
    ----------
    source : str
        The file, folder or name it came from.
    inputs : Table or ndarray (n, columns)
        A table, or finite numbers of any real dtype, which may be memory-mapped.
    target : ndarray (n,) or (n, outputs), or None
        Numbers or text, or for several outputs numbers. None where the source has no target.
    names : tuple of str
        The columns that are inputs.
    target_name : str
        The column that is the target.
    """

    source: str
    inputs: Table | np.ndarray
    target: np.ndarray | None
    names: tuple[str, ...]
    target_name: str = "y"

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def memory_mapped(self) -> bool:
        """Whether the inputs stay on disk, to be read as they are needed."""
        return isinstance(self.inputs, np.memmap)

    def where(self, row: int) -> str:
        """The place of a row for messages."""
        if isinstance(self.inputs, Table):
            return f"{self.source}: line {self.inputs.lines[row]}"
        return f"{self.source}: row {row}"

    def where_target(self, row: int) -> str:
        """The place of a row's target for messages."""
        if isinstance(self.inputs, Table):
            return self.inputs.where(row, self.target_name)
        return f"{self.where(row)} of {self.target_name}"

    def split(
        self, fraction: float, labels: np.ndarray | None = None, seed: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Divide the rows into those to train on and those to validate on.

        Parameters
        ----------
        fraction : float
            The share of the rows to validate on, of which there are int(fraction * n).
        labels : ndarray (n,), optional
            Classes, which then have the same proportions on both sides.
        seed : int, optional
            What the rows are drawn by.

        Returns
        -------
        train, validation : ndarray of int64
            The numbers of the rows, sorted.
        """
        n, n_validation = len(self), int(fraction * len(self))
        order = np.random.default_rng(seed).permutation(n)
        if labels is not None:
            order = order[np.argsort(labels[order], kind="stable")]
        # Every n / n_validation-th row of that order: with the rows grouped by class, a share of each class.
        chosen = ((np.arange(n_validation) + 0.5) * n / max(n_validation, 1)).astype(np.int64)
        validation = np.zeros(n, bool)
        validation[order[chosen]] = True
        return np.flatnonzero(~validation), np.flatnonzero(validation)


def load(
    source: str | PathLike[str],
    targets: str | PathLike[str] | None = None,
    *,
    target: str | None = None,
    part: str = "train",
    ignore: Collection[str] = (),
    text_target: bool = False,
) -> Dataset:
    """Open a data set. Nothing is scaled or encoded yet.

    Parameters
    ----------
    source : str or path-like
        A CSV file; an `.npz` with X and, where there is one, y; an `.npy`, which is memory-mapped; a folder of MNIST's
        IDX files; or one of SKLEARN_NAMES.
    targets : str or path-like, optional
        The `.npy` file with the targets of an `.npy`.
    target : str, optional
        The column of a CSV to predict. Without it no target is read.
    part : str
        Of a folder of IDX files "train" takes train-* and "test" t10k-*, or what there is.
    ignore : collection of str
        Columns of a CSV to leave out.
    text_target : bool
        Whether the target of a CSV is taken as text even if it is all numbers.

    Returns
    -------
    Dataset
        The rows, with their targets where there are any.

    Raises
    ------
    DataError
        For data that cannot be used.
    OSError
        For a file that cannot be read.
    ImportError
        For one of SKLEARN_NAMES without scikit-learn.
    """
    path = Path(source)
    if targets is not None and path.suffix != ".npy":
        raise DataError(f"{path}: a second file holds the targets of an .npy file only, got {fspath(targets)}")
    if path.is_dir():
        return _load_idx(path, part)
    name = fspath(source).replace("-", "_")
    if not path.exists():
        if name in SKLEARN_NAMES:
            return _load_sklearn(name)
        raise DataError(f"{path}: no such file or folder, nor one of the data sets {', '.join(SKLEARN_NAMES)}")
    match path.suffix.lower():
        case ".npz":
            return _load_npz(path)
        case ".npy":
            return _load_npy(path, None if targets is None else Path(targets))
        case ".csv" | ".tsv" | ".txt":
            return _load_csv(path, target, ignore, text_target)
    raise DataError(f"{path}: expected a .csv, .tsv, .txt, .npz or .npy file, or a folder of IDX files")


def _load_csv(path: Path, target: str | None, ignore: Collection[str], text_target: bool) -> Dataset:
    table = read_csv(path)
    table.check_columns([*ignore, *([] if target is None else [target])])
    names = tuple(name for name in table.columns if name != target and name not in ignore)
    if not names:
        raise DataError(f"{path}: no column is left to learn from")
    if target is None:
        return Dataset(str(path), table, None, names)
    return Dataset(str(path), table, table.target(target, text_target), names, target)


def _load_npz(path: Path) -> Dataset:
    with reading(path, "is damaged or not a .npz file"), open_file(path) as file:
        archive = npy.Archive(file)
        if "X" not in archive.names:
            raise DataError(f"{path}: no array named X; the arrays are {quoted(archive.names)}")
        names = [name for name in ("X", "y") if name in archive.names]
        _check_shapes(*(archive.header(name) for name in names), where_X=f"{path}: X", where_y=f"{path}: y")
        arrays = [archive.read(name) for name in names]
    return _arrays(str(path), *arrays, where_X=f"{path}: X", where_y=f"{path}: y")


def _load_npy(path: Path, targets: Path | None) -> Dataset:
    arrays = [_map_npy(name) for name in (path, targets) if name is not None]
    _check_shapes(*arrays, where_X=str(path), where_y=str(targets))
    return _arrays(str(path), *arrays[:1], *map(np.array, arrays[1:]), where_X=str(path), where_y=str(targets))


def _map_npy(path: Path) -> np.ndarray:
    with reading(path, "is damaged or not a .npy file"), open_file(path) as file:
        return npy.map_file(file)


def _load_idx(folder: Path, part: str) -> Dataset:
    prefixes = ("train", "t10k") if part == "train" else ("t10k", "train")
    for prefix in prefixes:
        images, labels = (_find(folder, f"{prefix}-{kind}") for kind in ("images", "labels"))
        if images is not None:
            if part == "test" and prefix == "train":
                warnings.warn(f"{folder}: there is no t10k-images*: the rows to train on are taken", stacklevel=3)
            with contextlib.ExitStack() as stack:
                files = [_IdxFile(path, stack) for path in (images, labels) if path is not None]
                if len(files) == 2 and files[1].ndim != 1:
                    raise DataError(f"{labels}: expected labels (n,), got shape {files[1].shape}")
                _check_shapes(*files, where_X=str(images), where_y=str(labels))
                arrays = [file.read() for file in files]
            return _arrays(str(folder), *arrays, where_X=str(images), where_y=str(labels))
    raise DataError(f"{folder}: no train-images* or t10k-images* file of MNIST's in this folder")


def _find(folder: Path, prefix: str) -> Path | None:
    """The IDX file of that prefix, the one that is not compressed first."""
    return min(folder.glob(f"{prefix}*ubyte*"), key=lambda path: path.suffix == ".gz", default=None)


class _IdxFile:
    """An IDX file of bytes: 0, 0, 8 (bytes), the number of axes, their sizes as big-endian int32, then the values."""

    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, stack: contextlib.ExitStack) -> None:
        self._path = path
        with self._reading():
            file = stack.enter_context(open_file(path))
            self._file: Any = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            start = bytes(read_exactly(self._file, 4))
            if start[:3] != b"\0\0\x08":
                raise ValueError(f"it begins with 0x{start.hex()}")
            self.shape: tuple[int, ...] = struct.unpack(f">{start[3]}i", read_exactly(self._file, 4 * start[3]))
            self.ndim = len(self.shape)
            expected = 4 + 4 * self.ndim + math.prod(self.shape)
            if min(self.shape, default=-1) < 0 or (self._file is file and file.size != expected):
                raise ValueError(f"{file.size} bytes where its header tells of {expected}")

    def _reading(self) -> contextlib.AbstractContextManager[None]:
        return reading(self._path, "is damaged or not an IDX file of bytes")

    def read(self) -> np.ndarray:
        with self._reading():
            content = read_exactly(self._file, math.prod(self.shape))
            if self._file.read(1):  # the last read also has gzip compare its checksum
                raise ValueError(f"more follows than its header tells of, shape {self.shape}")
            return np.frombuffer(content, np.uint8).reshape(self.shape)


def _load_sklearn(name: str) -> Dataset:
    try:
        from sklearn import datasets
    except ImportError:
        message = f'the data set {name} needs scikit-learn: pip install "fastnn-numba[recipes]"'
        raise ImportError(message) from None
    if name == "moons":
        X, y = datasets.make_moons(1000, noise=0.2, random_state=0)
        return Dataset(name, X, y, ("x0", "x1"), "moon")
    return _bunch(name, datasets)


def _bunch(name: str, datasets: ModuleType) -> Dataset:
    bunch = getattr(datasets, f"load_{name}")()
    y = bunch.target
    if "target_names" in bunch:
        names = np.asarray(bunch.target_names)
        y = names[y].astype(object) if names.dtype.kind == "U" else names[y]
    return Dataset(name, bunch.data, y, tuple(bunch.feature_names), "target")


def _check_shapes(X: Any, y: Any = None, *, where_X: str, where_y: str) -> None:
    """DataError unless these have the shapes and the dtypes of a data set: arrays, or what their files say of them."""
    if X.ndim < 2 or 0 in X.shape:
        raise DataError(f"{where_X}: expected rows of numbers, an array (n, columns), got shape {X.shape}")
    _check_real(X, where_X)
    if y is None:
        return
    if y.ndim not in (1, 2) or 0 in y.shape[1:]:
        raise DataError(f"{where_y}: expected targets (n,) or (n, outputs), got shape {y.shape}")
    if y.shape[0] != X.shape[0]:
        raise DataError(f"{where_y}: {y.shape[0]} targets for {X.shape[0]} rows")
    if y.dtype.kind != "U" or y.ndim != 1:
        _check_real(y, where_y)


def _check_real(array: Any, where: str) -> None:
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise DataError(f"{where}: expected real numbers of at most 64 bits, got dtype {array.dtype}")


def _arrays(source: str, X: np.ndarray, y: np.ndarray | None = None, *, where_X: str, where_y: str) -> Dataset:
    """A data set of two arrays that passed _check_shapes; X (n, ...) becomes (n, columns) without a copy."""
    if X.ndim > 2 and not X.flags.c_contiguous:
        raise DataError(f"{where_X}: an array of {X.ndim} axes must be in C order")
    X = X.reshape(len(X), -1) if X.ndim > 2 else X
    _check_finite(X, where_X)
    if y is not None:
        if y.dtype.kind == "U":
            y = y.astype(object)
        else:
            _check_finite(y, where_y)
    return Dataset(source, X, y, tuple(f"x{i}" for i in range(X.shape[1])))


def _check_finite(array: np.ndarray, where: str) -> None:
    """DataError unless all numbers of a contiguous array are finite; looks at blocks, in the order they lie in."""
    if array.dtype.kind != "f":
        return
    flat = array.ravel(order="K")
    for start in range(0, len(flat), _CHECK_NUMBERS):
        finite = np.isfinite(flat[start : start + _CHECK_NUMBERS])
        if not finite.all():
            place = np.unravel_index(
                start + int(np.argmin(finite)), array.shape, "C" if array.flags.c_contiguous else "F"
            )
            row, *column = map(int, place)
            raise DataError(
                f"{where}: row {row}" + "".join(f", column {i}" for i in column) + f": {array[place]} is not finite"
            )
