import errno
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastnn.tables.table import DataError, Table, append_csv, read_csv, write_csv


def write(folder, text, name="rows.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def test_reads_columns_numbers_and_missing_values(tmp_path):
    table = read_csv(write(tmp_path, 'age, city ,pay\n31,"Bern, BE",1e3\n\n?,NA,-2.5\n 40 ,Ulm,\n'))
    assert list(table.columns) == ["age", "city", "pay"]
    assert len(table) == 3
    np.testing.assert_array_equal(table.numbers("age"), [31, np.nan, 40])
    np.testing.assert_array_equal(table.numbers("pay"), [1000, -2.5, np.nan])
    assert table.texts("city").tolist() == ["Bern, BE", "", "Ulm"]
    assert table.is_number("age")
    assert not table.is_number("city")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiter_is_taken_from_the_header(tmp_path, delimiter):
    rows = [["a", "b", "c"], ["1", "2", "3"]]
    table = read_csv(write(tmp_path, "\r\n".join(delimiter.join(row) for row in rows)))
    assert table.columns == {"a": ["1"], "b": ["2"], "c": ["3"]}


@pytest.mark.parametrize(("header", "row", "names"), [
    ('"a;b;c;d",y', "1,2", ["a;b;c;d", "y"]), ('"Weight, kg";"Height, cm"', "1;2", ["Weight, kg", "Height, cm"]),
    ('"two\nlines;of,a\tname";y', "1;2", ["two\nlines;of,a\tname", "y"]),
    ('5" disk;a;b,c', "1;2;3", ['5" disk', "a", "b,c"]),
    ('"say ""a,b,c""";y', "1;2", ['say "a,b,c"', "y"]), ('"a;b",y,"c;d;e"', "1,2,3", ["a;b", "y", "c;d;e"]),
])  # fmt: skip
def test_a_delimiter_within_quotes_is_part_of_a_name(tmp_path, header, row, names):
    assert list(read_csv(write(tmp_path, f"{header}\n{row}\n")).columns) == names


@pytest.mark.parametrize("blank", ["", "   ", "\u00a0", " \t "])
def test_lines_of_blanks_are_skipped(tmp_path, blank):
    table = read_csv(write(tmp_path, f"a,b\n{blank}\n1,2\n{blank}\n3,4\n{blank}"))
    assert table.columns == {"a": ["1", "3"], "b": ["2", "4"]}
    assert table.lines == [3, 5]


def test_a_column_alone_has_its_missing_values_written(tmp_path):
    # As pandas writes and reads it.
    table = read_csv(write(tmp_path, 'a\n1\n\n  \n""\n3\n'))
    np.testing.assert_array_equal(table.numbers("a"), [1, np.nan, 3])
    assert table.lines == [2, 5, 6]


@pytest.mark.parametrize("text", [
    "a,b,\n1,2,\n3,4,\n", "a,b,\n1,2\n3,4\n", "a,b,,,\n1,2,,,\n3,4, ,,\n", ",a,b,\n0,1,2,\n1,3,4,\n",
    "a,,b\n1,,2\n3,,4\n", "a;b;\n1;2;\n3;4;\n",
])  # fmt: skip
def test_columns_without_name_and_values_are_left_out(tmp_path, text):
    assert read_csv(write(tmp_path, text)).columns == {"a": ["1", "3"], "b": ["2", "4"]}


def test_byte_order_mark_of_spreadsheets_is_no_part_of_the_first_name(tmp_path):
    assert list(read_csv(write(tmp_path, "a,b\n1,2\n", encoding="utf-8-sig")).columns) == ["a", "b"]


def test_messages_give_the_line_of_the_file(tmp_path):
    # A blank line and a cell of two lines stand before the row that is named.
    table = read_csv(write(tmp_path, 'a,b\n\n1,"two\nlines"\n2,x\n'))
    assert table.where(1, "b").endswith("rows.csv: line 5, column 'b'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "rows.csv: the file is empty"),
        ("\n1,2\n", "rows.csv: line 1 is blank"),
        ("a,b\n", "line 1 is the header, and no row follows"),
        ("a,b,a\n1,2,3\n", "line 1, columns 1 and 3 have the same name 'a'"),
        ("a,,b\n1,2,3\n", "line 1, column 2 has no name"),
        ("a,b,\n1,2,\n3,4,x\n", "line 1, column 3 has no name"),
        ("a,b,\n1,2,\n3\n", "line 3: 1 cells where the header has 3: no cell for column 'b'"),
        ("a,b\n1,2,\n", "line 2: 3 cells where the header has 2: '' too many"),
        ("   \na,b\n1,2\n", "rows.csv: line 1 is blank"),
        ("a,b\n1,2\n3\n", "line 3: 1 cells where the header has 2: no cell for column 'b'"),
        ("a,b\n1,2\n3,4,extra\n", "line 3: 3 cells where the header has 2: 'extra' too many"),
        ('a,b\n1,"2\n', "rows.csv: line 2: not a CSV file"),
        ('"a,b\n1,2\n', "rows.csv: line 2: not a CSV file: unexpected end of data"),
        ('"a' + 200_000 * "x", "rows.csv: line 1: not a CSV file: field larger than field limit"),
    ],
)
def test_malformed_file(tmp_path, text, message):
    with pytest.raises(DataError) as caught:
        read_csv(write(tmp_path, text))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_another_encoding_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"rows.csv: not a text file in UTF-8"):
        read_csv(write(tmp_path, "a,b\nZürich,2\n", encoding="latin-1"))


