import json
import warnings

import numpy as np
import pytest

from fastnn.tables.table import DataError
from fastnn.tables.targets import Target


def again(target):
    return Target.from_dict(json.loads(json.dumps(target.to_dict())))


def texts(*values):
    return np.array(values, dtype=object)


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        (texts("b", "a", "b"), ("a", "b")),
        (np.array([2.0, 7.0, 2.0]), (2, 7)),
        (np.array([3, 1, 3], np.int8), (1, 3)),
        (np.array([True, False]), (0, 1)),
        (np.array([[1.0], [4.0]]), (1, 4)),
    ],
)
def test_classes_there_and_back(values, classes):
    target = again(Target.fit(values, "kind"))
    assert target.task == "classification"
    assert target.classes == classes
    assert target.n_outputs == 2
    labels = target.encode(values)
    assert labels.dtype == np.int64
    outputs = np.eye(2, dtype=np.float32)[labels]
    assert target.decode(outputs).tolist() == values.ravel().tolist()


def test_classes_are_named_as_they_are_written():
    cells = ["007", "-0", "1.50", "7", "-0"]
    values = np.array([float(cell) for cell in cells])
    with pytest.warns(
        UserWarning, match=r"^target 'code': '007' and '7' are one number, and so one class \(--text code"
    ):
        target = again(Target.fit(values, "code", "classification").as_written(values, cells))
    assert target.classes == (0, 1.5, 7)
    assert target.class_names == ("-0", "1.50", "007")
    labels = target.encode(values)
    assert labels.tolist() == [2, 0, 1, 2, 0]
    assert target.decode(np.eye(3)[labels]).tolist() == ["007", "-0", "1.50", "007", "-0"]
    with pytest.raises(DataError, match=r"8 is none of the classes learnt: '-0', '1.50', '007'"):
        target.encode(np.array([8.0]))


@pytest.mark.parametrize(("cells", "pair"), [
    (["True", "no", "TRUE", "true"], "'TRUE' and 'True'"), (["Male", "female", "male"], "'Male' and 'male'"),
    (["Yes", "no", "yes no"], None), (["a", "A", "b"], None),
])  # fmt: skip
def test_classes_that_differ_only_in_capitals_are_warned_of_once(cells, pair):
    values = texts(*cells)
    target = Target.fit(values, "sold")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert target.as_written(values, cells) is target
    said = f"target 'sold': {pair} are two classes, and differ only in capitals: write them alike if they are one"
    assert [str(warning.message) for warning in caught] == ([said] if pair else [])


@pytest.mark.parametrize("cells", [["1", "2.5", "1"], ["b", "a", "b"], ["1", "-3", "1e3"]])
def test_only_what_python_writes_otherwise_is_kept(cells):
    values = np.array([float(cell) for cell in cells]) if cells[0] == "1" else texts(*cells)
    target = again(Target.fit(values, "code", "classification").as_written(values, cells))
    assert (target.written is None) == ("1e3" not in cells)
    labels = target.encode(values)
    assert [str(name) for name in target.decode(np.eye(target.n_outputs)[labels])] == cells


def test_a_regression_has_no_classes_to_write():
    values = np.array([0.5, 1.5])
    target = Target.fit(values, "y")
    assert target.as_written(values, ["0.50", "1.5"]) is target
    assert target.class_names == ()


def test_a_target_of_an_earlier_version_is_read():
    values = Target.fit(np.array([2.0, 7.0]), "kind").to_dict()
    del values["written"]
    target = Target.from_dict(values)
    assert target.decode(np.eye(2)).tolist() == [2, 7]


@pytest.mark.parametrize("values", [texts("a", "b"), np.array([0.5, 1.5])])
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_outputs_that_say_nothing(values, bad):
    target = Target.fit(values, "y")
    outputs = np.ones((3, target.n_outputs), np.float32)
    outputs[1:, -1] = bad
    with pytest.raises(DataError, match=f"^file.csv: line 3: the network's output is {bad}: the row's numbers"):
        target.decode(outputs, lambda row: f"file.csv: line {row + 2}")


def test_one_hot_rows_are_classes():
    values = np.eye(3)[[2, 0, 1, 1]]
    target = again(Target.fit(values, "kind"))
    assert target.classes == (0, 1, 2)
    assert target.encode(values).tolist() == [2, 0, 1, 1]
    with pytest.raises(DataError, match="has 2 columns, the model 3 classes"):
        target.encode(np.eye(2))


