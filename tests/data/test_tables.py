"""Tables in files and in memory: what is read, byte for byte, and what is refused with its line."""

import codecs
import json
import tracemalloc

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.tables import LINE_LIMIT, PATH_COLUMNS, find_columns, read_table, shown, table_of
from assay.errors import TableError


def picked(table, **named):
    """(labels, paths)"""
    label, path = find_columns(table, **named)
    return table.column(label), None if path is None else tuple(row[path] for row in table.rows)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
def test_delimiter_line_end_and_encoding_are_detected(write_file, delimiter, end, encoding):
    """The same table is read whatever its delimiter, line end and marked encoding (fault 36)."""
    lines = [["File_Name", "Label"], ["1.png", "né"], ["2.png", "日本"]]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + "".join(delimiter.join(line) + end for line in lines)
    table = read_table(write_file("a.csv", text.encode(encoding)))
    assert (table.columns, table.delimiter) == (("File_Name", "Label"), delimiter)
    assert table.rows == (("1.png", "né"), ("2.png", "日本"))
    assert table.line_numbers == (2, 3)


def test_cells_may_hold_delimiters(write_file):
    """The delimiter is the one between known names; what is in quotes is part of the label."""
    table = read_table(write_file("a.csv", "path;label;size, px\n1.png;a,b;4\n"))
    assert table.rows == (("1.png", "a,b", "4"),)
    table = read_table(write_file("a.csv", 'path,label\n1.png,"a,""b""\r\nc"\n2.png,d\n'))
    assert table.rows == (("1.png", 'a,"b"\r\nc'), ("2.png", "d"))
    assert table.line_numbers == (2, 4)


@settings(max_examples=50)
@given(st.lists(st.tuples(TEXT, TEXT), min_size=1))
def test_any_text_survives_quoting_and_json(tmp_path_factory, rows):
    """Text in quotes or JSON is read back the same; rows of empty cells are ignored in CSV."""
    path = tmp_path_factory.mktemp("t") / "a.csv"
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    path.write_bytes("\n".join(['"path","label"', *quoted]).encode())
    assert read_table(path).rows == tuple(row for row in rows if any(row))
    lines = path.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps({"path": a, "label": b}) + "\n" for a, b in rows), encoding="utf-8")
    assert read_table(lines).rows == tuple(rows)


@pytest.mark.parametrize(
    ("text", "columns", "count"),
    [
        ("label\na\nb\n", ("label",), 2),
        ("label\na\nlabel\n", None, 3),
        ("y\nn\nn\n", None, 3),
        ("label\n", None, 1),
        ("path\na\nb\n", None, 3),
        ("\ncat\n\ndog\n", None, 4),
    ],
)
def test_a_single_column_has_a_header_only_if_its_name_never_comes_again(write_file, text, columns, count):
    """A first line that is also a later label, or one letter, is a label; a blank line is an empty one."""
    table = read_table(write_file("a.csv", text))
    assert (table.columns, len(table.rows)) == (columns, count)
    assert [row for row in table.rows if len(row) != 1] == []


@pytest.mark.parametrize(
    "text",
    [
        "a b.png cat\nsub/2.JPG dog house\n3.jpeg\n",
        "a b.png   cat\n\n  sub/2.JPG dog house \n3.jpeg \n\n",
        "a b.png,cat\nsub/2.JPG,dog house\n3.jpeg,\n",
        '"a b.png"\tcat\n\nsub/2.JPG\tdog house\n3.jpeg\t\n',
    ],
)
@pytest.mark.parametrize("name", ["labels.txt", "labels.csv"])
def test_lines_of_a_path_and_a_label_need_no_header(write_file, name, text):
    """If each line begins with the path of an image, what follows is its label, or none."""
    table = read_table(write_file(name, text))
    assert picked(table) == (("cat", "dog house", ""), ("a b.png", "sub/2.JPG", "3.jpeg"))
    lines = text.splitlines()
    assert all(
        row[0] in lines[number - 1] for row, number in zip(table.rows, table.line_numbers, strict=True)
    )