def test_an_index_is_left_out(tmp_path):
    table = read_csv(write(tmp_path, ",a,b\n0,1,2\n1,3,4\n"))
    assert table.columns == {"a": ["1", "3"], "b": ["2", "4"]}


@pytest.mark.parametrize("cell", ["", "?", "NA", "NaN", "nan", "None"])
def test_a_missing_number(tmp_path, cell):
    table = read_csv(write(tmp_path, f"a,b\n1,2\n3,{cell}\n"))
    np.testing.assert_array_equal(table.numbers("b"), [2, np.nan])


@pytest.mark.parametrize("cell", ["inf", "-Infinity", "1e999"])
def test_a_number_that_is_not_finite(tmp_path, cell):
    table = read_csv(write(tmp_path, f"a,b\n1,2\n3,{cell}\n"))
    with pytest.raises(DataError, match=f"rows.csv: line 3, column 'b': '{cell}' is not finite"):
        table.numbers("b")


def test_a_few_texts_in_a_number_column_are_a_mistake_and_many_are_not(tmp_path):
    cells = [str(i) for i in range(20)]
    few = read_csv(write(tmp_path, "a\n" + "\n".join([*cells, "12o"])))
    with pytest.raises(DataError, match=r"line 22, column 'a': '12o' is not a number, as 20 of the column's 21 values"):
        few.is_number("a")
    many = read_csv(write(tmp_path, "a\n" + "\n".join([*cells, "x", "y", "z"])))
    with pytest.warns(UserWarning, match=r"line 22, column 'a': 'x' is not .* 20 of the column's 23 values.*--text a"):
        assert many.target("a").tolist() == many.columns["a"]


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_decimal_commas(tmp_path, delimiter):
    rows = [["a", "b", "c", "d"], ["1,5", "3", "2.5", "0,5 l"], ["-2,25e1", "", "1000.125", "1 l"], ["7", "4", "", ""]]
    table = read_csv(write(tmp_path, "\n".join(delimiter.join(row) for row in rows)))
    assert [name for name in table.columns if table.is_number(name)] == ["a", "b", "c"]
    np.testing.assert_array_equal(table.numbers("a"), [1.5, -22.5, 7])
    np.testing.assert_array_equal(table.numbers("b"), [3, np.nan, 4])
    np.testing.assert_array_equal(table.numbers("c"), [2.5, 1000.125, np.nan])
    np.testing.assert_array_equal(table.target("a"), [1.5, -22.5, 7])
    assert table.texts("a").tolist() == ["1,5", "-2,25e1", "7"]


@pytest.mark.parametrize(("text", "cell"), [
    ("a;b\n0,5;1\n1.234;2\n", "1.234"), ("a;b\n1.234,5;1\n2,5;2\n", "1.234,5"), ("a;b\n1,234.5;1\n2,5;2\n", "1,234.5"),
    ('a,b\n"0,5",1\n"1,5",2\n', "0,5"), ('a,b\n"1,234",1\n7,2\n', "1,234"),
])  # fmt: skip
def test_numbers_that_could_be_several(tmp_path, text, cell):
    table = read_csv(write(tmp_path, text))
    with pytest.raises(DataError, match=f"line ., column 'a': '{cell}' could be several numbers; write 1234.5 or"):
        table.is_number("a")
    assert cell in table.texts("a")


