import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.tables.preprocessing import Preprocessing, check_magnitude
from fastnn.tables.table import DataError, Table, read_csv

EPS32 = np.finfo(np.float32).eps


def table(folder, text, name="rows.csv"):
    path = folder / name
    path.write_text(text)
    return read_csv(path)


def test_numbers_are_standardised_and_texts_one_hot_encoded(tmp_path):
    rows = table(tmp_path, "size,colour,weight\n1,red,10\n3,blue,10\n,,10\n5,red,10\n")
    with pytest.warns(
        UserWarning, match=r"rows.csv: column 'weight' never varies in the rows to learn from.*--ignore weight"
    ):
        fitted = Preprocessing.fit(rows, ["size", "colour", "weight"])
    # size: mean 3, deviation sqrt(8 / 3) without the missing cell, which becomes the mean; weight never varies.
    s = 2 / np.sqrt(8 / 3)
    expected = [[-s, 0, 0, 1, 0], [0, 0, 1, 0, 0], [0, 1, 0, 0, 0], [s, 0, 0, 1, 0]]
    assert fitted.n_inputs == 5
    assert fitted.categories == {"colour": ("", "blue", "red")}
    result = fitted.transform(rows)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=2 * EPS32)


def test_without_scaling_missing_numbers_still_become_the_mean(tmp_path):
    rows = table(tmp_path, "a,b\n1,x\n,y\n5,x\n")
    fitted = Preprocessing.fit(rows, ["a", "b"], scaling=False)
    np.testing.assert_array_equal(fitted.transform(rows), [[1, 1, 0], [3, 0, 1], [5, 1, 0]])


def test_only_the_given_rows_are_fitted(tmp_path):
    rows = table(tmp_path, "a,b\n1,x\n3,y\n1000,z\n")
    fitted = Preprocessing.fit(rows, ["a", "b"], np.array([0, 1]))
    assert fitted.shift[0] == 2
    assert fitted.categories == {"b": ("x", "y")}
    np.testing.assert_array_equal(fitted.transform(rows, np.array([2]))[0], [998, 0, 0])


def test_new_rows_in_another_order_with_unknown_text(tmp_path):
    train = table(tmp_path, "a,b\n1,x\n3,y\n")
    fitted = Preprocessing.fit(train, ["a", "b"])
    new = table(tmp_path, "more,b,a\nq,unseen,3\nq,x,1\nq,?,\n", "new.csv")
    np.testing.assert_array_equal(fitted.transform(new), [[1, 0, 0], [-1, 1, 0], [0, 0, 0]])


def test_a_number_column_may_be_taken_as_text(tmp_path):
    rows = table(tmp_path, "code,a\n10,1\n20,2\n10,3\n")
    fitted = Preprocessing.fit(rows, ["code", "a"], text=["code"])
    np.testing.assert_array_equal(fitted.transform(rows)[:, :2], [[1, 0], [0, 1], [1, 0]])
    # A file in which it could be anything is read in the same way.
    assert fitted.transform(table(tmp_path, "code,a\n20,1\n", "new.csv"))[0, :2].tolist() == [0, 1]


def test_new_rows_that_do_not_fit(tmp_path):
    fitted = Preprocessing.fit(table(tmp_path, "a,b\n1,x\n3,y\n"), ["a", "b"])
    with pytest.raises(DataError, match=r"new.csv: line 1 has no column 'a'; the columns are 'b', 'c'"):
        fitted.transform(table(tmp_path, "b,c\nx,1\n", "new.csv"))
    with pytest.raises(DataError, match=r"new.csv: line 2, column 'a': expected a number, got 'one'"):
        fitted.transform(table(tmp_path, "a,b\none,x\n", "new.csv"))
    with pytest.raises(DataError, match=r"new.csv: line 3, column 'a': 'inf' is not finite"):
        fitted.transform(table(tmp_path, "a,b\n1,x\ninf,x\n", "new.csv"))
    with pytest.raises(DataError, match="reads text in column 'b': give it a CSV"):
        fitted.transform(np.ones((2, 2)))
    numbers = Preprocessing.fit(np.eye(3), ["a", "b", "c"])
    with pytest.raises(DataError, match="the model reads 3 columns, the data has 2"):
        numbers.transform(np.ones((2, 2)))


