"""Damaged files in every reader: one line of error or what was saved, and no memory for what a file only claims.

FASTNN_MUTANTS=10000 tries 10,000 mutants of each file, instead of 2,000.
"""

import contextlib
import gzip
import io
import json
import math
import os
import random
import resource
import struct
import tracemalloc
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest

import fastnn
from fastnn import MLP
from fastnn.cli import models
from fastnn.files import DataError, formats
from fastnn.tables import data
from fastnn.tables.preprocessing import Preprocessing
from fastnn.tables.table import read_csv
from fastnn.tables.targets import Target

MUTANTS = int(os.environ.get("FASTNN_MUTANTS", "2000"))
BOUND = 64 << 20
BOMB = 80 << 20  # what a bomb makes of its file: more than the bound


def network():
    """A model as `fastnn train` saves it."""
    model = MLP([4, 3, 2], "tanh", dropout=0.1, seed=0)
    numbers = Preprocessing(("a", "b"), np.zeros(2), np.array([1.0, -2.0]), np.ones(2), {"b": ("", "x", "ü")})
    target = Target("kind", (7, 8), np.zeros(0), np.zeros(0), ("007", "8"))
    model.metadata.update(inputs=numbers.to_dict(), target=target.to_dict(), loss="softmax_cross_entropy")
    return model


def contents(*arrays):
    return [None if a is None else (a.dtype.str, a.shape, a.tolist()) for a in arrays]


def read_model(path):
    model = fastnn.load(path)
    return repr(model), json.dumps(model.metadata), contents(*model.weights, *model.biases)


def read_data(path):
    found = data.load(path)
    return contents(np.asarray(found.inputs), found.target)


def read_pair(path):
    found = data.load(path, path.with_name("y.npy"))
    return contents(np.asarray(found.inputs), found.target)


def read_folder(path):
    return read_data(path.parent)


def read_table(path):
    table = read_csv(path)
    return table.columns, [table.texts(name).tolist() for name in table.columns]


def idx(array):
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_model(path):
    network().save(path)


def write_data(path):
    np.savez_compressed(path, X=np.arange(60.0).reshape(20, 3), y=np.array(["no", "yes"] * 10))


def write_pair(path):
    np.save(path, np.arange(60, dtype=np.float32).reshape(20, 3))
    np.save(path.with_name("y.npy"), np.arange(20) % 2)


def write_folder(path):
    open_ = gzip.open if path.suffix == ".gz" else open
    with open_(path, "wb") as file:
        file.write(idx(np.arange(60).reshape(5, 3, 4)))
    path.with_name("train-labels-idx1-ubyte").write_bytes(idx(np.arange(5)))


def write_labels(path):
    write_folder(path.with_name("train-images-idx3-ubyte"))
    path.with_name("train-labels-idx1-ubyte").unlink()


def write_table(path):
    path.write_text('a,b,kind\n1.5,x,"no, never"\n2e3,"y ""z""",yes\n\n,ü,yes\n', encoding=path.stem)


# name -> write, read, whether the file has a checksum of its content
READERS = {
    "model.npz": (write_model, read_model, True),
    "model.safetensors": (write_model, read_model, True),
    "data.npz": (write_data, read_data, True),
    "X.npy": (write_pair, read_pair, False),
    "train-images-idx3-ubyte": (write_folder, read_folder, False),
    "train-images-idx3-ubyte.gz": (write_folder, read_folder, True),
    "utf-8.csv": (write_table, read_table, False),
    "utf-16.csv": (write_table, read_table, False),
}


