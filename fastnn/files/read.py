"""What all reading of files shares: one gate for what goes wrong, and bounds on what is believed.

A file that is read may hold anything. `reading` makes one kind of error of whatever a parser says to that, and no size
that a file claims is allocated before its bytes have come (`open_file`, `read_exactly`).
"""

import contextlib
import errno
import io
import os
import stat
from collections.abc import Iterator
from os import PathLike, fspath
from typing import Any

CHUNK = 1 << 20
LONGEST_LINE = 1 << 22
_LONGEST_REASON = 300

Name = str | PathLike[str]


class DataError(ValueError):
    """Data that cannot be used: one line that names the file, and the line and column where there is one."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # a name or a cell in it may have several


@contextlib.contextmanager
def reading(path: Name, what: str) -> Iterator[None]:
    """The gate: whatever a parser raises within becomes DataError("PATH WHAT: its message"), in one line.

    All of Exception is taken. At damaged bytes the parsers of the standard library, NumPy and safetensors raise a dozen
    types, few of which are documented, and safetensors' own derives from nothing else. The original is the cause, so
    that a traceback shows where it came from. Three pass, as they are not the content's fault: a DataError, which has
    named the file already, an ImportError, and what the file system or the memory refuses, which gets the file's name.
    """
    try:
        yield
    except (DataError, ImportError):
        raise
    except MemoryError as error:
        raise MemoryError(f"{fspath(path)}: there is not enough memory to read it") from error
    except Exception as error:
        # Without a number it is a parser's, BadGzipFile say; EINVAL is a place in the file that there cannot be.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            error.filename = fspath(path)
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        if len(reason) > _LONGEST_REASON:
            reason = reason[:_LONGEST_REASON] + "..."
        raise DataError(f"{fspath(path)} {what}: {reason}") from error


class BoundedReader(io.BufferedReader):
    """A file of which nobody gets more than CHUNK at once, nor a line of more than LONGEST_LINE bytes.

    Parsers ask for as much as a length in the file tells them to, and allocate that first.
    """

    def __init__(self, file: io.FileIO) -> None:
        super().__init__(file)
        self._file = file
        self._line = 0

    @property
    def size(self) -> int:
        """The bytes of the file."""
        return os.fstat(self.fileno()).st_size

    def whole(self) -> bytes:
        """All of the file: for who has compared its size with what it should be."""
        self._file.seek(0)
        return self._file.readall()

    def read(self, size: int | None = -1, /) -> bytes:
        """As BufferedReader's, but ValueError where more than CHUNK bytes are asked for and there."""
        content = super().read(CHUNK + 1 if size is None or size < 0 else min(size, CHUNK + 1))
        if len(content) > CHUNK:
            raise ValueError(f"a part that should be short is longer than {CHUNK} bytes")
        return content

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        """As BufferedReader's."""
        self._line = 0
        return super().seek(place, whence)

    def read1(self, size: int = -1, /) -> bytes:
        """As BufferedReader's, what reads text calls it; ValueError in a line that does not end."""
        content = super().read1(size)
        self._line = 0 if b"\n" in content or b"\r" in content else self._line + len(content)
        if self._line > LONGEST_LINE:
            raise ValueError(f"a line is longer than {LONGEST_LINE} bytes")
        return content


def open_file(path: Name) -> BoundedReader:
    """Open a file to read. DataError for a pipe or a device, which may never end, OSError from the file system."""
    kind = os.stat(path).st_mode
    if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
        raise DataError(f"{fspath(path)} is not a regular file")
    return BoundedReader(io.FileIO(path))


def read_exactly(file: Any, size: int) -> bytearray:
    """The next `size` bytes, ValueError where there are fewer. They take memory as they come: a claim costs nothing."""
    content = bytearray()
    while len(content) < size:
        part = file.read(min(size - len(content), CHUNK))
        if not part:
            raise ValueError(f"it ends after {len(content)} bytes of {size}")
        content += part
    return content