@pytest.mark.parametrize(("text", "message"), [
    ("a;b\n950;1,5\n1.050;2,5\n", "line 3, column 'a': '1.050' could be 1050 or 1.05; write .* or, .* 1.0500 here; or"),
    ("a;b\n1.050;7\n", "line 2, column 'a': '1.050' could be 1050 or 1.05;"),
    ("a;b\n-1.050;0.5\n7;0,5\n", "line 2, column 'a': '-1.050' could be -1050 or -1.05;"),
    ('a,b\n1.050,"1,5"\n', "line 2, column 'a': '1.050' could be 1050 or 1.05;"),
    ("a\tb\n950\t7\n1,050\t7\n", "line 3, column 'a': '1,050' could be 1050 or 1.05; write .* 1,0500 here;"),
    ("a;b\n1,050;0.5\n", "line 2, column 'a': '1,050' could be 1050 or 1.05;"),
    ("a;b\n7.041;1.5\n8;none\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a\tb\n7,041\t1,5\n8\tnone\n", "line 2, column 'a': '7,041' could be 7041 or 7.041;"),
    ('a,b\n7.041,"1.234,51"\n8.041,"7,5"\n', "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ('a,b\n7.041,"1.234,5"\n8.041,none\n', "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a,b\n7.041,1.234.567\n8.041,950\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ('a;b\n7,041;1,234.5\n8;none\n', "line 2, column 'a': '7,041' could be 7041 or 7.041;"),
    ("a;b\n7.041;24.12\n8.041;1.5\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a;b\n7.041;12.2024\n8.041;01.2025\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a;b\n7.041;14.30\n8.041;8.45\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a;b\n7.041;1.\n8.041;2.\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a;b;c\n7.041;0.5;0,5\n", "line 2, column 'a': '7.041' could be 7041 or 7.041;"),
    ("a\tb\tc\n7,041\t0.5\t0,5\n", "line 2, column 'a': '7,041' could be 7041 or 7.041;"),
])  # fmt: skip
def test_a_mark_that_could_divide_thousands(tmp_path, text, message):
    table = read_csv(write(tmp_path, text))
    for read in (table.is_number, table.numbers, table.target):
        with pytest.raises(DataError, match=message):
            read("a")
    assert table.target("a", text=True)[0] == table.columns["a"][0]


@pytest.mark.parametrize(("text", "numbers"), [
    ("a;b\n1.050;0.5\n", [1.05]), ("a,b\n1.050,7\n", [1.05]), ("a;b\n1,050;7\n", [1.05]),
    ("a;b\n1.050;1,5\n1.0500;2,5\n", [1.05, 1.05]), ("a;b\n0.050;1,5\n", [0.05]), ("a\tb\n1050.125\t1\n", [1050.125]),
    ("a;b;c\n1.050;0.5;v1.5\n2.050;;2.5\n", [1.05, 2.05]), ("a;b\n7,041;24.12\n8,041;1.5\n", [7.041, 8.041]),
    ("a;b\n7,041;3.10\n8,041;none\n", [7.041, 8.041]), ("a,b\n1.050,1.5\n2.125,24.12\n", [1.05, 2.125]),
    ("a,b\n1.050,10.0.0.1\n2.125,192.168.100.200\n", [1.05, 2.125]), ("a;b\n1.050;32.5\n2.050;1.5\n", [1.05, 2.05]),
    ("a;b\n1.050;1,234.5\n", [1.05]),
    ("a\tb\n1,050\t0,5\n", [1.05]), ('a,b\n1.050,"1,500"\n', [1.05]), ('a,b\n1.050,"2,5"\n0.5,"3,5"\n', [1.05, 0.5]),
])  # fmt: skip
def test_a_mark_that_the_file_explains(tmp_path, text, numbers):
    assert read_csv(write(tmp_path, text)).numbers("a").tolist() == numbers


WRITTEN = st.tuples(
    st.sampled_from(["", "-"]), st.integers(0, 3_000_000), st.text("0123456789", max_size=4), st.booleans()
)


# Cells that look like numbers, in columns of texts, dates and times
NO_NUMBERS = [
    ["1.5", "new"], ["none", "0.75"], ["1,5", "new"], ["24.12", "1.5"], ["12.2024", "01.2025"], ["14.30", "8.45"],
    ["24.12.2024", "1.5.2025"], ["1.", "2."], ["v3.14", "3.14"], ["192.168.100.200", "10.0.0.1"],
]  # fmt: skip


def as_written(sign, whole, decimals, grouped, mark):
    integer = f"{whole:,}".replace(",", {".": ",", ",": "."}[mark]) if grouped else str(whole)
    return sign + integer + (mark + decimals if decimals else "")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(",;\t|"),
    st.sampled_from(".,"),
    st.booleans(),
    st.lists(st.lists(WRITTEN, min_size=2, max_size=2), min_size=1, max_size=4),
    st.lists(st.sampled_from(NO_NUMBERS), unique_by=tuple),
)
def test_a_number_is_read_as_it_was_meant_or_refused(delimiter, mark, plain, columns, others):
    # All of a file is written in one way. Where its delimiter suggests the other one, a number of its own says so.
    # Columns of what is no number say nothing.
    if plain:
        columns = [[(*number[:3], False) for number in column] for column in columns]
    cells = {f"c{i}": [as_written(*number, mark) for number in column] for i, column in enumerate(columns)}
    if plain or (delimiter, mark) in [(",", ","), (";", ".")]:
        cells["more"] = [f"0{mark}5", f"12{mark}25"]
    if (delimiter, mark) == (",", ",") and not plain:
        cells["more"] = ["1.234,5", "on request"]
    cells |= {f"other{i}": other for i, other in enumerate(others)}
    table = Table("rows.csv", cells, [2, 3], delimiter)
    for i, column in enumerate(columns):
        try:
            found = table.numbers(f"c{i}").tolist()
        except DataError:
            assert not plain or delimiter == mark == "," or any("," in cell for other in others for cell in other)
        else:
            assert found == [float(f"{sign}{whole}.{decimals or 0}") for sign, whole, decimals, _ in column]