@pytest.mark.parametrize("text", ["1.png cat\ndog\n", "1.png\n2.png\n", "1 cat\n2 dog\n"])
def test_lines_that_are_not_all_pairs_are_labels(write_file, text):
    """One line without an image, no label at all, and numbers: then a line is a label, as it is."""
    table = read_table(write_file("labels.txt", text))
    assert (table.columns, [row[0] for row in table.rows]) == (None, text.splitlines())


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nfile;label\r\n1.png;a\r\n2.png;b\r\n",
        "\n\nfile;label\n\n1.png;a\n2.png;b\n",
        "file;label\n1.png;a;\n2.png;b;;\n",
        "file;label;\n1.png;a\n2.png;b;\n",
        "file;label\n1.png;a\n;\n2.png;b\n;;;\n",
    ],
    ids=["sep", "blank lines", "more cells", "fewer cells", "empty rows"],
)
def test_additions_of_spreadsheets_are_no_row_and_no_cell(write_file, text):
    """Rows and columns are the same, and each row knows its line."""
    path = write_file("a.csv", text)
    table = read_table(path)
    assert [row[:2] for row in table.rows] == [("1.png", "a"), ("2.png", "b")]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    lines = path.read_text().splitlines()
    assert [lines[number - 1][:5] for number in table.line_numbers] == ["1.png", "2.png"]


NO_HEADER = (
    "expected a header with a column of paths (path, file_name, filename, filepath, image, image_path, file) "
    "and one of labels (label, class, target, y, category)"
)
OPEN_QUOTE = 'is there a quote (") that does not close, or one inside a cell?'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("photo,my kind\n1.png,cat\n", f"line 1: {NO_HEADER}, got 'photo', 'my kind'; name the columns with "
         "--path-col photo and --label-col 'my kind', or, if these are labels, quote one that holds ','"),
        ("1;a;x\n2;b\n", f"line 1: {NO_HEADER}, got '1', 'a', 'x'; name the columns with --path-col and "
         "--label-col, or, if these are labels, quote one that holds ';'"),
        ("path,label\n1.png,a\n2.png,b,c\n", "line 3: expected 2 cells as in the header, got 3; quote a cell "
         "that holds ','"),
        ("file;label;note\n1.png;a\n", "line 2: expected 3 cells as in the header, got 2; quote a "
         "cell that holds ';'"),
        ('path,label\n1.png,a\n2.png,"b\n3.png,c\n', f"line 3: unexpected end of data; {OPEN_QUOTE}"),
        ('path,label\n1.png,"a"b\n', f"line 2: ',' expected after '\"'; {OPEN_QUOTE}"),
        ("a\nb\0\n", "line 2: a NUL character; save the file as UTF-8 text"),
        ("a\nb\n".encode("utf-16-le"), "line 1: a NUL character; save the file as UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"a\0\n\0b", "after line 1: not utf-16-le (truncated data)"),
        ("a\n" + "b" * (LINE_LIMIT + 1), "line 2: expected at most 1,048,576 characters in a line"),
    ],
    ids=[
        *("no-known-name", "no-header", "wide", "narrow", "open-quote", "inner-quote", "nul", "unmarked"),
        *("utf-16-cut", "long"),
    ],
)  # fmt: skip  # one case after another
def test_a_csv_that_needs_a_guess_is_refused_with_its_line(write_file, content, message):
    """The message says where the fault is, what was expected and what to do (fault 36)."""
    with pytest.raises(TableError) as refused:
        read_table(write_file("a.csv", content))
    assert str(refused.value) == f"a.csv {message}"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"PK\x03\x04\x14\0", "a zip or a spreadsheet; unpack it, or save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "a spreadsheet; save it as CSV"),
        (b"\x1f\x8b", "a gzip; unpack it"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "an image; give a table of labels"),
    ],
)
def test_files_that_are_no_text_are_refused(write_file, start, message):
    """Spreadsheets, archives and images are named."""
    with pytest.raises(TableError, match=f"a.csv: expected text, got {message}"):
        read_table(write_file("a.csv", start))