@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 3)])
@pytest.mark.parametrize("scaling", [True, False])
def test_regression_there_and_back(shape, scaling):
    values = np.random.default_rng(0).normal(50, 9, shape)
    target = again(Target.fit(values, "pay", scaling=scaling))
    assert target.task == "regression"
    encoded = target.encode(values)
    assert encoded.dtype == np.float32
    assert encoded.shape == (40, target.n_outputs)
    if scaling:
        np.testing.assert_allclose(encoded.mean(axis=0), 0, atol=1e-6)
        np.testing.assert_allclose(encoded.std(axis=0), 1, rtol=1e-6)
    # One rounding to float32 of numbers up to about 80.
    np.testing.assert_allclose(target.decode(encoded), values.reshape(40, -1), atol=80 * np.finfo(np.float32).eps)


def test_task_is_guessed_and_can_be_given():
    few, many = np.arange(60.0) % 20, np.arange(60.0) % 21
    assert Target.fit(few, "y").task == "classification"
    assert Target.fit(few, "y", "regression").task == "regression"
    assert Target.fit(many, "y").task == "regression"
    assert Target.fit(many, "y", "classification").task == "classification"
    assert Target.fit(few + 0.5, "y").task == "regression"
    assert Target.fit(np.eye(2)[[0, 1, 1]], "y", "regression").n_outputs == 2


@pytest.mark.parametrize(
    ("values", "task", "message"),
    [
        (texts("a", "a"), "auto", "has one class only, 'a'"),
        (np.array([1.0, 1.0]), "auto", "has one class only, 1"),
        (np.array([1.5, 1.5]), "auto", "never varies"),
        (texts("a", "b"), "regression", "is text, as 'a'"),
        (np.arange(50.0) / 7, "classification", "50 different values in 50 rows: those are no classes"),
        (np.ones((4, 2)), "classification", "2 columns that are not one-hot"),
    ],
)
def test_targets_that_cannot_be_learnt(values, task, message):
    with pytest.raises(DataError, match=rf"^target 'y' .*{message}"):
        Target.fit(values, "y", task)
    with pytest.raises(DataError, match=rf"^a.csv: target 'y' .*{message}"):
        Target.fit(values, "y", task, source="a.csv")


def test_unknown_class_is_named_with_its_place():
    target = Target.fit(texts("a", "b"), "y")
    with pytest.raises(DataError, match=r"^file.csv: line 3: 'c' is none of the classes learnt: 'a', 'b'$"):
        target.encode(texts("a", "c"), lambda row: f"file.csv: line {row + 2}")
    with pytest.raises(DataError, match="row 1: 3 is none of the classes"):
        Target.fit(np.array([1, 2]), "y").encode(np.array([1, 3]))


@pytest.mark.parametrize("values", [texts("a", "b"), np.ones((2, 2))])
def test_a_regression_evaluated_on_something_else(values):
    with pytest.raises(DataError, match=r"target 'y': expected numbers in 1 columns, got (text|2)$"):
        Target.fit(np.array([0.5, 1.5]), "y").encode(values)


def test_numbers_of_too_many_digits_are_no_classes():
    values = np.array([2.0**53, 2.0**53, 1.0, 1.0])
    target = Target.fit(values, "code")
    with pytest.raises(
        DataError, match=r"target 'code' .* more digits than a number keeps, 9007199254740992 say.*--text"
    ):
        target.as_written(values, ["9007199254740992", "9007199254740993", "1", "1"])


def test_classes_that_nothing_is_learnt_of_are_warned_of():
    target = Target.fit(texts("a", "b", "c"), "kind")
    with pytest.warns(UserWarning, match="^target 'kind': no row of class 'a', 'c' is among those to learn from$"):
        target.warn_of_absent(np.array([1, 1]))
    target.warn_of_absent(np.array([2, 0, 1]))  # warnings are errors
    Target.fit(np.array([0.5, 1.5]), "size").warn_of_absent(np.zeros((1, 1)))


@pytest.mark.parametrize("row", [[0, 0, 0], [1, 1, 0], [0.5, 0.5, 0], [2, 0, -1]])
def test_rows_that_are_not_one_hot_are_no_classes(row):
    target = Target.fit(np.eye(3), "y")
    np.testing.assert_array_equal(target.encode(np.eye(3)[[2, 0]]), [2, 0])
    with pytest.raises(DataError, match=r"^row 1: expected a one-hot row, got \["):
        target.encode(np.array([[1, 0, 0], row, row]))


@pytest.mark.parametrize("large", [1e200, -1e308])
def test_numbers_of_a_target_that_are_too_large(large):
    with pytest.raises(DataError, match=r"^target 'y' holds numbers too large to standardise$"):
        Target.fit(np.array([1.5, large, 2.5]), "y")
    target = Target.fit(np.array([1.5, 2.5]), "y")
    for values in (np.array([1.0, large]), np.array([[1.0], [large]])):
        with pytest.raises(DataError, match=r"^row 1: .* is too large for float32$"):
            target.encode(values)