@pytest.mark.parametrize("cells", [
    ["5 %", "12.5%"], ["$12.50", "$7"], ["\u20ac 12", "7"], ["12,50 EUR", "CHF 7"], ["1'234.50", "950"],
    ["1\u2019234", "5"], ["1\u202f234,5", "2"], ["1\u00a0234", "2"], ["12 345", "7"], ["12,34,567", "1,234"],
    ["\u22125.5", "3"], ["(7.5)", "8"], ["'5'", "'6'"], ['"5"', "6"], ["1.234.567", "950"],
])  # fmt: skip
def test_numbers_with_more_than_digits_are_refused(cells):
    with pytest.raises(DataError, match=r"line 2, column 'a': .* (is not written as a plain|could be several) number"):
        Table("rows.csv", {"a": cells * 20}, [*range(2, 42)]).is_number("a")


@pytest.mark.parametrize("cell", [
    "Q1", "2020-01-31", "31.01.2020", "3.11.2", "12:30", "A1", "1-2", "10 kg", "1/2", "$", "%", "-", "USD", "12 34",
    "1,2,3",
])  # fmt: skip
def test_texts_with_digits_are_texts(cell):
    assert not Table("rows.csv", {"a": [cell, cell]}, [2, 3]).is_number("a")


@pytest.mark.parametrize(("cells", "message"), [
    (["1", "2", "-"], "line 4, column 'a': '-' is not a number, as 2 of the column's 3 values seem to be"),
    (["$1", "", "n", "$2"], "line 4, column 'a': 'n' is not a number, as 2 of the column's 3 values seem to be"),
])  # fmt: skip
def test_a_text_column_that_is_numbers_in_part_is_warned_of(cells, message):
    with pytest.warns(UserWarning, match=f"^rows.csv: {message}: it is taken as text; mend it, or say so \\(--text a"):
        Table("rows.csv", {"a": cells}, [*range(2, 2 + len(cells))]).warn_of_numbers("a")


@pytest.mark.parametrize("cell", ["12.03.2024", "1.2.3", "10,20,x", "A1,5"])
def test_texts_with_points_and_commas_are_no_numbers(tmp_path, cell):
    assert not read_csv(write(tmp_path, f"a;b\n{cell};1\n{cell};2\n")).is_number("a")


def test_a_column_is_asked_for_its_mark_a_few_times_only(monkeypatch):
    # Each time all cells are looked at: once a row would be quadratic.
    asked, mark = [], Table._mark
    monkeypatch.setattr(Table, "_mark", lambda self, name: asked.append(name) or mark(self, name))
    assert not Table("rows.csv", {"a": ["x"] * 1000}, [*range(2, 1002)], ";").is_number("a")
    assert len(asked) <= 3


