import codecs
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.data.tables import LINE_LIMIT, check_decoded, read_lines, read_table, shown
from assay.errors import TableError

LABELS = ["NA", "None", "null", "nan", "007", "1.0", "true", " x", "x ", "=cmd()", "<script>", "a" * 10_000]


def test_a_file_without_a_header_is_one_label_a_line(write_file):
    """Lines become rows of one cell; a blank line is an empty label and the final newline no row."""
    table = read_table(write_file("noisy.csv", "cat\n\ndog\n"))
    assert table.columns is None
    assert table.rows == (("cat",), ("",), ("dog",))
    assert table.line_numbers == (1, 2, 3)


def test_labels_stay_as_they_are(write_file):
    """No label is taken for a number, a missing value or a truth value, and no space is stripped."""
    assert read_table(write_file("noisy.csv", "\n".join(LABELS))).rows == tuple((text,) for text in LABELS)


def test_quoted_cells_may_hold_anything(write_file):
    """Commas, quotes and newlines inside quotes are part of the label; later lines keep their numbers."""
    table = read_table(write_file("a.csv", 'path,label\n1.png,"a,""b""\r\nc"\n2.png,d\n'))
    assert table.rows == (("1.png", 'a,"b"\r\nc'), ("2.png", "d"))
    assert table.line_numbers == (2, 4)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: codecs.BOM_UTF8 + text.encode(),
        lambda text: text.encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
        lambda text: text.encode("utf-32"),
    ],
    ids=["utf-8", "utf-8-mark", "utf-16-le", "utf-16-be", "utf-32"],
)
def test_delimiter_line_end_and_encoding_are_told_by_the_file(write_file, delimiter, end, encode):
    """The same table is read whatever its delimiter, line end and marked encoding."""
    lines = [["File_Name", "Label"], ["1.png", "né"], ["2.png", "日本"]]
    text = "".join(delimiter.join(line) + end for line in lines)
    table = read_table(write_file("a.csv", encode(text)))
    assert table.columns == ("File_Name", "Label")
    assert table.rows == (("1.png", "né"), ("2.png", "日本"))
    assert table.line_numbers == (2, 3)


def test_the_delimiter_is_the_one_that_makes_a_header(write_file):
    """A comma inside a column name does not beat the semicolon between known names."""
    table = read_table(write_file("a.csv", "path;label;size, px\n1.png;a,b;4\n"))
    assert table.rows == (("1.png", "a,b", "4"),)


def test_blank_lines_of_a_table_are_ignored(write_file):
    """With a header, an empty line is no row, and rows after it keep their line numbers."""
    table = read_table(write_file("a.csv", "path,label\n\n1.png,a\n\n"))
    assert (table.rows, table.line_numbers) == ((("1.png", "a"),), (3,))


@pytest.mark.parametrize(
    ("text", "columns", "count"),
    [
        ("label\na\nb\n", ("label",), 2),
        ("label\na\nlabel\n", None, 3),
        ("y\nn\ny\n", None, 3),
        ("y\nn\nn\n", None, 3),
        ("label\n", None, 1),
        ("path\na\nb\n", None, 3),
    ],
)
def test_a_lone_column_has_a_header_only_if_its_name_never_comes_again(write_file, text, columns, count):
    """A first line that is also a later label is a label."""
    table = read_table(write_file("a.csv", text))
    assert (table.columns, len(table.rows)) == (columns, count)


def test_named_columns_make_a_header(write_file):
    """Column names that are given are looked for, known ones or not."""
    path = write_file("a.csv", "where\twhat\n1.png\ta\n")
    table = read_table(path, path_column="where", label_column="what")
    assert table.columns == ("where", "what")
    assert read_table(write_file("b.csv", "what\na\n"), label_column="what").columns == ("what",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "1.png,cat\n2.png,dog\n",
            "a.csv line 1: expected one label a line in a file without a header, got 2 cells; add a "
            "header such "
            "as 'path,label', name the columns with --path-col and --label-col, or quote a label "
            "that holds ','",
        ),
        (
            "path,label\n1.png,a\n2.png,b,c\n",
            "a.csv line 3: expected 2 cells as in the header, got 3; quote a cell that holds ','",
        ),
        (
            'path,label\n1.png,a\n2.png,"b\n3.png,c\n',
            'a.csv line 3: unexpected end of data; is there a quote (") that does not close, or one '
            "inside a cell?",
        ),
        (
            'path,label\n1.png,"a"b\n',
            "a.csv line 2: ',' expected after '\"'; is there a quote (\") that does not close, or "
            "one inside a cell?",
        ),
        (
            b"PK\x03\x04\x14\0",
            "a.csv: expected text, got a zip or a spreadsheet; unpack it, or save it as CSV (UTF-8)",
        ),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0",
            "a.csv: expected text, got a spreadsheet; save it as CSV (UTF-8)",
        ),
        ("a\nb\0\n", "a.csv line 2: a NUL character; save the file as UTF-8 text"),
        ("a\nb\n".encode("utf-16-le"), "a.csv line 1: a NUL character; save the file as UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"a\0\n\0b", "a.csv after line 1: not utf-16-le (truncated data)"),
        (
            "a\n" + "b" * (LINE_LIMIT + 1),
            "a.csv line 2: expected at most 1,048,576 characters in a line",
        ),
    ],
    ids=[
        "no-header",
        "ragged",
        "open-quote",
        "inner-quote",
        "xlsx",
        "xls",
        "nul",
        "utf-16-unmarked",
        "utf-16-cut",
        "long",
    ],
)
def test_a_table_that_needs_a_guess_is_refused_with_its_line(write_file, content, message):
    """The message says where the fault is, what was expected and what to do."""
    with pytest.raises(TableError) as refused:
        read_table(write_file("a.csv", content))
    assert str(refused.value) == message


