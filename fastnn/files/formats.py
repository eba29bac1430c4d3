"""Model files: named arrays and metadata, by suffix .npz (NumPy's) or .safetensors.

Both hold the arrays under their names and, as text, the marker "fastnn", the format's version and the metadata as JSON:
.npz in one more array, `metadata` (its UTF-8 bytes), .safetensors in its own string map. Neither runs code from a file.
Damage is found: by the checksums of .npz, and by one of ours in the string map of .safetensors.
"""

import io
import json
import os
import re
import reprlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from fastnn.files import npy
from fastnn.files.read import BoundedReader, DataError, open_file, read_exactly, reading
from fastnn.files.write import replace

MARKER = "fastnn"
VERSION = 1

# In bytes of JSON, with what a .safetensors says of its arrays: parsed, that can take 30 times as much memory.
LONGEST_METADATA = 1 << 20
_MOST_DIGITS = 4300  # Python's own limit, which json.dumps keeps to, too

Arrays = dict[str, np.ndarray]


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write `arrays` (bool, integer or real numbers, up to 8 bytes each) and `metadata` (JSON-able) to `path`.

    The file appears whole or not at all: an error, a full disk say, leaves what was there before. Raises ValueError for
    an unknown suffix, a name that is taken or metadata above LONGEST_METADATA bytes, TypeError for what cannot be
    written, ImportError for .safetensors without that package, OSError from the file system.
    """
    write = _FORMATS[check_suffix(path)].write
    plain = {name: _plain_array(name, array) for name, array in arrays.items()}
    try:
        text = json.dumps(dict(metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be JSON-able: {error}") from error
    replace(path, lambda file: write(file, plain, text))


def load_arrays(path: str | os.PathLike) -> tuple[Arrays, dict[str, Any]]:
    """Read what save_arrays wrote: (arrays, metadata). Raises what `open_arrays` does."""
    with open_arrays(path) as file:
        return {name: file.read(name) for name in file.names}, file.metadata


class ArrayFile:
    """What save_arrays wrote, read through one handle.

    metadata: what was saved as such. names: of the arrays.
    """

    def __init__(self, path: str | os.PathLike, content: "_Reader", metadata: dict[str, Any]) -> None:
        self._path, self._content, self.metadata = path, content, metadata
        self.names = list(content.names)

    def read(self, name: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """An array, compared with `shape` before memory is taken for it.

        Raises ValueError where there is none of this name and shape, DataError where it is damaged.
        """
        if name not in self._content.names:
            raise ValueError(f"{name} is missing")
        with reading(self._path, _damaged(self._path)):
            found = self._content.shape(name)
        if shape is not None and found != shape:
            raise ValueError(f"{name} must have shape {shape}, got {found}")
        with reading(self._path, _damaged(self._path)):
            return self._content.read(name)


@contextmanager
def open_arrays(path: str | os.PathLike) -> Iterator[ArrayFile]:
    """Open what save_arrays wrote.

    Raises ValueError for an unknown suffix, DataError for a damaged file, a file that is not fastnn's and one of a
    newer version, ImportError for .safetensors without that package, OSError from the file system.
    """
    reader = _FORMATS[check_suffix(path)].reader
    with open_file(path) as file:
        with reading(path, _damaged(path)):
            content = reader(file)
            header = content.header()
        yield ArrayFile(path, content, _checked_metadata(path, header))


def entry(values: Any, name: str, kind: type) -> Any:
    """An entry of metadata that must be there and of this kind; ValueError where it is not."""
    if name not in values:
        raise ValueError(f"{name} is missing")
    if not isinstance(values[name], kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {values[name]!r}")
    return values[name]


def entries(values: Any, name: str, kinds: Any, length: int | None = None) -> list[Any]:
    """An entry of metadata that must be a list, of this length if one is given, and all of these kinds."""
    found = entry(values, name, list)
    if length is not None and len(found) != length:
        raise ValueError(f"{name} must have {length} entries, got {len(found)}")
    for value in found:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise ValueError(f"{name} must not hold {value!r}")
    return found


def numbers(values: Any, name: str, length: int | None = None) -> np.ndarray:
    """An entry of metadata that must be a list of finite numbers, as float64."""
    found = np.array(entries(values, name, (int, float), length), np.float64)
    if not np.isfinite(found).all():
        raise ValueError(f"{name} must hold finite numbers")
    return found


def check_suffix(path: str | os.PathLike) -> str:
    """The suffix of a model file's path, in lower case; ValueError if it is none of those known."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a str or PathLike, got {path!r}")
    suffix = Path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise ValueError(f"path must end in {' or '.join(_FORMATS)}, got {os.fspath(path)!r}")
    return suffix


