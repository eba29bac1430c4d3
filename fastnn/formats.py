"""Model files: named arrays and metadata, by suffix .npz (NumPy's) or .safetensors.

Both hold the arrays under their names and, as text, the marker "fastnn", the format's version and the metadata as JSON:
.npz in one more array, `metadata` (its UTF-8 bytes), .safetensors in its own string map. Neither runs code from a file.
"""

import io
import json
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from fastnn.files import replace

MARKER = "fastnn"
VERSION = 1

Arrays = dict[str, np.ndarray]


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write `arrays` (bool, integer or real numbers, up to 8 bytes each) and `metadata` (JSON-able) to `path`.

    The file appears whole or not at all: an error, a full disk say, leaves what was there before. Raises ValueError for
    an unknown suffix or a name that is taken, TypeError for what cannot be written, ImportError for .safetensors
    without that package, OSError from the file system.
    """
    write = _FORMATS[check_suffix(path)].write
    plain = {name: _plain_array(name, array) for name, array in arrays.items()}
    try:
        text = json.dumps(dict(metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(f"metadata must be JSON-able: {error}") from error
    replace(path, lambda file: write(file, plain, text))


def load_arrays(path: str | os.PathLike) -> tuple[Arrays, dict[str, Any]]:
    """Read what save_arrays wrote: (arrays, metadata).

    Raises ValueError for an unknown suffix, a damaged file, a file that is not fastnn's and one of a newer version,
    ImportError for .safetensors without that package, OSError from the file system.
    """
    _, read_header, read_arrays = _FORMATS[check_suffix(path)]
    with open(path, "rb") as file:
        metadata = _checked_metadata(path, _parsed(path, read_header, file))
        return _parsed(path, read_arrays, file), metadata


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


def _parsed(path: str | os.PathLike, read: Callable[[BinaryIO], Any], file: BinaryIO) -> Any:
    """read(file), where whatever goes wrong says that the file is damaged."""
    try:
        return read(file)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # given damaged bytes, the parsers raise a dozen types
        raise ValueError(f"{path} is damaged or not a {Path(path).suffix} file: {error}") from error


def _checked_metadata(path: str | os.PathLike, header: Any) -> dict[str, Any]:
    """The metadata of a header {"format": MARKER, "version": VERSION, "metadata": {...}} from whatever source."""
    if not isinstance(header, dict) or header.get("format") != MARKER:
        raise ValueError(f"{path} was not written by fastnn: it lacks the format marker {MARKER!r}")
    version, metadata = header.get("version"), header.get("metadata")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"{path} has format version {version}, newer than {VERSION}: read it with a newer fastnn")
    if version != VERSION or not isinstance(metadata, dict):
        raise ValueError(
            f"{path} is damaged: it has version {version!r} and metadata of type {type(metadata).__name__}"
        )
    return metadata


def _write_npz(file: BinaryIO, arrays: Arrays, metadata: str) -> None:
    header = f'{{"format": "{MARKER}", "version": {VERSION}, "metadata": {metadata}}}'
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in {**arrays, "metadata": np.frombuffer(header.encode(), np.uint8)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _read_npz_header(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        if "metadata.npy" not in archive.namelist():
            return None
        content = archive.read("metadata.npy")
    try:
        return json.loads(_read_npy(content).tobytes())
    except ValueError:  # a sound array, but no JSON in it: the file is another program's
        return None


def _read_npz_arrays(file: BinaryIO) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        members = [name for name in archive.namelist() if name != "metadata.npy"]
        return {name.removesuffix(".npy"): _read_npy(archive.read(name)) for name in members}


def _read_npy(content: bytes) -> np.ndarray:
    """The array of a member, which was read whole: only so is its checksum compared before its header is believed."""
    return np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)


def _write_safetensors(file: BinaryIO, arrays: Arrays, metadata: str) -> None:
    strings = {"format": MARKER, "version": str(VERSION), "metadata": metadata}
    file.write(_safetensors().numpy.save(arrays, metadata=strings))


def _read_safetensors_header(file: BinaryIO) -> Any:
    with _safetensors().safe_open(file.name, framework="numpy") as tensors:
        strings = tensors.metadata() or {}
    if strings.get("format") != MARKER:
        return None
    metadata = json.loads(strings.get("metadata", "null"))
    return {"format": MARKER, "version": int(strings.get("version", 0)), "metadata": metadata}


def _read_safetensors_arrays(file: BinaryIO) -> Arrays:
    with _safetensors().safe_open(file.name, framework="numpy") as tensors:
        names = tensors.keys()
        return {name: tensors.get_tensor(name) for name in names}


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        message = 'a .safetensors file needs the package safetensors: pip install "fastnn-numba[recipes]"'
        raise ImportError(message) from error
    return safetensors


class _Format(NamedTuple):
    write: Callable[[BinaryIO, Arrays, str], None]
    read_header: Callable[[BinaryIO], Any]
    read_arrays: Callable[[BinaryIO], Arrays]


_FORMATS = {
    ".npz": _Format(_write_npz, _read_npz_header, _read_npz_arrays),
    ".safetensors": _Format(_write_safetensors, _read_safetensors_header, _read_safetensors_arrays),
}
