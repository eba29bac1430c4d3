import builtins
import errno
import json
import os
import resource
import sys

import numpy as np
import pytest

from fastnn.files import formats
from fastnn.files.formats import load_arrays, save_arrays

SUFFIXES = (".npz", ".safetensors")
METADATA = {"layers": [2, 25, 1], "output": "sigmoid", "columns": ["größe", "price"], "mean": 0.1, "none": None}


@pytest.fixture(params=SUFFIXES)
def path(request, tmp_path):
    return tmp_path / f"net{request.param}"


def some_arrays(dtype=np.float32):
    rng = np.random.default_rng(0)
    return {"w0": rng.standard_normal((2, 25)).astype(dtype), "b0": rng.standard_normal(25).astype(dtype)}


def assert_same(loaded, arrays):
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].dtype == array.dtype
        np.testing.assert_array_equal(loaded[name], array, strict=True)


def rewrite(path, header):
    """Write a file whose marker, version and metadata are `header`, as another program or version might."""
    if path.suffix == ".npz":
        np.savez(path, w0=np.zeros(3), metadata=np.frombuffer(json.dumps(header).encode(), np.uint8))
    else:
        from safetensors.numpy import save_file

        strings = {k: v if isinstance(v, str) else json.dumps(v) for k, v in header.items()}
        save_file({"w0": np.zeros(3)}, path, metadata=strings)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_round_trip(path, dtype):
    save_arrays(path, some_arrays(dtype), METADATA)
    arrays, metadata = load_arrays(path)
    assert_same(arrays, some_arrays(dtype))
    assert metadata == METADATA


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.nan, -np.inf, -0.0, 5e-324]),
        np.zeros((0, 3), np.float32),
        np.array(2.5),
        np.arange(12, dtype=np.int64).reshape(3, 4),
        np.array([[True, False]]),
        np.arange(4, dtype=np.float16),
    ],
    ids=["special values", "empty", "scalar", "int64", "bool", "float16"],
)
def test_round_trip_of_any_array(path, array):
    save_arrays(path, {"layer.0/w": array}, {})
    arrays, metadata = load_arrays(path)
    assert_same(arrays, {"layer.0/w": array})
    assert arrays["layer.0/w"].tobytes() == array.tobytes()  # the sign of a zero as well
    assert metadata == {}


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, :5],
        lambda a: a[::-2],
        lambda a: a.T,
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(">f4"),
    ],
    ids=["padded rows", "reversed", "transposed", "fortran", "big-endian"],
)
def test_any_layout_is_saved_by_its_values(path, view):
    base = np.arange(56, dtype=np.float32).reshape(7, 8)
    base.flags.writeable = False
    save_arrays(path, {"w": view(base)}, {})
    assert_same(load_arrays(path)[0], {"w": view(base).astype(np.float32)})


def test_loaded_arrays_are_ones_own(path):
    save_arrays(path, some_arrays(), METADATA)
    before = path.read_bytes()
    for array in load_arrays(path)[0].values():
        array += 1
    assert path.read_bytes() == before
    assert_same(load_arrays(path)[0], some_arrays())


@pytest.mark.parametrize("name", ["file", "allow_pickle", "args", "w.npy", "größe"])
def test_any_name(path, name):
    save_arrays(path, {name: np.ones(2)}, {})
    assert_same(load_arrays(path)[0], {name: np.ones(2)})


def test_a_path_may_be_a_string_in_capitals(path):
    shouted = str(path.with_suffix(path.suffix.upper()))
    save_arrays(shouted, some_arrays(), METADATA)
    assert_same(load_arrays(shouted)[0], some_arrays())