def mutant(content, rng):
    """The content with one to three wounds: bits, bytes and lengths changed, parts lost, doubled and moved, digits."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        at = rng.randrange(len(content) + 1)
        length = min(rng.choice((1, 1, 2, 4, 8, 8, 30, 200)), len(content) - at)
        part = content[at : at + length]
        match rng.randrange(9):
            case 0:
                content[at : at + length] = bytes(byte ^ 1 << rng.randrange(8) for byte in part)
            case 1:
                content[at : at + length] = rng.randbytes(length)
            case 2:
                content[at : at + length] = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case 3:
                del content[at : at + length]
            case 4:
                content[at:at] = part * rng.choice((1, 1, 20))
            case 5:
                del content[at:]
            case 6:
                content[at:at] = rng.choice((b"[", b"(" * 300, b"{", b'"', b"'", b",", b"\n", b"-", b"NaN", b"9" * 40))
            case 7:
                to = rng.randrange(len(content) + 1)
                content[to : to + length] = part
            case 8:
                digits = [i for i, byte in enumerate(content) if 48 <= byte <= 57] or [0]
                content[rng.choice(digits) : 1 + rng.choice(digits)] = rng.choice(
                    (b"0", b"9", b"1e9", b"-1", b"4294967296")
                )
        content = content or bytearray(1)
    return bytes(content)


@contextlib.contextmanager
def little_memory():
    """Let this process grow by BOUND at most: beyond that, allocating fails."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + BOUND, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def write_over(path, content):
    """Put other content into a file, without the flush to the disk that some file systems make of a new one."""
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()


@pytest.mark.parametrize("name", READERS)
def test_mutants(name, tmp_path):
    write, read, has_checksum = READERS[name]
    path = tmp_path / name
    write(path)
    whole, content = read(path), path.read_bytes()
    rng, messages, others = random.Random(name), [], 0
    with little_memory():
        for n in range(MUTANTS):
            write_over(path, mutant(content, rng))
            try:
                found = read(path)
            except DataError as error:
                messages.append(str(error))
            else:
                assert found == whole or not has_checksum, f"mutant {n} loads as something else"
                others += found != whole
    assert len(messages) + others > MUTANTS / 2  # most mutants are no longer what was saved
    assert len(messages) > MUTANTS / 4
    for message in messages:
        assert str(tmp_path) in message
        assert "\n" not in message
        assert len(message) < 1000


# Small files that claim much, or become much


