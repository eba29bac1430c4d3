import gzip
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from fastnn.tables.data import SKLEARN_NAMES, Dataset, load
from fastnn.tables.table import DataError, Table

MNIST = Path(os.environ.get("FASTNN_MNIST") or Path(__file__).resolve().parents[4] / "shared/data/mnist-test")


def idx(array):
    return struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, part, images, labels, compress=False):
    for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
        content = idx(array.astype(np.uint8))
        if compress:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def pair(folder, X, y):
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", y)
    return folder / "X.npy", folder / "y.npy"


# CSV


def test_csv(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("id,a,kind,b\n1,2,x,3\n2,5,y,6\n")
    data = load(path, target="kind", ignore=["id"])
    assert isinstance(data.inputs, Table)
    assert data.names == ("a", "b")
    assert data.target_name == "kind"
    assert data.target.tolist() == ["x", "y"]
    assert len(data) == 2
    assert data.where(1) == f"{path}: line 3"
    assert data.where_target(1) == f"{path}: line 3, column 'kind'"
    assert load(path).target is None
    assert load(path).names == ("id", "a", "kind", "b")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "sort"}, "line 1 has no column 'sort'; the columns are 'a', 'b'"),
        ({"target": "a", "ignore": ["c"]}, "line 1 has no column 'c'"),
        ({"target": "a", "ignore": ["b"]}, "no column is left"),
        ({"target": "b"}, "line 3, column 'b': the target is missing"),
        ({"targets": "y.npy"}, "a second file holds the targets of an .npy file only, got y.npy"),
    ],
)
def test_csv_that_cannot_be_used(tmp_path, options, message):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,\n")
    with pytest.raises(DataError, match=message):
        load(path, **options)


# Arrays


def test_npz(tmp_path):
    X, y = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array(["cat", "dog"])
    np.savez(tmp_path / "d.npz", X=X, y=y, other=np.zeros(3))
    data = load(tmp_path / "d.npz")
    np.testing.assert_array_equal(data.inputs, X.reshape(2, 12))
    assert data.inputs.dtype == np.uint8
    assert data.target.tolist() == ["cat", "dog"]
    np.savez(tmp_path / "d.npz", X=X)
    assert load(tmp_path / "d.npz").target is None


def test_npy_pair_stays_on_disk(tmp_path):
    X, y = np.random.default_rng(0).normal(size=(10, 3)), np.arange(10)
    data = load(*pair(tmp_path, X, y))
    assert data.memory_mapped
    assert isinstance(data.inputs, np.memmap)
    assert not data.inputs.flags.writeable
    np.testing.assert_array_equal(data.inputs, X)
    np.testing.assert_array_equal(data.target, y)
    assert load(tmp_path / "X.npy").target is None
    assert data.where(4) == f"{tmp_path / 'X.npy'}: row 4"
    assert data.where_target(4) == f"{tmp_path / 'X.npy'}: row 4 of y"


def test_npy_of_images_is_flattened_without_a_copy(tmp_path):
    data = load(*pair(tmp_path, np.zeros((6, 4, 4), np.float32), np.arange(6)))
    assert data.inputs.shape == (6, 16)
    assert data.memory_mapped
    assert data.inputs.base is not None


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros(3), np.zeros(3), r"X.npy: expected rows of numbers, an array \(n, columns\), got shape \(3,\)"),
        (np.zeros((3, 0)), np.zeros(3), r"X.npy: .*"),
        (np.zeros((3, 2), complex), np.zeros(3), "X.npy: expected real numbers of at most 64 bits, got dtype complex"),
        (
            np.zeros((3, 2), "longdouble"),
            np.zeros(3),
            "X.npy: expected .* of at most 64 bits, got dtype float128",
        ),
        (np.zeros((3, 2)), np.zeros(2), "y.npy: 2 targets for 3 rows"),
        (np.zeros((3, 2)), np.zeros((3, 1, 1)), r"y.npy: expected targets .* got shape \(3, 1, 1\)"),
        (np.zeros((3, 2)), np.array([0, np.nan, 1]), "y.npy: row 1: nan is not finite"),
        (np.zeros((3, 2)), np.array([[0, 1], [2, np.inf], [3, 3]]), "y.npy: row 1, column 1: inf is not finite"),
        (
            np.zeros((3, 2)),
            np.array(["2020-01-01"] * 3, "M8[D]"),
            "y.npy: expected real numbers .*, got dtype datetime",
        ),
        (
            np.zeros((3, 2)),
            np.array([1, "a", None]),
            "y.npy is damaged or not a .npy file: it holds Python objects",
        ),
        (np.zeros((2, 3, 4)).transpose(2, 0, 1), np.zeros(4), "X.npy: an array of 3 axes must be in C order"),
    ],
)
def test_arrays_that_cannot_be_used(tmp_path, X, y, message):
    X = np.asfortranarray(X) if X.ndim == 3 else X
    with pytest.raises(DataError, match=message) as caught:
        load(*pair(tmp_path, X, y))
    assert "\n" not in str(caught.value)