def test_npz_is_readable_by_numpy_alone(tmp_path):
    save_arrays(tmp_path / "net.npz", some_arrays(), METADATA)
    with np.load(tmp_path / "net.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["w0"], some_arrays()["w0"])
        header = json.loads(file["metadata"].tobytes())
    assert header == {"format": "fastnn", "version": 1, "metadata": METADATA}


def test_safetensors_is_readable_by_safetensors_alone(tmp_path):
    from safetensors import safe_open

    save_arrays(tmp_path / "net.safetensors", some_arrays(), METADATA)
    with safe_open(tmp_path / "net.safetensors", framework="numpy") as file:
        np.testing.assert_array_equal(file.get_tensor("w0"), some_arrays()["w0"])
        strings = file.metadata()
    assert (strings["format"], strings["version"], json.loads(strings["metadata"])) == ("fastnn", "1", METADATA)


# What cannot be saved: nothing is written


@pytest.mark.parametrize("name", ["net", "net.npy", "net.pkl", ".npz", "net.npz.bak"])
@pytest.mark.parametrize("call", [lambda p: save_arrays(p, {}, {}), load_arrays], ids=["save", "load"])
def test_an_unknown_suffix(tmp_path, name, call):
    with pytest.raises(ValueError, match=r"^path must end in \.npz or \.safetensors, got [^\n]*$"):
        call(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["metadata", "__metadata__", "", 3])
def test_a_name_that_is_taken(path, name):
    with pytest.raises(ValueError, match=r"^arrays: .* cannot be the name of an array$"):
        save_arrays(path, {name: np.zeros(2)}, {})
    assert not path.exists()


@pytest.mark.parametrize("array", [np.array(["a"]), np.array([None]), np.zeros(2, complex), np.zeros(2, np.longdouble)])
def test_an_array_that_holds_no_real_numbers(path, array):
    with pytest.raises(TypeError, match=r"^arrays: 'w' must hold .*, got dtype"):
        save_arrays(path, {"w": array}, {})
    assert not path.exists()


def endless():
    endless = []
    endless.append(endless)
    return endless


@pytest.mark.parametrize("value", [np.float32(1), {1, 2}, object(), endless()])
def test_metadata_that_is_not_jsonable(path, value):
    with pytest.raises(TypeError, match=r"^metadata must be JSON-able: "):
        save_arrays(path, {}, {"key": value})
    assert not path.exists()


# Saving that fails half way: what was there before is there still, and nothing else


def test_a_full_disk_leaves_the_old_file(path):
    save_arrays(path, some_arrays(), METADATA)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_arrays(path, {"w": np.ones((100, 1000))}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert_same(load_arrays(path)[0], some_arrays())


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_an_error_at_the_end_leaves_the_old_file(path, monkeypatch, function, error):
    def fail(*args):
        raise error

    save_arrays(path, some_arrays(), METADATA)
    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(type(error)):
            save_arrays(path, {}, {})
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert_same(load_arrays(path)[0], some_arrays())


def test_saving_again_replaces_the_file(path):
    save_arrays(path, some_arrays(), METADATA)
    save_arrays(path, {"w": np.ones(3)}, {"second": True})
    arrays, metadata = load_arrays(path)
    assert_same(arrays, {"w": np.ones(3)})
    assert metadata == {"second": True}
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_path_that_cannot_be_written_is_named_and_not_the_temporary_file(path):
    nowhere, folder, long = path.parent / "nowhere" / path.name, path, path.with_stem("x" * 300)
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere") as raised:
        save_arrays(nowhere, {}, {})
    assert raised.value.filename == str(nowhere)
    folder.mkdir()
    for at in (folder, long):
        with pytest.raises(OSError, match=at.name) as raised:
            save_arrays(at, {}, {})
        assert (raised.value.filename, raised.value.filename2) == (str(at), None)
        assert ".tmp" not in str(raised.value)
    assert list(path.parent.iterdir()) == [folder]


def test_a_new_file_has_the_usual_permissions(path):
    (path.parent / "usual").touch()
    save_arrays(path, {}, {})
    assert path.stat().st_mode == (path.parent / "usual").stat().st_mode


def test_a_link_stays_a_link(path):
    target = path.with_name(f"target{path.suffix}")
    path.symlink_to(target)
    save_arrays(path, some_arrays(), METADATA)
    assert path.is_symlink()
    assert_same(load_arrays(target)[0], some_arrays())


# Files that are not what they should be


def test_a_missing_file(path):
    with pytest.raises(FileNotFoundError):
        load_arrays(path)


@pytest.mark.parametrize("content", [b"", b"\x00", b"hello", b"PK\x03\x04" + bytes(100), b"\xff" * 1000])
def test_bytes_that_are_no_such_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged or not a \.(npz|safetensors) file: "):
        load_arrays(path)


def test_a_file_under_the_other_suffix(path):
    save_arrays(path, some_arrays(), METADATA)
    other = path.with_suffix(SUFFIXES[path.suffix == SUFFIXES[0]])
    path.rename(other)
    with pytest.raises(ValueError, match="is damaged or not a"):
        load_arrays(other)


def test_a_file_cut_short_anywhere(path):
    save_arrays(path, some_arrays(), METADATA)
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="is damaged"):
            load_arrays(path)


def test_a_flipped_bit_is_found_or_harmless(path):
    save_arrays(path, some_arrays(), METADATA)
    content = path.read_bytes()
    messages = []
    with open(path, "r+b", buffering=0) as file:
        for i in range(len(content)):
            file.seek(i)
            file.write(bytes([content[i] ^ 1 << i % 8]))
            try:
                arrays, metadata = load_arrays(path)
            except ValueError as error:
                messages.append(str(error))
            else:
                assert_same(arrays, some_arrays())
                assert metadata == METADATA
            file.seek(i)
            file.write(content[i : i + 1])
    assert len(messages) > len(content) / 2
    assert all(message.startswith(str(path)) and "\n" not in message for message in messages)


def test_a_file_that_is_replaced_while_it_is_read_is_read_on(path, monkeypatch):
    """Metadata and arrays are those of one file, though another has its name by now."""
    checked = formats._checked_metadata

    def replaced_meanwhile(*details):
        save_arrays(path, {name: array + 1 for name, array in some_arrays().items()}, {"other": True})
        return checked(*details)

    save_arrays(path, some_arrays(), METADATA)
    monkeypatch.setattr(formats, "_checked_metadata", replaced_meanwhile)
    arrays, metadata = load_arrays(path)
    assert_same(arrays, some_arrays())
    assert metadata == METADATA


def strings_of(path):
    """The string map of a .safetensors file of ours."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return file.metadata()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays, strings: arrays["w0"].__setitem__((0, 0), 2), "checksum"),
        (lambda arrays, strings: arrays.update(w0=arrays["w0"].view(np.int32)), "checksum"),
        (lambda arrays, strings: arrays.update(w0=arrays["w0"].reshape(25, 2)), "checksum"),
        (lambda arrays, strings: arrays.update(w1=arrays.pop("w0")), "checksum"),
        (lambda arrays, strings: strings.update(metadata=strings["metadata"].replace("25", "26")), "checksum"),
        (lambda arrays, strings: strings.update(checksum="crc32 00000000"), "checksum"),
        (lambda arrays, strings: strings.update(chechsum=strings.pop("checksum")), "chechsum, .*, without a checksum"),
    ],
)
def test_what_a_safetensors_file_holds_is_compared_with_its_checksum(tmp_path, change, message):
    from safetensors.numpy import save_file

    path, arrays = tmp_path / "net.safetensors", some_arrays()
    save_arrays(path, arrays, METADATA)
    strings = strings_of(path)
    change(arrays, strings)
    save_file(arrays, path, metadata=strings)
    with pytest.raises(ValueError, match=f"is damaged or not a .safetensors file: .*{message}"):
        load_arrays(path)


def test_a_safetensors_file_from_before_there_were_checksums(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / "net.safetensors"
    strings = {"format": "fastnn", "version": "1", "metadata": json.dumps(METADATA)}
    save_file(some_arrays(), path, metadata=strings)
    arrays, metadata = load_arrays(path)
    assert_same(arrays, some_arrays())
    assert metadata == METADATA
    save_arrays(path, arrays, metadata)
    assert strings_of(path).keys() - strings.keys() == {"checksum"}


@pytest.mark.parametrize(
    "arrays",
    [
        {"X": np.zeros((3, 2)), "y": np.zeros(3)},
        {"metadata": np.arange(5)},
        {"metadata": np.frombuffer(b"[1, 2]", np.uint8)},
        {"metadata": np.frombuffer(b"{}", np.uint8)},
        {"metadata": np.array({"pickled": "object"}, dtype=object)},
        {"metadata": np.array(["text"])},
    ],
    ids=["data", "numbers", "JSON list", "empty JSON", "pickle", "text"],
)
def test_an_npz_of_another_program(tmp_path, arrays):
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match=r"other\.npz was not written by fastnn: [^\n]*$"):
        load_arrays(tmp_path / "other.npz")


@pytest.mark.parametrize("strings", [None, {}, {"format": "pt"}])
def test_a_safetensors_file_of_another_program(tmp_path, strings):
    from safetensors.numpy import save_file

    save_file({"w": np.zeros(3)}, tmp_path / "other.safetensors", metadata=strings)
    with pytest.raises(ValueError, match=r"other\.safetensors was not written by fastnn: [^\n]*$"):
        load_arrays(tmp_path / "other.safetensors")


@pytest.mark.parametrize("header", [{"metadata": {}}, {"metadata": [1]}, {}])
def test_a_newer_version_says_so(path, header):
    rewrite(path, {"format": "fastnn", "version": 2, **header})
    with pytest.raises(ValueError, match="has format version 2, newer than 1"):
        load_arrays(path)


@pytest.mark.parametrize(
    "header", [{"version": 0, "metadata": {}}, {"metadata": {}}, {"version": 1}, {"version": 1, "metadata": [1]}]
)
def test_a_header_that_says_nonsense(path, header):
    rewrite(path, {"format": "fastnn", **header})
    with pytest.raises(ValueError, match="is damaged: it has version"):
        load_arrays(path)


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return builtins.exec, ("raise SystemExit('a model file ran code')",)

    header = json.dumps({"format": "fastnn", "version": 1, "metadata": {}}).encode()
    trap = np.array([Trap()], dtype=object)
    np.savez(tmp_path / "net.npz", metadata=np.frombuffer(header, np.uint8), w=trap)
    with pytest.raises(ValueError, match="is damaged"):
        load_arrays(tmp_path / "net.npz")


def test_safetensors_without_the_package_names_the_extra(tmp_path, monkeypatch):
    path = tmp_path / "net.safetensors"
    save_arrays(path, some_arrays(), METADATA)
    before = path.read_bytes()
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda: load_arrays(path), lambda: save_arrays(path, {}, {})):
        with pytest.raises(ImportError, match=r'pip install "fastnn-numba\[recipes\]"'):
            call()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_check_suffix():
    assert formats.check_suffix("a/b.NPZ") == ".npz"
    assert formats.check_suffix("net-{epoch:03d}-{val_loss:.2f}.safetensors") == ".safetensors"


@pytest.mark.parametrize("path", [None, 3, ["a.npz"]])
def test_what_is_no_path(path):
    with pytest.raises(TypeError, match=r"^path must be a str or PathLike, got "):
        formats.check_suffix(path)