def test_a_column_that_names_its_rows_is_left_out(tmp_path):
    rows = table(tmp_path, "name,a\n" + "".join(f"person {i},{i}\n" for i in range(30)))
    with pytest.warns(UserWarning, match=r"column 'name' has 30 different texts in 30 rows.*: it is left out"):
        fitted = Preprocessing.fit(rows, ["name", "a"])
    assert fitted.names == ("a",)
    assert fitted.transform(table(tmp_path, "a\n1\n", "new.csv")).shape == (1, 1)
    with pytest.raises(DataError, match=r"column 'name' has 30 different texts in 30 rows.*--ignore name"):
        Preprocessing.fit(rows, ["name", "a"], text=["name"])
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match="no column is left to learn from"):
        Preprocessing.fit(rows, ["name"])


@pytest.mark.parametrize(("n_kinds", "said"), [
    (3, "line 2, column 'ticket': 'PC 0' is not a number, as 60 of the column's 90 values seem to be: it is taken as "
        "text; mend it, or say so (--text ticket)"),
    (90, "column 'ticket' has 90 different texts in 90 rows, too many to be categories: it is left out"),
])  # fmt: skip
def test_a_text_column_that_is_numbers_in_part_is_warned_of_once(n_kinds, said):
    cells = [f"PC {i % n_kinds}" if i % 3 == 0 else str(1000 + i % n_kinds) for i in range(90)]
    rows = rows_of({"ticket": cells, "a": ["1", "2"] * 45})
    assert warned_of(Preprocessing.fit, rows, ["ticket", "a"]) == [f"new.csv: {said}"]
    if n_kinds == 3:
        assert warned_of(lambda: Preprocessing.fit(rows, ["ticket", "a"], text=["ticket"])) == []


def test_a_column_without_a_value_in_the_training_rows(tmp_path):
    rows = table(tmp_path, "a,b\n,1\n,2\n7,3\n")
    with pytest.raises(DataError, match="column 'a' has no value in the rows to train on"):
        Preprocessing.fit(rows, ["a", "b"], np.array([0, 1]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, bool])
def test_arrays_are_standardised_in_blocks(monkeypatch, dtype):
    monkeypatch.setattr("fastnn.tables.preprocessing.BLOCK_ROWS", 7)
    X = (np.random.default_rng(0).normal(3, 2, (40, 5)) * 3).astype(dtype)
    X[:, 3] = 4
    rows = np.arange(1, 40, 2)
    fitted = Preprocessing.fit(X, list("abcde"), rows)
    exact = X[rows].astype(np.float64)
    deviation = np.where(exact.std(axis=0) == 0, 1, exact.std(axis=0))
    np.testing.assert_allclose(fitted.shift, exact.mean(axis=0), rtol=1e-14)
    expected = (X.astype(np.float64) - exact.mean(axis=0)) / deviation
    np.testing.assert_allclose(fitted.transform(X), expected, rtol=4 * EPS32, atol=4 * EPS32)
    np.testing.assert_array_equal(fitted.transform(X, slice(3, 30)), fitted.transform(X)[3:30])


def test_a_constant_that_binary_fractions_cannot_hold_is_still_constant():
    X = np.full((1000, 1), 0.1)
    np.testing.assert_allclose(Preprocessing.fit(X, ["a"]).transform(X), 0, atol=1e-12)


def test_bytes_are_divided_by_255():
    X = np.array([[0, 255], [51, 102]], np.uint8)
    fitted = Preprocessing.fit(X, ["a", "b"])
    np.testing.assert_allclose(fitted.transform(X), [[0, 1], [0.2, 0.4]], rtol=EPS32)