def _plain_array(name: str, array: np.ndarray) -> np.ndarray:
    """`array` as both formats take it: numbers, little-endian, contiguous (safetensors writes memory as it lies)."""
    if not isinstance(name, str) or name in ("", "metadata", "__metadata__"):
        raise ValueError(f"arrays: {name!r} cannot be the name of an array")
    array = np.asarray(array, order="C")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(f"arrays: {name!r} must hold bool, integer or real numbers, got dtype {array.dtype}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


def _damaged(path: str | os.PathLike) -> str:
    return f"is damaged or not a {check_suffix(path)} file"


def _checked_metadata(path: str | os.PathLike, header: Any) -> dict[str, Any]:
    """The metadata of a header {"format": MARKER, "version": VERSION, "metadata": {...}} from whatever source."""
    if not isinstance(header, dict) or header.get("format") != MARKER:
        raise DataError(f"{path} was not written by fastnn: it lacks the format marker {MARKER!r}")
    version, metadata = header.get("version"), header.get("metadata")
    if isinstance(version, int) and version > VERSION:
        raise DataError(
            f"{path} has format version {reprlib.repr(version)}, newer than {VERSION}: read it with a newer fastnn"
        )
    if version != VERSION or not isinstance(metadata, dict):
        found = f"version {reprlib.repr(version)} and metadata of type {type(metadata).__name__}"
        raise DataError(f"{path} is damaged: it has {found}")
    return metadata


class _Reader(Protocol):
    """A format's content, read as it is asked for."""

    names: Any  # a container: of the arrays

    def __init__(self, file: BoundedReader) -> None: ...

    def header(self) -> Any:
        """{"format": MARKER, "version": VERSION, "metadata": {...}}, or anything else in another program's file."""

    def shape(self, name: str) -> tuple[int, ...]: ...

    def read(self, name: str) -> np.ndarray: ...


def _check_length(n_bytes: int) -> None:
    """ValueError for metadata that could not be read again."""
    if n_bytes > LONGEST_METADATA:
        raise ValueError(f"metadata must have at most {LONGEST_METADATA} bytes as JSON in the file, got {n_bytes}")


def _parse(text: str | bytes) -> Any:
    """What JSON says; ValueError where that is none."""
    try:
        return json.loads(text, parse_int=_integer)
    except RecursionError as error:
        raise ValueError("its metadata are nested too deeply") from error


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"its metadata have a number of {len(digits)} digits")
    return int(digits)


