"""What all writing of files shares: one appears whole or not at all (`replace`), or grows by whole lines (`append`)."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Callable
from os import fspath
from pathlib import Path
from typing import BinaryIO

from fastnn.files.read import Name


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