def test_arrays_without_scaling_are_not_copied():
    X = np.random.default_rng(0).normal(size=(5, 3))
    fitted = Preprocessing.fit(X, ["a", "b", "c"], scaling=False)
    assert fitted.leaves_numbers
    assert fitted.transform(X) is X
    assert np.shares_memory(fitted.transform(X, slice(1, 3)), X)


@pytest.mark.parametrize("as_csv", [False, True])
def test_numbers_too_large(tmp_path, as_csv):
    def source(first, second):
        numbers = np.array([[1.0, first], [2.0, second]])
        return table(tmp_path, "a,b\n" + "".join(f"{a},{b}\n" for a, b in numbers)) if as_csv else numbers

    with pytest.raises(DataError, match="column 'b' holds numbers too large to standardise"):
        Preprocessing.fit(source(1e300, -1e300), ["a", "b"])
    fitted = Preprocessing.fit(source(1.0, 1.5), ["a", "b"])
    with pytest.raises(DataError, match=r"column 'b'.* too large for float32"):
        fitted.transform(source(1.0, 1e300))


def test_json_gives_the_same_transformation(tmp_path):
    rows = table(tmp_path, "a,b,c\n0.1,x,5\n0.7,y,6\n,x,7\n")
    fitted = Preprocessing.fit(rows, ["a", "b", "c"])
    again = Preprocessing.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again.names == fitted.names
    assert again.categories == fitted.categories
    np.testing.assert_array_equal(again.transform(rows), fitted.transform(rows))


def test_a_number_too_large_beside_a_text_column(tmp_path):
    fitted = Preprocessing.fit(table(tmp_path, "a,b\n1,x\n2,y\n3,x\n"), ["a", "b"])
    with pytest.raises(DataError, match=r"line 3, column 'a': 1e300 is too large for float32"):
        fitted.transform(table(tmp_path, "a,b\n1,x\n1e300,y\n"))


@pytest.mark.parametrize("dtype", [np.float32, ">f8", np.int16, bool])
def test_magnitudes_near_one_are_no_matter(dtype):
    X = np.random.default_rng(0).normal(0, 3, (5000, 4))
    with warnings.catch_warnings(action="error"):
        check_magnitude(X.astype(dtype), "X.npy")
        check_magnitude(X[:1].astype(dtype), "X.npy")


@pytest.mark.parametrize(("scale", "size"), [(1e200, "inf"), (300.0, "300"), (1e-3, "0.001"), (0.0, "0")])
def test_magnitudes_far_from_one_are_warned_of(scale, size):
    with pytest.warns(UserWarning, match=rf"^X.npy: a memory map .* its numbers, about {size}, are far from 1: scale"):
        check_magnitude(np.full((5000, 4), scale), "X.npy")


def test_magnitudes_are_those_of_rows_all_over_the_array():
    X = np.ones((5000, 4))
    X[4000:] = 1000
    with pytest.warns(UserWarning, match="are far from 1"):
        check_magnitude(X, "X.npy")