def npy_bytes(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_claim(dtype, shape, header_length=None, version=1):
    """The header of a .npy file, and nothing behind it."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    length = (header_length or len(header)).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + header


def archive(method=zipfile.ZIP_DEFLATED, **members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as content:
        for name, member in members.items():
            content.writestr(f"{name}.npy", member)
    return file.getvalue()


def header_bytes(layers, user=None):
    architecture = {"layers": layers, "activations": ["relu"] * (len(layers) - 2), "output": "identity", "bias": False}
    metadata = {"architecture": {**architecture, "dtype": "float32"}, "user": user or {}}
    return npy_bytes(np.frombuffer(json.dumps({"format": "fastnn", "version": 1, "metadata": metadata}).encode(), "u1"))


def safetensors_claim(length=None, **arrays):
    header = json.dumps({"__metadata__": {"format": "fastnn", "version": "1", "metadata": "{}"}, **arrays}).encode()
    return (len(header) if length is None else length).to_bytes(8, "little") + header


def safetensors_bytes(header):
    return len(header).to_bytes(8, "little") + header.encode()


SMALL = npy_bytes(np.ones((3, 2), np.float32))
ZEROS = bytes(BOMB)
LISTS = f"[{'[], ' * 2_000_000}[]]"
BOMBS = {
    "model.npz": {
        "wide layers": lambda: archive(w0=SMALL, w1=SMALL, metadata=header_bytes([20000, 20000, 2])),
        "wide layers that fit": lambda: archive(
            w0=npy_claim("<f4", (20000, 20000)), metadata=header_bytes([20000] * 2)
        ),
        "many layers": lambda: archive(w0=SMALL, metadata=header_bytes([3, 2, *[1] * 300_000])),
        "a large member": lambda: archive(w0=SMALL + ZEROS, metadata=header_bytes([3, 2])),
        "a large member of another shape": lambda: archive(
            w0=npy_claim("|u1", (BOMB,)) + ZEROS, metadata=header_bytes([3, 2])
        ),
        "large metadata": lambda: archive(w0=SMALL, metadata=npy_claim("|u1", (BOMB,)) + ZEROS),
        "metadata of lists": lambda: archive(
            zipfile.ZIP_STORED, metadata=npy_bytes(np.frombuffer(LISTS.encode(), "u1"))
        ),
        "zeros of a layer": lambda: archive(
            w0=npy_claim("<f4", (20000, 20000)) + ZEROS, metadata=header_bytes([20000] * 2)
        ),
        "deep metadata": lambda: archive(metadata=npy_bytes(np.frombuffer(b"[" * 500_000, "u1"))),
        "a long header": lambda: archive(
            w0=npy_claim("<f4", "(3, 2)" + " " * BOMB, version=2), metadata=header_bytes([3, 2])
        ),
        "another compression": lambda: archive(zipfile.ZIP_BZIP2, w0=SMALL, metadata=header_bytes([3, 2])),
        "many members": lambda: archive(zipfile.ZIP_STORED, **{f"w{n}": b"" for n in range(21_000)}),
        "a hole": lambda: 1 << 33,
    },
    "model.safetensors": {
        "a long header": lambda: safetensors_claim(1 << 62),
        "a header of blanks": lambda: safetensors_bytes("{}" + " " * BOMB),
        "a header of lists": lambda: safetensors_bytes(f'{{"__metadata__": {{}}, "x": {LISTS}}}'),
        "metadata of lists": lambda: safetensors_bytes(
            json.dumps({"__metadata__": {"format": "fastnn", "version": "1", "metadata": LISTS}})
        ),
        "many empty arrays": lambda: safetensors_claim(
            **{f"w{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(100_000)}
        ),
        "a header of nothing": lambda: safetensors_claim(0),
        "a wide array": lambda: safetensors_claim(
            w0={"dtype": "F32", "shape": [1 << 20, 1 << 20], "data_offsets": [0, 1 << 42]}
        ),
        "an array over another": lambda: safetensors_claim(
            a={"dtype": "U8", "shape": [0], "data_offsets": [0, 0]},
            b={"dtype": "U8", "shape": [9], "data_offsets": [0, 0]},
        ),
        "no arrays": lambda: safetensors_claim(a=[1], b="c"),
        "a hole": lambda: 1 << 33,
    },
    "data.npz": {
        "a large array of few rows": lambda: archive(X=npy_claim("<f4", (10, 3)) + ZEROS),
        "rows without targets": lambda: archive(X=npy_claim("|u1", (BOMB // 8, 8)) + ZEROS, y=npy_bytes(np.zeros(3))),
        "targets without rows": lambda: archive(X=SMALL, y=npy_claim("|u1", (BOMB,)) + ZEROS),
        "no numbers": lambda: archive(X=npy_claim("|S8", (BOMB // 8, 1)) + ZEROS),
        "a claim": lambda: archive(X=npy_claim("<f4", (1 << 40, 8))),
        "an overflow": lambda: archive(X=npy_claim("<f4", (1 << 32, 1 << 32))),
        "elements of no size": lambda: archive(X=npy_claim("<U0", (1 << 40, 2))),
        "targets of no size": lambda: archive(X=SMALL, y=npy_claim("<U0", (3,))),
        "rows of no size": lambda: archive(X=npy_claim("<f4", (1 << 62, 0))),
        "two of one name": lambda: archive(X=SMALL, Y=SMALL).replace(b"Y.npy", b"X.npy"),
        "a hole": lambda: 1 << 33,
    },
    "X.npy": {
        "a claim": lambda: npy_claim("<f4", (1 << 40, 8)),
        "an overflow": lambda: npy_claim("<f4", (1 << 32, 1 << 32)),
        "a long number": lambda: npy_claim("<f4", f"({'9' * 5000}, 1)"),
        "a long header": lambda: npy_claim("<f4", (1, 1), 1 << 31, version=2),
        "a deep header": lambda: npy_claim("<f4", "(" * 4000),
        "signs": lambda: npy_claim("<f4", "(" + "-" * 9000 + "1,)"),
        "a program": lambda: npy_claim("<f4", "__import__('os')"),
        "records": lambda: npy_claim("f4,f4", (1, 1)),
        "a hole": lambda: 1 << 33,
    },
    "train-images-idx3-ubyte": {
        "a claim": lambda: struct.pack(">BBBB3i", 0, 0, 8, 3, *[(1 << 31) - 1] * 3),
        "an overflow": lambda: struct.pack(">BBBB4i", 0, 0, 8, 4, *[1 << 16] * 4),
        "negative": lambda: struct.pack(">BBBB2i", 0, 0, 8, 2, -1, -1) + b"x",
        "many axes": lambda: struct.pack(">BBBB255i", 0, 0, 8, 255, *[1] * 255) + b"x",
        "a hole": lambda: 1 << 33,
    },
    "train-images-idx3-ubyte.gz": {
        "more than it says": lambda: gzip.compress(idx(np.zeros((5, 2, 2))) + ZEROS, 1),
        "images without labels": lambda: gzip.compress(struct.pack(">BBBB2i", 0, 0, 8, 2, BOMB, 1) + ZEROS, 1),
        "a claim": lambda: gzip.compress(struct.pack(">BBBB3i", 0, 0, 8, 3, 5, 1 << 30, 1 << 30)),
        "a hole": lambda: 1 << 33,
    },
    "train-labels-idx1-ubyte.gz": {
        "labels of two axes": lambda: gzip.compress(struct.pack(">BBBB2i", 0, 0, 8, 2, 5, BOMB // 5) + ZEROS, 1),
    },
    "utf-8.csv": {
        "a line without an end": lambda: b"a" * (5 << 20),
        "a header of many lines": lambda: b'"\nab",' * 1_000_000,
        "a row of many lines": lambda: b"a,b\n" + b'"\nab",' * 2_000_000,
        "a header of delimiters": lambda: b"," * ((4 << 20) - 1),
        "many names": lambda: ",".join(map(str, range(600_000))).encode(),
        "columns without names": lambda: b"a" + b"," * 130_000 + b"\n1" * 100 + b"\n\0",
        "a row of many cells": lambda: b"a,b\n" + b"ab," * 1_300_000,
        "a hole": lambda: 1 << 33,
    },
    "utf-16.csv": {"a line without an end": lambda: ("a" * (5 << 19)).encode("utf-16")},
}


@pytest.mark.parametrize(("name", "bomb"), [(name, bomb) for name, bombs in BOMBS.items() for bomb in bombs])
def test_a_file_takes_no_more_memory_than_its_content_needs(name, bomb, tmp_path):
    write, read, _ = READERS.get(name, (write_labels, read_folder, True))
    path, content = tmp_path / name, BOMBS[name][bomb]()
    write(path)
    if isinstance(content, int):  # zeros that take no room on the disk
        os.truncate(path, 0)
        os.truncate(path, content)
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(DataError) as raised:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < BOUND
    finally:
        tracemalloc.stop()
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("[]", "its header is not a JSON object"),
        ("5", "its header is not a JSON object"),
        ("[" * 100_000, "its metadata are nested too deeply"),
        ('{"__metadata__": null}', "its __metadata__ are not a JSON object of strings"),
        ('{"__metadata__": []}', "its __metadata__ are not a JSON object of strings"),
        ('{"__metadata__": {"format": 5}}', "its __metadata__ are not a JSON object of strings"),
        ('{"w0": [1]}', "its header does not describe 'w0' as an array"),
        ('{"w0": {"data_offsets": [0, 0]}}', "its header does not describe 'w0' as an array"),
        ('{"w0": {"shape": 1, "data_offsets": [0, 0]}}', "its header does not describe 'w0' as an array"),
        ('{"w0": {"shape": [], "data_offsets": [0]}}', "its header does not describe 'w0' as an array"),
        (f'{{"w0": {"9" * 5000}}}', "its metadata have a number of 5000 digits"),
        (f'{{"__metadata__": {{"format": "fastnn", "version": "{"9" * 5000}"}}}}', "no number of at most 9 digits"),
    ],
)
def test_a_header_that_describes_no_arrays(header, reason, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_bytes(header))
    with pytest.raises(DataError) as raised:
        fastnn.load(path)
    assert str(raised.value).startswith(f"{path} is damaged or not a .safetensors file: ")
    assert str(raised.value).endswith(reason)


@pytest.mark.parametrize("suffix", ["npz", "safetensors"])
def test_what_is_saved_can_be_read(suffix, tmp_path, monkeypatch):
    """The bound on metadata holds for saving, and to the byte."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    path = tmp_path / f"model.{suffix}"
    arrays = {"a": np.ones(3)}
    formats.save_arrays(path, arrays, {"user": ""})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"metadata must have at most 1048576 bytes as JSON in the file, got \d+"):
        formats.save_arrays(path, arrays, {"user": "x" * (1 << 20)})
    assert path.read_bytes() == before
    rejected = 0
    for n in range((1 << 20) - 400, 1 << 20, 8):  # some of these are the longest that fit
        try:
            formats.save_arrays(path, arrays, {"user": "x" * n})
        except ValueError:
            rejected += 1
            continue
        assert not rejected
        assert formats.load_arrays(path)[1] == {"user": "x" * n}
    assert 0 < rejected < 50