def test_files_that_cannot_be_opened_are_refused(tmp_path):
    """A missing file, a folder, and a name that is too long."""
    with pytest.raises(TableError, match=r"cannot read .*: expected a file, got a folder$"):
        read_table(tmp_path)
    with pytest.raises(TableError, match=r"cannot read .*none\.csv: No such file or directory"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"cannot read .*: File name too long"):
        read_table(tmp_path / ("x" * 300))


@pytest.mark.parametrize("start", ["", 'path,label\n1.png,"'], ids=["one line", "open quote"])
def test_memory_is_bounded_for_hostile_files(write_file, start):
    """A line without end and a quote without end are refused before the file is in memory (fault 36)."""
    path = write_file("a.csv", start + ("a" * 99 + ("\n" if start else "a")) * 300_000)
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match=r"a\.csv line \d: (expected at most|field larger)"):
            read_table(path)
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()


def test_json_values_become_cells_as_they_are_written(write_file):
    """Numbers keep their digits, null and missing keys are empty, nested keys are left out."""
    table = read_table(
        write_file(
            "m.jsonl",
            '{"file_name": "1.png", "label": 7, "box": [1]}\n\n{"file_name": "2.png", "label": 1.0}\n'
            '{"label": null, "file_name": "3.png"}\n{"file_name": "4.png"}\n'
            '{"file_name": "[{\\"", "label": true}\n',
        )
    )
    assert table.columns == ("file_name", "label")
    assert [row[1] for row in table.rows] == ["7", "1.0", "", "", "true"]
    assert table.where(1) == "m.jsonl line 3"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": ', "Expecting value: line 2 column 1 (char 7)"),
        ('["a"]', "got '[\"a\"]'"),
        ('{"label": "a", "label": "b"}', "the key 'label' comes twice"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' comes twice"),
        ('{"a": ' + "[" * 1_000 + "]" * 1_000 + "}", "nested deeper than 32"),
        ('{"a":' * 100_000, "nested deeper than 32"),
        ('{"a": ' + "9" * 5_000 + "}", "a number of 5,000 characters"),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": "x\\u0000y"}', "a NUL character"),
        ('{"a": "x\\ud800"}', "half of a character in 'x\\ud800'"),
        # A search that started again at each of its half a million quotes would take an hour.
        ('{"a": "' + '\\"' * 500_000, "Invalid control character at: line 1 column 1000008 (char 1000007)"),
    ],
    ids=["cut", "list", "twice", "inner", "deep", "cut deep", "huge", "nan", "nul", "half", "endless"],
)
def test_hostile_json_is_refused(write_file, line, message):
    """Malformed, repeated, deep and huge values are ``bad_json``, at once and without a crash (fault 41)."""
    path = write_file("m.jsonl", '{"file_name": "1.png", "label": "a"}\n' + line + "\n")
    with pytest.raises(TableError) as refused:
        read_table(path)
    advice = "expected one object a line, with file_name and label"
    assert str(refused.value) == f"m.jsonl line 2: bad_json: {message}; {advice}"


@pytest.mark.parametrize("text", ['[\n {"image": "1.png"}\n]\n', '{"images": [], "annotations": []}\n{'])
def test_json_of_other_tools_is_refused(write_file, text):
    """A file of COCO's or Label Studio's is not read as lines; the way out is named (fault 41)."""
    with pytest.raises(TableError, match=r"b\.json line \d: bad_json: .*convert other JSON, such as COCO"):
        read_table(write_file("b.json", text))


def test_csv_json_lines_and_parquet_are_equal(tmp_path, write_file):
    """One table in three formats gives the same paths and labels."""
    paths, labels = ("b/1.png", "a.png", "c.png"), ("NA", "007", "")
    rows = [*zip(paths, labels, strict=True)]
    write_file("a.csv", "label,file_name\n" + "".join(f"{label},{path}\n" for path, label in rows))
    records = [json.dumps({"file_name": path, "label": label or None}) + "\n" for path, label in rows]
    write_file("a.json", "".join(records))
    pl.DataFrame({"image": paths, "label": labels}).write_parquet(tmp_path / "a.parquet")
    for name in ("a.csv", "a.json", "a.parquet"):
        table = read_table(tmp_path / name)
        assert picked(table) == (labels, paths)
    assert table.where(2) == "a.parquet row 3"


