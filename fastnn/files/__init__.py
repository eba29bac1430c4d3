"""What all reading and writing of files shares: one gate for what goes wrong, bounds on what is believed, whole files.

A file that is read may hold anything. `reading` makes one kind of error of whatever a parser says to that, and no size
that a file claims is allocated before its bytes have come (`open_file`, `read_exactly`).
A file that is written appears whole or not at all (`replace`), or grows by whole lines (`append`).
"""

import contextlib
import errno
import fcntl
import io
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from os import PathLike, fspath
from pathlib import Path
from typing import Any, BinaryIO

CHUNK = 1 << 20
LONGEST_LINE = 1 << 22
_LONGEST_REASON = 300

Name = str | PathLike[str]


class DataError(ValueError):
    """Data that cannot be used: one line that names the file, and the line and column where there is one."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # a name or a cell in it may have several


# Reading


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


# Writing


def replace(path: Name, write: Callable[[BinaryIO], None]) -> None:
    """Write a temporary file beside `path` and, once it is safely on the disk, put it in the place of `path`.

    A link stays a link, and a pipe or a device is written to as it is. The mode and, where that is permitted, the owner
    of a file that is replaced stay. Temporary files for the same path that were left by processes which were killed are
    removed. OSError names `path`.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        before = _present(path)
        if before is not None and not stat.S_ISREG(before.st_mode) and not stat.S_ISDIR(before.st_mode):
            with open(path, "wb") as file:
                write(file)
            return
        if not target.parent.is_dir():
            raise FileNotFoundError(errno.ENOENT, f"there is no folder {target.parent}")
        _remove_abandoned(target)
        with _locked(temporary, private=before is not None) as file:
            write(file)
            file.flush()
            if before is not None:
                _resemble(file.fileno(), before)
            os.fsync(file.fileno())
            os.replace(temporary, target)
        _sync_folder(target.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = fspath(path)  # not the temporary file
            del error.filename2
        raise


def append(path: Name, lines: bytes) -> None:
    """Add whole lines to a file, which is made if there is none: all of them or, where that fails, none.

    OSError names `path`.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            length = os.fstat(file).st_size
            rest = memoryview(lines)
            try:
                while rest:  # once, but on a disk that is nearly full
                    rest = rest[os.write(file, rest) :]
            except BaseException:
                with contextlib.suppress(OSError):  # a pipe keeps what it has got
                    os.ftruncate(file, length)
                raise
        finally:
            os.close(file)
    except OSError as error:
        error.filename = fspath(path)
        raise


def _present(path: Name) -> os.stat_result | None:
    """What is there so far, None for nothing."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _locked(path: Path, private: bool) -> BinaryIO:
    """Make a file that is locked for as long as it is open: that is how others see that its process lives.

    The system drops the lock (flock) with the process, however that ends. The number of a process would tell nothing in
    another container, and could be another's by now.
    """
    while True:
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666), "wb")
        with contextlib.suppress(OSError):  # a file system without locks: nobody else gets one either
            fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # somebody took it for abandoned before it was locked


def _remove_abandoned(target: Path) -> None:
    """Remove the temporary files of `target` that nobody holds a lock on."""
    name = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{8}\.tmp")
    with contextlib.suppress(OSError), os.scandir(target.parent) as entries:
        for entry in entries:
            if name.fullmatch(entry.name):
                with contextlib.suppress(OSError):  # it is locked, another user's, or gone
                    _remove_unlocked(entry.path)


def _remove_unlocked(path: str) -> None:
    file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(file)


def _resemble(file: int, before: os.stat_result) -> None:
    """Give an open file the owner, as far as that is permitted, and the mode of another."""
    for owner, group in ((-1, before.st_gid), (before.st_uid, -1)):
        with contextlib.suppress(OSError):
            os.fchown(file, owner, group)
    os.fchmod(file, stat.S_IMODE(before.st_mode))  # after the owner, whose change clears the bits for set-user-ID


def _sync_folder(folder: Path) -> None:
    """See to it that the new name is on the disk, too, where the folder may be opened and its file system can do it."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(handle)