# Values of a wrong type in what a file says of a model, behind a checksum that is right


def places(values, at=()):
    """The path to each entry of nested metadata, and to the first of each list."""
    items = values.items() if isinstance(values, dict) else enumerate(values[:1]) if isinstance(values, list) else ()
    for key, value in items:
        yield (*at, key)
        yield from places(value, (*at, key))


def changed(metadata, at, value):
    result = json.loads(json.dumps(metadata))
    inner = result
    for key in at[:-1]:
        inner = inner[key]
    if value is ABSENT:
        del inner[at[-1]]
    else:
        inner[at[-1]] = value
    return result


ABSENT = object()
WRONG = (
    ABSENT, None, True, 0, -1, 3, 1 << 70, 10**400, 0.5, -0.0, 1e300, math.nan, math.inf, "", "x", "softmax", [], [[]],
    [3], [None, 1], [math.nan], ["a", "a"], {}, {"a": 1}, [{}] * 3, [4, 3, 2], ["a", "b"], [1, "b"],
)  # fmt: skip


def test_metadata_of_a_wrong_type(tmp_path, monkeypatch):
    """Each entry of a model's metadata is replaced by each of WRONG: one line of error, or what fits together."""
    monkeypatch.setattr(os, "fsync", lambda file: None)  # which takes longer than all the rest
    path = tmp_path / "model.npz"
    network().save(path)
    arrays, metadata = formats.load_arrays(path)
    wrong = [(at, value) for at in places(metadata) for value in WRONG]
    messages, predicted = [], 0
    assert len({at for at, _ in wrong}) > 20
    for at, value in wrong:
        formats.save_arrays(path, arrays, changed(metadata, at, value))
        try:
            model, preprocessing, target = models.load(Namespace(model=str(path), precision=None))
        except ValueError as error:
            messages.append(str(error))
            continue
        predicted += 1
        assert (preprocessing.n_inputs, target.n_outputs) == (4, 2), (at, value)
        assert len(target.class_names or target.shift) == 2, (at, value)
        assert np.isfinite(preprocessing.scale).all(), (at, value)
        assert model.layers == (4, 3, 2), (at, value)
    assert len(messages) > 10 * predicted
    for message in messages:
        assert str(path) in message
        assert "\n" not in message
        assert len(message) < 1000
