"""NumPy's files: arrays in .npy, and in the members of a .npz.

NumPy's own reader evaluates the header as Python, and takes the memory that it claims before anything is compared. Here
a header is one line of three known entries, and data take memory as they come.
"""

import math
import re
import zipfile
from typing import Any, NamedTuple

import numpy as np

from fastnn.files.read import BoundedReader, read_exactly

LONGEST_HEADER = 10_000  # NumPy's own limit
_HEADER = re.compile(
    r"\{(?:\s*+(?:"
    r"(['\"])descr\1\s*+:\s*+(['\"])(?P<descr>[<>|=]?[a-zA-Z?]\d*(?:\[\w+\])?)\2|"
    r"(['\"])fortran_order\4\s*+:\s*+(?P<fortran>True|False)|"
    r"(['\"])shape\6\s*+:\s*+\((?P<shape>\s*+(?:\d{1,20}L?\s*+,\s*+)*+(?:\d{1,20}L?\s*+)?+)\)"
    r")\s*+,?+){3}\s*+\}\s*+"
)


class Header(NamedTuple):
    """What a .npy file says of its array."""

    dtype: np.dtype
    fortran: bool
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def n_bytes(self) -> int:
        """The bytes of the array's data, which follow the header."""
        return math.prod(self.shape) * self.dtype.itemsize

    def array(self, content: Any) -> np.ndarray:
        """The array whose data are `content`, a view."""
        return np.ndarray(self.shape, self.dtype, content, order="F" if self.fortran else "C")


def read_header(file: Any) -> Header:
    """Read the header of a .npy file. ValueError for one that is damaged, of records, or of Python objects."""
    start = bytes(read_exactly(file, 8))
    if start[:6] != b"\x93NUMPY" or start[6] not in (1, 2, 3):
        raise ValueError(f"it begins with {start!r}, as no .npy file does")
    length = int.from_bytes(read_exactly(file, 2 if start[6] == 1 else 4), "little")
    if length > LONGEST_HEADER:
        raise ValueError(f"its header should have {length} bytes, more than {LONGEST_HEADER}")
    text = read_exactly(file, length).decode("utf-8" if start[6] == 3 else "latin-1")
    found = _HEADER.fullmatch(text)
    if found is None or None in (found["descr"], found["fortran"], found["shape"]):
        raise ValueError(f"its header does not describe an array of numbers or text: {text.strip()}")
    dtype = np.dtype(found["descr"])
    if dtype.hasobject:
        raise ValueError("it holds Python objects, and those are not read")
    if dtype.itemsize == 0:
        raise ValueError(f"its elements, {found['descr']}, have no size")
    return Header(dtype, found["fortran"] == "True", tuple(map(int, re.findall(r"\d+", found["shape"]))))


def read(file: Any) -> np.ndarray:
    """Read an array, which must be all that is left of the file. ValueError where it is not."""
    header = read_header(file)
    content = read_exactly(file, header.n_bytes)
    if file.read(1):
        raise ValueError(f"more follows than the {header.n_bytes} bytes that its header tells of")
    return header.array(content)


def map_file(file: BoundedReader) -> np.ndarray:
    """The array of a .npy file, memory-mapped. What follows it in the file does no harm."""
    header, start = read_header(file), file.tell()
    if start + header.n_bytes > file.size:
        raise ValueError(f"{file.size - start} bytes follow its header, which tells of {header.n_bytes}")
    if header.n_bytes == 0:
        return header.array(b"")
    order = "F" if header.fortran else "C"
    return np.memmap(file, header.dtype, "r", start, header.shape, order)  # type: ignore[call-overload]


class Archive:
    """The arrays in a .npz file by their names.

    Members are stored or deflated, as NumPy writes them: other methods of zip take memory without a bound.
    Raises ValueError, among others, for a file that is none, and for two members of one name.
    """

    def __init__(self, file: BoundedReader) -> None:
        self._zip = zipfile.ZipFile(file)
        members = self._zip.infolist()
        self.names = {member.filename.removesuffix(".npy"): member for member in members}
        if len(self.names) < len(members):
            raise ValueError("two of its members have the same name")
        # What is damaged in the list of members must hide no array: a length of a comment could have swallowed the
        # next ones, and NumPy writes no comments; opening compares a name with the one that stands with its data.
        for member in members:
            if member.comment:
                raise ValueError(f"{member.filename} has a comment, {member.comment!r}")
            self._zip.open(member).close()

    def header(self, name: str) -> Header:
        """What an array's member says of it."""
        with self._open(name) as member:
            header = read_header(member)
            told, size = member.tell() + header.n_bytes, self.names[name].file_size
            if size != told:
                raise ValueError(f"{name} has {size} bytes where its header tells of {told}")
            return header

    def read(self, name: str) -> np.ndarray:
        """An array. ValueError, among others, where its checksum is another."""
        self.header(name)
        with self._open(name) as member:
            return read(member)

    def content(self, name: str, longest: int) -> bytearray:
        """The bytes of a member of at most `longest`."""
        size = self.names[name].file_size
        if size > longest:
            raise ValueError(f"{name} should have {size} bytes, more than {longest}")
        with self._open(name) as member:
            return read_exactly(member, size)

    def _open(self, name: str) -> Any:
        member = self.names[name]
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is compressed in a way that NumPy does not know")
        return self._zip.open(member)