def warned_of(call, *arguments):
    """The warnings of a call, as texts."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*arguments)
    return [str(warning.message) for warning in caught]


def rows_of(columns, name="new.csv"):
    return Table(name, columns, [*range(2, 2 + len(next(iter(columns.values()))))])


TEXTS = st.lists(st.sampled_from(["TRUE", "True", "yes", "01", "1", "1.0", "", "NA", "None"]), min_size=1, max_size=12)


@settings(deadline=None)
@given(TEXTS, TEXTS, st.data())
def test_texts_that_training_did_not_see_are_warned_of(seen, new, data):
    fitted = Preprocessing.fit(rows_of({"flag": seen, "other": ["x"] * len(seen)}), ["flag", "other"], text=["flag"])
    table = rows_of({"other": ["x"] * len(new), "flag": new})
    rows = np.array(data.draw(st.lists(st.integers(0, len(new) - 1), min_size=1, unique=True)))
    known = {"" if text in ("", "NA", "None") else text for text in seen}
    for chosen, index in ((None, np.arange(len(new))), (rows, rows)):
        texts = ["" if new[row] in ("", "NA", "None") else new[row] for row in index]
        unseen = [text for text in texts if text not in known]
        found = warned_of(fitted.warn_of_new, table, chosen)
        assert len(found) == bool(unseen)
        if unseen:
            said = f"new.csv: column 'flag': {len(unseen)} of {len(texts)} values were not seen in training, "
            assert found[0].startswith(said + (repr(unseen[0]) if unseen[0] else "a missing one"))
        # What is warned of is what the network is told nothing of.
        assert (fitted.transform(table, index)[:, :-1].sum(axis=1) == 0).sum() == len(unseen)


def test_a_column_and_rows_without_values_are_warned_of():
    fitted = Preprocessing.fit(rows_of({"a": ["1", "3"], "b": ["x", ""], "c": ["5", "7"]}), ["a", "b", "c"])
    assert warned_of(fitted.warn_of_new, rows_of({"a": ["1", ""], "b": ["", "x"], "c": ["NA", "7"]})) == []
    assert warned_of(fitted.warn_of_new, rows_of({"a": ["1", "2"], "b": ["", "x"], "c": ["NA", ""]})) == [
        "new.csv: column 'c' has no value: it counts as its mean"
    ]
    empty = rows_of({"a": ["1", "", "?"], "b": ["x", "", ""], "c": ["7", "", ""], "more": ["1", "2", "3"]})
    assert warned_of(fitted.warn_of_new, empty) == [
        "new.csv: 2 of 3 rows have no value that the model reads, the first in line 3"
    ]
    with pytest.raises(DataError, match=r"new.csv: line 1 has no column 'c'"):
        fitted.warn_of_new(rows_of({"a": ["1"], "b": ["x"]}))


def test_floats_for_a_model_of_bytes_are_warned_of():
    bytes_ = np.array([[0, 255], [51, 102]], np.uint8)
    fitted = Preprocessing.fit(bytes_, ["a", "b"])
    (said,) = warned_of(fitted.warn_of_new, bytes_ / 255)
    assert said == "the model learnt from bytes, 0 to 255, and no number here is above 1"
    assert warned_of(fitted.warn_of_new, bytes_) == warned_of(fitted.warn_of_new, bytes_ / 1.0) == []
    numbers = Preprocessing.fit(bytes_ / 255, ["a", "b"])
    assert warned_of(numbers.warn_of_new, bytes_ / 255) == []


@pytest.mark.parametrize(("name", "cells", "warned"), [
    ("Unnamed: 0", ["0", "1", "2"], True), ("Unnamed: 0.1", ["8", "3", "5"], True),
    ("PassengerId", ["1", "2", "3"], True), ("id", ["3", "1", "2"], True),
    ("index", ["5", "6", "7"], True), ("id", ["1", "1", "2"], False),
    ("id", ["1", "2.5", "3"], False), ("id", ["1", "", "3"], False), ("year", ["1", "2", "3"], False),
])  # fmt: skip
def test_an_index_that_is_learnt_from_is_warned_of(name, cells, warned):
    table = rows_of({name: cells, "a": ["1", "2", "2"]})
    found = warned_of(Preprocessing.fit, table, [name, "a"])
    quoted = f"'{name}'" if " " in name else name
    said = f"column '{name}' seems to number the rows, and is learnt from: leave it out (--ignore {quoted})"
    assert found == ([f"new.csv: {said}"] if warned else [])
    assert warned_of(Preprocessing.fit, table, ["a"]) == []


def test_columns_that_never_vary_in_the_rows_to_learn_from_are_warned_of():
    table = rows_of({"a": ["1", "1", "2"], "b": ["7", "", "7"], "c": ["1", "2", "3"], "d": ["x", "x", "x"]})
    (said,) = warned_of(Preprocessing.fit, table, ["a", "b", "c", "d"], np.array([0, 1]))
    assert said.startswith("new.csv: column 'a', 'b' never varies in the rows to learn from:")
    assert said.endswith("(--ignore a,b)")
