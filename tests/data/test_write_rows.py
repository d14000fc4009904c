import io
import json
import os

import numpy as np
import polars as pl
import pytest
from hypothesis import given as given_examples
from hypothesis import settings
from hypothesis import strategies as st

from assay.data.jsonl import read_jsonl
from assay.data.tables import read_table
from assay.data.write_rows import write_rows
from assay.errors import UsageError

HEADER = ["path", "label"]
NAMES = [
    "a b.png",
    "new\nline.png",
    'quo"te,.png',
    "😀.png",
    "\u202ertl.png",
    "é" * 127,
    "\udcff\udc80.png",
    "-rf",
    " x",
]


def written(columns, header=HEADER, **options):
    stream = io.BytesIO()
    write_rows(stream, header, columns, **options)
    return stream.getvalue()


def test_csv_is_plain():
    """LF, quotes only where needed, numbers with all their digits, None as nothing."""
    columns = [["a", 'b"', "c,d", "e\rf", None], [1, 0.1, True, np.float64(1 / 3), np.int64(7)]]
    assert written(columns) == b'path,label\na,1\n"b""",0.1\n"c,d",true\n"e\rf",0.3333333333333333\n,7\n'


def test_columns_may_be_arrays():
    """NumPy columns are written as plain numbers."""
    assert written([np.array(["x", "y"]), np.array([1.5, 2.0])]) == b"path,label\nx,1.5\ny,2.0\n"


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_odd_names_survive(tmp_path, format_):
    """Newlines, quotes, emoji, right-to-left marks, long names and bytes that are no text come back."""
    path = tmp_path / f"a.{format_}"
    write_rows(path, HEADER, [NAMES, ["x"] * len(NAMES)], format=format_)
    table = read_table(path) if format_ == "csv" else read_jsonl(path)
    assert [row[0] for row in table.rows] == NAMES


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50)
@given_examples(st.lists(st.tuples(cells, cells).filter(any), min_size=1))
def test_whatever_is_written_is_read_back(tmp_path_factory, rows):
    """Any text in CSV and JSON lines reads back the same, row by row; a row that says nothing is none."""
    folder = tmp_path_factory.mktemp("t")
    columns = [list(column) for column in zip(*rows, strict=True)]
    write_rows(folder / "a.csv", HEADER, columns)
    write_rows(folder / "a.jsonl", HEADER, columns, format="jsonl")
    assert read_table(folder / "a.csv").rows == tuple(rows)
    assert read_jsonl(folder / "a.jsonl").rows == tuple(rows)


@settings(max_examples=50)
@given_examples(st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, ord("/")}))
def test_any_file_name_survives(tmp_path_factory, name):
    """Every name that a disk can hold comes back byte for byte."""
    path = tmp_path_factory.mktemp("t") / "a.csv"
    write_rows(path, HEADER, [[os.fsdecode(name)], ["x"]])
    assert os.fsencode(read_table(path).rows[0][0]) == name


def test_spreadsheets_run_nothing_when_asked():
    """With ``excel_safe`` text that would be a formula gets a quote in front; numbers do not."""
    cells = ["=cmd()", "+1", "-1", "@x", "\tx", "\rx", "x=1", ""]
    safe = written([cells, [-1] * 8], excel_safe=True).decode()
    assert safe == "path,label\n'=cmd(),-1\n'+1,-1\n'-1,-1\n'@x,-1\n'\tx,-1\n\"'\rx\",-1\nx=1,-1\n,-1\n"
    assert "'" not in written([cells, [-1] * 8]).decode()


def test_json_lines_keep_the_order_of_the_header():
    """One object a line, null for None."""
    data = written([["b", None], [0.5, 2]], header=["z", "a"], format="jsonl")
    assert data == b'{"z": "b", "a": 0.5}\n{"z": null, "a": 2}\n'
    assert json.loads(written([["é\udce9"]], header=["a"], format="jsonl"))["a"] == "é\udce9"


def test_parquet_keeps_types():
    """Text, numbers and nulls come back as they were."""
    data = written([["a", None], [0.5, 2.0], np.array([1, 2])], header=["a", "b", "c"], format="parquet")
    assert pl.read_parquet(io.BytesIO(data)).to_dict(as_series=False) == {
        "a": ["a", None],
        "b": [0.5, 2.0],
        "c": [1, 2],
    }


def test_parquet_refuses_bytes_that_are_not_text():
    """Parquet holds Unicode only; the message says what to do."""
    with pytest.raises(UsageError) as refused:
        written([["a", "\udce9"], [1, 2]], format="parquet")
    assert str(refused.value) == (
        r"row 2 of 'path' is '\udce9', which is not Unicode as Parquet wants it; write csv or jsonl instead"
    )


@pytest.mark.parametrize(
    ("columns", "options", "error", "message"),
    [
        ([["a"], ["b"]], {"format": "xlsx"}, UsageError, "expected --format csv, jsonl, parquet, got 'xlsx'"),
        ([["a"]], {}, ValueError, r"expected a column for each name of \['path', 'label'\], got 1"),
        ([["a"], []], {}, ValueError, r"expected columns of one length, got {'path': 1, 'label': 0}"),
        ([["a"], [float("nan")]], {}, ValueError, "expected a finite number, got nan"),
        ([["a"], [float("inf")]], {"format": "jsonl"}, ValueError, "not JSON compliant"),
    ],
)
def test_tables_that_cannot_be_written_are_refused(tmp_path, columns, options, error, message):
    """A wrong table is refused before anything is written."""
    with pytest.raises(error, match=message):
        write_rows(tmp_path / "a.csv", HEADER, columns, **options)
    assert list(tmp_path.iterdir()) == []


def test_no_rows_are_a_table_too(tmp_path):
    """A table without rows is a header."""
    write_rows(tmp_path / "a.csv", HEADER, [[], []])
    assert (tmp_path / "a.csv").read_bytes() == b"path,label\n"
