"""Reading and writing of files: the one gate for errors, whole files, permissions, what killed processes leave."""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import stat
import subprocess
import sys

import pytest

import fastnn
from fastnn import files
from fastnn.callbacks import CSVLogger
from fastnn.files import DataError, open_file, read_exactly, reading, replace
from fastnn.tables import data
from fastnn.tables.table import append_csv, read_csv, write_csv
from tests.programs import PATIENCE, environment


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.npz"


def write(content):
    return lambda file: file.write(content)


def names(path):
    return sorted(entry.name for entry in path.parent.iterdir())


class TestReading:
    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (ValueError("two\n  lines"), "two lines"),
            (RecursionError(), "RecursionError"),
            (KeyError("shape"), "'shape'"),
            (OSError("not gzipped"), "not gzipped"),
            (OSError(errno.EINVAL, "Invalid argument"), "[Errno 22] Invalid argument"),
            (AssertionError("x" * 1000), "x" * 300 + "..."),
        ],
        ids=repr,
    )
    def test_what_a_parser_raises_is_one_line_about_the_file(self, path, error, reason):
        with pytest.raises(DataError) as raised, reading(path, "is damaged"):
            raise error
        assert str(raised.value) == f"{path} is damaged: {reason}"
        assert raised.value.__cause__ is error

    @pytest.mark.parametrize("error", [DataError("a.csv: line 3"), ImportError("which extra"), KeyboardInterrupt()])
    def test_what_is_not_the_contents_fault_passes(self, path, error):
        with pytest.raises(type(error)) as raised, reading(path, "is damaged"):
            raise error
        assert raised.value is error

    def test_what_the_system_refuses_keeps_its_kind_and_gets_the_name(self, path):
        with pytest.raises(OSError, match=r"net\.npz") as raised, reading(path, "is damaged"):
            raise OSError(errno.EIO, "Input/output error")
        assert (type(raised.value), raised.value.errno) == (OSError, errno.EIO)
        message = r"net\.npz: there is not enough memory to read it"
        with pytest.raises(MemoryError, match=message), reading(path, "is damaged"):
            raise MemoryError

    @pytest.mark.parametrize("read", [data.load, read_csv, fastnn.load, open_file])
    @pytest.mark.parametrize("name", ["d.csv", "d.npz", "d.npy", "d.safetensors"])
    def test_a_pipe_is_refused_at_once(self, tmp_path, read, name):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=r"^[^\n]*(is not a regular file|must end in|expected a \.csv)[^\n]*$"):
            read(tmp_path / name)

    @pytest.mark.parametrize("size", [0, 1, files.CHUNK, 2 * files.CHUNK + 1])
    def test_read_exactly(self, tmp_path, size):
        content = os.urandom(size)
        (tmp_path / "a").write_bytes(content)
        with open_file(tmp_path / "a") as file:
            assert read_exactly(file, size) == content
        with open_file(tmp_path / "a") as file, pytest.raises(ValueError, match=f"ends after {size} bytes of"):
            read_exactly(file, size + 1)

    def test_no_parser_gets_more_than_a_chunk(self, tmp_path):
        (tmp_path / "a").write_bytes(bytes(files.CHUNK + 1))
        for size in (-1, None, files.CHUNK + 1, 1 << 62):
            with open_file(tmp_path / "a") as file, pytest.raises(ValueError, match="that should be short is longer"):
                file.read(size)
        with open_file(tmp_path / "a") as file:
            assert [len(file.read(files.CHUNK)), len(file.read(1 << 62))] == [files.CHUNK, 1]