def test_a_number_that_is_not_finite_is_found_in_a_later_block(tmp_path, monkeypatch):
    monkeypatch.setattr("fastnn.tables.data._CHECK_NUMBERS", 12)
    X = np.zeros((10, 3), np.float32)
    X[9, 2] = -np.inf
    with pytest.raises(DataError, match=r"X.npy: row 9, column 2: -inf is not finite"):
        load(*pair(tmp_path, X, np.zeros(10)))


@pytest.mark.parametrize("content", [b"", b"not an array", b"PK\x03\x04 not a zip"])
@pytest.mark.parametrize("name", ["d.npz", "d.npy"])
def test_files_that_are_no_arrays(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"{name} is damaged or not a {name[1:]} file: "):
        load(tmp_path / name)


def test_damaged_and_foreign_npz(tmp_path):
    np.savez(tmp_path / "d.npz", weights=np.zeros(3))
    with pytest.raises(DataError, match=r"d.npz: no array named X; the arrays are 'weights'"):
        load(tmp_path / "d.npz")
    np.savez_compressed(tmp_path / "d.npz", X=np.random.default_rng(0).normal(size=(50, 4)))
    content = bytearray((tmp_path / "d.npz").read_bytes())
    content[200:260] = bytes(60)
    (tmp_path / "d.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"d.npz is damaged or not a .npz file: "):
        load(tmp_path / "d.npz")


# MNIST's IDX files


@pytest.mark.parametrize("compress", [False, True])
def test_idx_folder(tmp_path, compress):
    rng = np.random.default_rng(0)
    images = {part: rng.integers(0, 256, (n, 3, 4)) for part, n in (("train", 5), ("t10k", 2))}
    for part, pixels in images.items():
        write_idx(tmp_path, part, pixels, np.arange(len(pixels)), compress)
    for part, prefix in (("train", "train"), ("test", "t10k")):
        data = load(tmp_path, part=part)
        assert data.inputs.dtype == np.uint8
        np.testing.assert_array_equal(data.inputs, images[prefix].reshape(-1, 12))
        np.testing.assert_array_equal(data.target, np.arange(len(images[prefix])))


def test_idx_folder_of_one_part_serves_for_both(tmp_path):
    write_idx(tmp_path, "t10k", np.zeros((3, 2, 2)), np.arange(3))
    assert len(load(tmp_path, part="train")) == len(load(tmp_path, part="test")) == 3


def test_idx_rows_to_train_on_are_no_test_without_a_warning(tmp_path):
    write_idx(tmp_path, "train", np.zeros((3, 2, 2)), np.arange(3))
    assert len(load(tmp_path, part="train")) == 3
    with pytest.warns(UserWarning, match="there is no t10k-images.*: the rows to train on are taken$"):
        assert len(load(tmp_path, part="test")) == 3


def test_idx_images_without_labels(tmp_path):
    write_idx(tmp_path, "train", np.zeros((3, 2, 2)), np.arange(3))
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert load(tmp_path).target is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"GIF89a", "not an IDX file of bytes: it begins with 0x47494638"),
        (b"\0\0\x0d\x01\0\0\0\x01abcd", "not an IDX file of bytes"),
        (
            idx(np.zeros((3, 2, 2), np.uint8))[:-1],
            "is damaged or not an IDX file of bytes: 27 bytes where its header tells of 28",
        ),
        (idx(np.zeros((3, 2, 2), np.uint8))[:9], "damaged"),
        (idx(np.zeros((4, 2, 2), np.uint8)), "labels-idx1-ubyte: 3 targets for 4 rows"),
    ],
)
def test_damaged_idx(tmp_path, content, message):
    write_idx(tmp_path, "train", np.zeros((3, 2, 2)), np.arange(3))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path)