COLUMNS = {"file": ["1.png", "2.png", "3.png"], "label": [7, None, 12]}


@pytest.mark.parametrize(
    "kind", [dict, pd.DataFrame, lambda columns: pd.DataFrame(columns).convert_dtypes(), pl.DataFrame]
)
def test_columns_in_memory_are_a_table(kind):
    """Frames and mappings are read as files are: labels are text, missing ones empty."""
    table = table_of(kind(COLUMNS), "noisy")
    assert picked(table) == (("7", "", "12"), ("1.png", "2.png", "3.png"))
    assert table.where(0) == "noisy row 1"


@pytest.mark.parametrize(
    ("text", "named", "labels", "paths"),
    [
        ("x\ny\n", {}, ("x", "y"), None),
        (
            "path,label,name,corrected\np,l,n,c\n",
            {"path_column": "name", "label_column": "corrected"},
            ("c",),
            ("n",),
        ),
        ("NAME,label\np,l\n", {"path_column": "img"}, ("l",), ("p",)),
        ("name,file,label\nn,f,l\n", {}, ("l",), ("f",)),
        ("where\twhat\n1.png\ta\n", {"path_column": "where", "label_column": "what"}, ("a",), ("1.png",)),
        ("what\na\n", {"label_column": "what"}, ("a",), None),
    ],
)
def test_columns_are_found(write_file, text, named, labels, paths):
    """Named columns, which make a header, else known names; ``name`` is a path only if no other is."""
    assert picked(read_table(write_file("a.csv", text), **named), **named) == (labels, paths)


LABEL, PATH = "label, class, target, y, category", ", ".join(PATH_COLUMNS)


@pytest.mark.parametrize(
    ("text", "named", "expected", "got", "flag"),
    [
        (
            "path,weight\n1.png,2\n",
            {},
            f"label column ({LABEL})",
            "none in 'path', 'weight'",
            "--label-col weight",
        ),
        ("id,label\n1,2\n", {}, f"path column ({PATH})", "none in 'id', 'label'", "--path-col id"),
        ("a,b,y\n1,2,3\n", {}, f"path column ({PATH})", "none in 'a', 'b', 'y'", "--path-col"),
        ("path,y,class\n1,2,3\n", {}, f"label column ({LABEL})", "2 in 'path', 'y', 'class'", "--label-col"),
        ("path,y\n1,2\n", {"label_column": "k"}, "label column ('k')", "none in 'path', 'y'", "--label-col"),
    ],
)
def test_columns_that_cannot_be_found_are_refused(write_file, text, named, expected, got, flag):
    """If no column fits or more than one, the message names the flag that decides."""
    with pytest.raises(TableError) as refused:
        find_columns(read_table(write_file("a.csv", text)), **named)
    assert str(refused.value) == f"a.csv: expected one {expected}, got {got}; name it with {flag}"


def test_a_label_that_is_not_utf_8_is_refused_with_its_line(write_file):
    """A Latin-1 byte stays in a path, which may exist, and is refused in a label (fault 36)."""
    table = read_table(write_file("a.csv", b"path,label\n\xe9.png,cat\n2.png,k\xf6ter\n"))
    assert table.rows[0] == ("\udce9.png", "cat")
    with pytest.raises(TableError, match=r"a\.csv line 3: byte 0xF6 of 'k\\udcf6ter' is not UTF-8; save"):
        table.column(1)
    with pytest.raises(TableError, match=r"half a surrogate pair of '\\ud800' is not UTF-8"):
        table_of(["\ud800"], "x").column(0)


def test_long_and_odd_text_is_short_and_safe_in_messages():
    """Control characters are escaped and long text is cut, so a message stays one line."""
    assert shown("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert shown("é" * 61) == "'" + "é" * 60 + "'… (61 characters)"