class TestReplace:
    def test_the_file_is_on_the_disk_then_its_name_then_the_folder(self, path, monkeypatch):
        events = []
        fsync, rename = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda file: (events.append(stat.S_IFMT(os.fstat(file).st_mode)), fsync(file)))
        monkeypatch.setattr(os, "replace", lambda *names: (events.append("replace"), rename(*names)))
        replace(path, write(b"new"))
        assert events == [stat.S_IFREG, "replace", stat.S_IFDIR]

    @pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOTSUP])
    def test_a_file_system_that_syncs_no_folders_will_do(self, path, monkeypatch, error):
        fsync = os.fsync

        def files_alone(file):
            if stat.S_ISDIR(os.fstat(file).st_mode):
                raise OSError(error, os.strerror(error))
            fsync(file)

        monkeypatch.setattr(os, "fsync", files_alone)
        replace(path, write(b"new"))
        assert path.read_bytes() == b"new"

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666, 0o755])
    def test_the_mode_stays(self, path, mode):
        path.write_bytes(b"old")
        path.chmod(mode)
        while_written = []

        def write(file):
            while_written.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
            file.write(b"new")

        replace(path, write)
        assert path.read_bytes() == b"new"
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert while_written == [0o600]  # nobody else reads what may be private before it has its mode

    def test_the_owner_stays_as_far_as_that_is_permitted(self, path, monkeypatch):
        path.write_bytes(b"old")
        owner, given = path.stat(), {}

        def not_permitted(file, uid, gid):
            given.update({name: value for name, value in (("uid", uid), ("gid", gid)) if value != -1})
            raise PermissionError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "fchown", not_permitted)
        replace(path, write(b"new"))
        assert path.read_bytes() == b"new"
        assert given == {"uid": owner.st_uid, "gid": owner.st_gid}

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to somebody else")
    def test_a_file_that_root_saves_over_stays_its_users(self, path):
        path.write_bytes(b"old")
        os.chown(path, 12345, 54321)
        path.chmod(0o640)
        replace(path, write(b"new"))
        found = path.stat()
        assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (12345, 54321, 0o640)

    def test_a_link_stays_one_and_its_targets_mode_stays(self, path):
        target = path.with_name("target.npz")
        target.write_bytes(b"old")
        target.chmod(0o600)
        path.symlink_to(target)
        replace(path, write(b"new"))
        assert path.is_symlink()
        assert (target.read_bytes(), stat.S_IMODE(target.stat().st_mode)) == (b"new", 0o600)

    def test_a_pipe_is_written_to_and_stays_one(self, path):
        os.mkfifo(path)
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            write_csv(path, [["a"], [1]])
            assert os.read(reader, 100) == b"a\n1\n"
        finally:
            os.close(reader)
        assert stat.S_ISFIFO(path.stat().st_mode)
        assert names(path) == [path.name]


class TestTemporaryFiles:
    def test_what_killed_processes_left_is_removed_by_the_next_save(self, path):
        program = (
            "import os, signal, sys\n"
            "from fastnn.files import replace\n"
            "def die(file):\n"
            "    file.write(b'half')\n"
            "    file.flush()\n"
            "    os.kill(os.getpid(), signal.SIGKILL)\n"
            "replace(sys.argv[1], die)\n"
        )
        replace(path, write(b"old"))
        for _ in range(2):
            arguments = [sys.executable, "-c", program, str(path)]
            run = subprocess.run(arguments, env=environment(), capture_output=True, timeout=PATIENCE)
            assert run.returncode == -signal.SIGKILL
            assert len(names(path)) == 2  # the second has removed what the first left
            assert path.read_bytes() == b"old"
        replace(path, write(b"new"))
        assert names(path) == [path.name]
        assert path.read_bytes() == b"new"

    def test_nobody_elses_file_is_removed(self, path):
        others = [f".{path.name}.0123abcd.tmp.bak", ".other.npz.0123abcd.tmp", f".{path.name}.0123abc.tmp", "x.tmp"]
        for name in others:
            path.with_name(name).touch()
        path.with_name(f".{path.name}.0123abcd.tmp").touch()
        replace(path, write(b"new"))
        assert names(path) == sorted([path.name, *others])

    def test_the_file_of_a_process_that_lives_is_not_removed(self, path):
        def write_slowly(file):
            file.write(b"outer")
            replace(path, write(b"inner"))
            assert path.read_bytes() == b"inner"

        replace(path, write_slowly)
        assert path.read_bytes() == b"outer"
        assert names(path) == [path.name]

    def test_one_that_was_removed_before_it_was_locked_is_made_again(self, path, monkeypatch):
        flock, calls = fcntl.flock, []

        def late(file, how):
            if not calls:
                next(path.parent.glob(".*.tmp")).unlink()
            calls.append(how)
            flock(file, how)

        monkeypatch.setattr(fcntl, "flock", late)
        replace(path, write(b"new"))
        assert (path.read_bytes(), len(calls), names(path)) == (b"new", 2, [path.name])

    def test_where_there_are_no_locks_nothing_is_taken_for_abandoned(self, path, monkeypatch):
        def no_locks(file, how):
            raise OSError(errno.ENOLCK, "No locks available")

        left = f".{path.name}.0123abcd.tmp"
        path.with_name(left).touch()
        monkeypatch.setattr(fcntl, "flock", no_locks)
        replace(path, write(b"new"))
        assert names(path) == [left, path.name]
        assert path.read_bytes() == b"new"