def test_a_missing_file_is_refused(tmp_path):
    """A file that is not there is named."""
    with pytest.raises(TableError, match=r"cannot read .*none\.csv: No such file or directory"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize("start", ["", 'path,label\n1.png,"'], ids=["one line", "open quote"])
def test_memory_is_bounded_for_hostile_files(write_file, start):
    """A line without end and a quote without end are refused before the file is in memory."""
    path = write_file("a.csv", start + ("a" * 99 + ("\n" if start else "a")) * 300_000)
    tracemalloc.start()
    try:
        with pytest.raises(TableError, match=r"a\.csv line \d: (expected at most|field larger)"):
            read_table(path)
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()


def test_fifty_thousand_rows_are_all_read(write_file):
    """A long table keeps every row, first to last."""
    path = write_file(
        "a.csv", "path,label\n" + "".join(f"images/{i:05d}.png,{i % 10}\n" for i in range(50_000))
    )
    table = read_table(path)
    assert len(table.rows) == 50_000
    assert list(table.rows[-1]) == ["images/49999.png", "9"]


def test_bytes_that_are_not_utf_8_are_kept_until_they_are_judged(write_file):
    """A Latin-1 byte stays in its cell; as a label it is refused by its value."""
    table = read_table(write_file("a.csv", b"path,label\n\xe9.png,caf\xe9\n"))
    assert table.rows == (("\udce9.png", "caf\udce9"),)
    with pytest.raises(
        TableError, match=r"a\.csv line 2: byte 0xE9 of 'caf\\udce9' is not UTF-8; save the file"
    ):
        check_decoded(table.rows[0][1], table.where(0))
    with pytest.raises(TableError, match=r"x: half a surrogate pair of '\\ud800' is not UTF-8"):
        check_decoded("\ud800", "x")
    check_decoded("café", "x")


def test_lines_keep_their_ends(write_file):
    """Lines are given as they are, so what is inside quotes is not changed."""
    assert list(read_lines(write_file("a.txt", "a\r\nb\rc\nd"))) == ["a\r\n", "b\r", "c\n", "d"]


def test_long_and_odd_text_is_shown_short_and_safe():
    """Control characters are escaped and long text is cut, so a message stays one line."""
    assert shown("a\n\x1b[31m") == r"'a\n\x1b[31m'"
    assert shown("é" * 61) == "'" + "é" * 60 + "'… (61 characters)"


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50)
@given(st.lists(st.tuples(cells, cells), min_size=1))
def test_any_text_survives_quoting(tmp_path_factory, rows):
    """Whatever is written in quotes is read back the same, but for rows that say nothing."""
    path = tmp_path_factory.mktemp("t") / "a.csv"
    quoted = [
        ",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [("path", "label"), *rows]
    ]
    path.write_bytes("\n".join(quoted).encode())
    assert read_table(path).rows == tuple(row for row in rows if any(row))


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\r\nfile;label\r\n1.png;a\r\n2.png;b\r\n",
        "\n\nfile;label\n1.png;a\n2.png;b\n",
        "file;label\n1.png;a;\n2.png;b;;\n",
        "file;label;\n1.png;a\n2.png;b;\n",
        "file;label\n1.png;a\n;\n2.png;b\n;;;\n",
    ],
    ids=["sep", "blank before", "more cells", "fewer cells", "empty rows"],
)
def test_what_spreadsheets_add_is_no_row_and_no_cell(write_file, text):
    """Rows and columns are the same, and each row knows its line."""
    path = write_file("a.csv", text)
    table = read_table(path)
    assert [row[:2] for row in table.rows] == [("1.png", "a"), ("2.png", "b")]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    lines = path.read_text().splitlines()
    assert [lines[number - 1][:5] for number in table.line_numbers] == ["1.png", "2.png"]


@pytest.mark.parametrize("text", ["file;label\n1.png;a;b\n", "file;label;note\n1.png;a\n"])
def test_cells_that_say_something_are_not_dropped(write_file, text):
    """Nor is a cell made up for a column that has a name."""
    with pytest.raises(TableError, match=r"line 2: expected \d cells as in the header"):
        read_table(write_file("a.csv", text))


def test_blank_lines_before_labels_without_names_are_labels(write_file):
    """There each line is an image's."""
    assert read_table(write_file("a.csv", "\na\nb\n")).rows == (("",), ("a",), ("b",))