def _write_npz(file: BinaryIO, arrays: Arrays, metadata: str) -> None:
    header = f'{{"format": "{MARKER}", "version": {VERSION}, "metadata": {metadata}}}'
    _check_length(len(header))  # json.dumps writes ASCII
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in {**arrays, "metadata": np.frombuffer(header.encode(), np.uint8)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


class _NpzReader:
    def __init__(self, file: BoundedReader) -> None:
        self._archive = npy.Archive(file)
        self.names = dict.fromkeys(name for name in self._archive.names if name != "metadata")

    def header(self) -> Any:
        if "metadata" not in self._archive.names:
            return None
        # Read whole, so that its checksum is compared first.
        content = self._archive.content("metadata", npy.LONGEST_HEADER + LONGEST_METADATA)
        try:
            return _parse(npy.read(io.BytesIO(content)).tobytes())
        except ValueError:  # a sound member, but no JSON in it: the file is another program's
            return None

    def shape(self, name: str) -> tuple[int, ...]:
        return self._archive.header(name).shape

    def read(self, name: str) -> np.ndarray:
        return _checked_numbers(name, self._archive.read(name))


def _write_safetensors(file: BinaryIO, arrays: Arrays, metadata: str) -> None:
    strings = {"format": MARKER, "version": str(VERSION), "metadata": metadata}
    strings["checksum"] = _checksum(arrays, metadata)
    content = _safetensors().numpy.save(arrays, metadata=strings)
    _check_length(int.from_bytes(content[:8], "little"))
    file.write(content)


class _SafetensorsReader:
    """Eight bytes with the header's length, the header, JSON, and the arrays' bytes, which the package takes apart."""

    def __init__(self, file: BoundedReader) -> None:
        _safetensors()
        self._file = file
        length, rest = int.from_bytes(read_exactly(file, 8), "little"), file.size - 8
        if length > rest:
            raise ValueError(f"its header should have {length} bytes, and {rest} follow")
        if length > LONGEST_METADATA:
            raise ValueError(f"its header should have {length} bytes, more than {LONGEST_METADATA}")
        self._header = read_exactly(file, length)
        self._entries = _parse(self._header.decode())
        if not isinstance(self._entries, dict):
            raise ValueError("its header is not a JSON object")
        self._strings = self._entries.pop("__metadata__", {})
        if not isinstance(self._strings, dict) or not all(isinstance(text, str) for text in self._strings.values()):
            raise ValueError("its __metadata__ are not a JSON object of strings")
        for name, described in self._entries.items():
            if not _describes_array(described):
                raise ValueError(f"its header does not describe {name!r} as an array")
        ends = [described["data_offsets"][1] for described in self._entries.values()]
        if max(ends, default=0) != rest - length:
            raise ValueError(f"its arrays should have {max(ends, default=0)} bytes, and {rest - length} follow")
        self.names = self._entries
        self._arrays: Arrays | None = None

    def header(self) -> Any:
        strings = self._strings
        if strings.get("format") != MARKER:
            return None
        version = strings.get("version", "0")
        if not re.fullmatch("[0-9]{1,9}", version):
            raise ValueError(f"its version is {version[:20]!r}, no number of at most 9 digits")
        return {"format": MARKER, "version": int(version), "metadata": _parse(strings.get("metadata", "null"))}

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._entries[name]["shape"])

    def read(self, name: str) -> np.ndarray:
        if self._arrays is None:
            self._arrays = self._read()
        return _checked_numbers(name, self._arrays[name])

    def _read(self) -> Arrays:
        content = self._file.whole()
        if content[8 : 8 + len(self._header)] != self._header:
            raise ValueError("it was written to while it was read")
        arrays = _safetensors().numpy.load(content)
        if "checksum" in self._strings:
            if self._strings["checksum"] != _checksum(arrays, self._strings["metadata"]):
                raise ValueError("its content does not have the checksum that it was saved with")
        elif self._strings.keys() != {"format", "version", "metadata"}:  # or damage to that name would go unseen
            raise ValueError(f"its metadata are {', '.join(sorted(self._strings))}, without a checksum")
        return arrays


def _describes_array(described: Any) -> bool:
    """Whether an entry of a header has a shape, and a beginning and an end of the array's bytes."""
    if not isinstance(described, dict):
        return False
    shape, offsets = described.get("shape"), described.get("data_offsets")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        return False
    return all(type(number) is int for number in shape + offsets)


def _checksum(arrays: Mapping[str, np.ndarray], metadata: str) -> str:
    """CRC-32 of all that is saved, whatever order a file has it in."""
    value = zlib.crc32(metadata.encode())
    for name, array in sorted(arrays.items()):
        value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode(), value)
        value = zlib.crc32(array.data, value)
    return f"crc32 {value:08x}"


def _checked_numbers(name: str, array: np.ndarray) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, got dtype {array.dtype}")
    return array


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        message = 'a .safetensors file needs the package safetensors: pip install "fastnn-numba[recipes]"'
        raise ImportError(message) from error
    return safetensors


class _Format(NamedTuple):
    write: Callable[[BinaryIO, Arrays, str], None]
    reader: type[_Reader]


_FORMATS = {
    ".npz": _Format(_write_npz, _NpzReader),
    ".safetensors": _Format(_write_safetensors, _SafetensorsReader),
}