def test_a_text_where_a_number_is_expected(tmp_path):
    table = read_csv(write(tmp_path, "a\n1\nx\n"))
    with pytest.raises(DataError, match="line 3, column 'a': expected a number, got 'x'"):
        table.numbers("a")


@pytest.mark.parametrize(("cell", "what"), [
    ("1,500", "could be several numbers"), ("12 345", "could be several numbers"),
    ("$7", "is not written as a plain number"), ("5 %", "is not written as a plain number"),
])  # fmt: skip
def test_a_number_that_is_not_plain_has_a_way_out_where_numbers_are_expected(cell, what):
    table = Table("rows.csv", {"a": ["1", cell, "x"]}, [2, 3, 4])
    message = f"rows.csv: line 3, column 'a': '{cell}' {what}; write 1234.5 or, where semicolons or tabs separate the "
    with pytest.raises(DataError, match=f"^{re.escape(message)}cells, in all of the column 1234,5$"):
        table.numbers("a")


def test_a_column_without_values(tmp_path):
    with pytest.raises(DataError, match="column 'b' has no value at all"):
        read_csv(write(tmp_path, "a,b\n1,\n2,NA\n")).is_number("b")


def test_absent_columns_are_named(tmp_path):
    table = read_csv(write(tmp_path, "a,b\n1,2\n"))
    with pytest.raises(DataError, match=r"line 1 has no column 'c', 'd'; the columns are 'a', 'b'$"):
        table.check_columns(["a", "c", "d"])


def test_a_file_without_a_header_is_told_so(tmp_path):
    table = read_csv(write(tmp_path, "5.1,3.5\n4.9,3.0\n"))
    with pytest.raises(DataError, match=r"no column 'c'.*the first line must name the columns"):
        table.check_columns(["c"])


def test_target_column(tmp_path):
    table = read_csv(write(tmp_path, "n,t,gap\n1,x,1\n2,y,?\n"))
    np.testing.assert_array_equal(table.target("n"), [1.0, 2.0])
    assert table.target("t").tolist() == ["x", "y"]
    assert table.target("n", text=True).tolist() == ["1", "2"]
    with pytest.raises(DataError, match="line 3, column 'gap': the target is missing"):
        table.target("gap")


def test_underscores_make_a_text(tmp_path):
    table = read_csv(write(tmp_path, "quarter,code\n2020_1,3_1\n2020_2,4\n"))
    assert not table.is_number("quarter")
    assert table.target("quarter").tolist() == ["2020_1", "2020_2"]
    assert table.texts("code").tolist() == ["3_1", "4"]


def test_rows_are_written_and_added(tmp_path):
    write_csv(tmp_path / "rows.csv", [["a", "b"], [1, "x,y"]])
    append_csv(tmp_path / "rows.csv", [[2, "ü"]])
    assert (tmp_path / "rows.csv").read_bytes().decode() == 'a,b\n1,"x,y"\n2,ü\n'


def test_a_disk_that_is_full_is_named_by_the_file(tmp_path):
    def rows():
        yield ["a"]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left on device") as caught:
        write_csv(tmp_path / "rows.csv", rows())
    assert caught.value.filename == str(tmp_path / "rows.csv")


@pytest.mark.parametrize(
    "content",
    ["a;b\n1,5;x\n", "sep=;\na;b\n1,5;x\n", '"sep=;"\r\na;b\r\n1,5;x\r\n', "a|b\n1,5|x\n", "a\tb\n1,5\tx\n"],
)
def test_delimiters(tmp_path, content):
    for encoding in ("utf-8", "utf-16"):
        path = tmp_path / f"{encoding}.csv"
        path.write_text(content, encoding=encoding, newline="")
        table = read_csv(path)
        assert table.numbers("a").tolist() == [1.5]
        assert table.columns["b"] == ["x"]


@pytest.mark.parametrize(("content", "message"), [
    (b"a,b\n1,2\n\0\0,\0\n", "line 3: a byte of 0, which no text has: the file is damaged$"),
    ("a,b\n1,ö\n".encode("latin-1"), r"not a text file in UTF-8: .* 0xf6; save it as one \(Excel's CSV UTF-8\)$"),
])  # fmt: skip
def test_what_is_no_text(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_csv(path)