def test_truncated_gzip_and_folder_without_images(tmp_path):
    with pytest.raises(DataError, match="no train-images"):
        load(tmp_path)
    write_idx(tmp_path, "train", np.zeros((3, 2, 2)), np.arange(3), compress=True)
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz is damaged or not an IDX file of bytes: "):
        load(tmp_path)


@pytest.mark.skipif(not MNIST.is_dir(), reason="no folder of MNIST's IDX files; name one in FASTNN_MNIST")
def test_real_mnist():
    data = load(MNIST)
    assert data.inputs.shape == (10_000, 784)
    assert np.bincount(data.target.astype(int)).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.target[:5].tolist() == [7, 2, 1, 0, 4]
    assert abs(data.inputs.mean() / 255 - 0.1325) < 5e-5  # the mean that is published with the data set


# scikit-learn's data sets


@pytest.mark.parametrize("name", SKLEARN_NAMES)
def test_sklearn_names(name):
    data = load(name)
    shape = {"iris": (150, 4), "wine": (178, 13), "breast_cancer": (569, 30), "digits": (1797, 64)}
    assert data.inputs.shape == (shape | {"diabetes": (442, 10), "moons": (1000, 2)})[name]
    assert len(data.names) == data.inputs.shape[1]
    assert len(data.target) == len(data)
    if name == "iris":
        assert data.names[0] == "sepal length (cm)"
        assert sorted(set(data.target)) == ["setosa", "versicolor", "virginica"]


def test_names_may_be_written_with_a_hyphen_and_files_come_first(tmp_path, monkeypatch):
    assert len(load("breast-cancer")) == 569
    monkeypatch.chdir(tmp_path)
    write_idx(tmp_path, "train", np.zeros((3, 2, 2)), np.arange(3))
    tmp_path.joinpath("iris").symlink_to(tmp_path)
    assert len(load("iris")) == 3


def test_missing_sklearn_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'needs scikit-learn: pip install "fastnn-numba\[recipes\]"'):
        load("iris")


def test_unknown_sources(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.csv: no such file or folder, nor one of the data sets iris, wine"):
        load("nowhere.csv")
    (tmp_path / "d.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"d.xlsx: expected a .csv"):
        load(tmp_path / "d.xlsx")


# Splitting


@pytest.mark.parametrize(("n", "fraction"), [(100, 0.1), (101, 0.25), (7, 0.5), (3, 0.9), (10, 0.0), (4, 0.1)])
@pytest.mark.parametrize("with_labels", [False, True])
def test_split_takes_each_row_once(n, fraction, with_labels):
    data = Dataset("d", np.zeros((n, 1)), np.zeros(n), ("x0",))
    train, validation = data.split(fraction, np.arange(n) % 3 if with_labels else None, seed=1)
    assert len(validation) == int(fraction * n)
    assert sorted([*train, *validation]) == list(range(n))
    assert (np.diff(train) > 0).all()


def test_split_keeps_the_proportions_of_classes_and_follows_the_seed():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    data = Dataset("d", np.zeros((1000, 1)), labels, ("x0",))
    splits = [data.split(0.1, labels, seed)[1] for seed in (1, 1, 2)]
    for validation in splits:
        assert np.bincount(labels[validation]).tolist() == [60, 30, 10]
    assert splits[0].tolist() == splits[1].tolist() != splits[2].tolist()