def append_one_by_one(path, rows):
    for row in rows:
        append_csv(path, [row])


def log(logger, epochs):
    for epoch in range(epochs):
        logger.on_epoch_end(None, epoch, {"loss": 0.5})


class TestLines:
    """However large a file may become: no half line is in it when there is no more room."""

    ROWS = ([1, "a"], [22, "bb"], [333, "ü" * 40], [4444, "d"])

    @contextlib.contextmanager
    def room(self, size):
        """For as long as a test writes: the file that pytest's own output may go into is not to be cut."""
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def lines(self):
        return [f"{number},{text}\n".encode() for number, text in self.ROWS]

    def test_appended(self, tmp_path):
        whole = b"".join(self.lines())
        for size in range(1, len(whole)):
            path = tmp_path / f"{size}.csv"
            with self.room(size), pytest.raises(OSError, match=path.name) as raised:
                append_one_by_one(path, self.ROWS)
            assert raised.value.errno == errno.EFBIG
            content = path.read_bytes()
            assert content == whole[: whole.rfind(b"\n", 0, size) + 1]

    def test_logged(self, tmp_path):
        for size in (3, 12, 20, 27):
            path = tmp_path / f"{size}.csv"
            logger = CSVLogger(path)
            logger.on_train_begin(None)
            with self.room(size), pytest.raises(OSError, match=path.name):
                log(logger, 10)
            whole = "epoch,loss\n" + "".join(f"{epoch},0.5\n" for epoch in range(10))
            # the names are written with the first epoch
            assert path.read_text() == (whole[: whole.rfind("\n", 0, size) + 1] if size >= 17 else "")

    def test_written(self, tmp_path):
        path = tmp_path / "rows.csv"
        write_csv(path, [["old"]])
        for size in range(0, 60, 7):
            with self.room(size), pytest.raises(OSError, match=r"rows\.csv"):
                write_csv(path, self.ROWS)
            assert path.read_bytes() == b"old\n"
            assert names(path) == ["rows.csv"]

    def test_an_interrupt_between_two_parts_takes_the_first_back(self, tmp_path, monkeypatch):
        real, calls = os.write, []

        def part(file, content):
            calls.append(len(content))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(file, content[:3])

        (tmp_path / "rows.csv").write_bytes(b"old\n")
        monkeypatch.setattr(os, "write", part)
        with pytest.raises(KeyboardInterrupt):
            files.append(tmp_path / "rows.csv", b"a line\n")
        monkeypatch.undo()
        assert calls == [7, 4]
        assert (tmp_path / "rows.csv").read_bytes() == b"old\n"
