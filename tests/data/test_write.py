"""Output files appear whole or not at all, tables read back, and a killed table continues."""

import contextlib
import csv
import io
import json
import os
import resource
import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given as given_examples
from hypothesis import settings
from hypothesis import strategies as st

from assay.data import write
from assay.data.tables import read_table
from assay.data.write import (
    ResumableWriter,
    make_folder,
    plain_cell,
    write_bytes_atomic,
    write_json,
    write_rows,
    write_text_atomic,
)
from assay.errors import BusyError, ResourceError, UsageError

HEADER = ["path", "label"]
every_format = pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o000, 0o666)])
def test_a_link_is_replaced_by_a_file_with_usual_rights(tmp_path, umask, mode):
    """Fault 51: the umask decides; the file that the link pointed to, maybe an image, stays as it was."""
    (tmp_path / "image.png").write_bytes(b"pixels")
    (tmp_path / "link").symlink_to(tmp_path / "image.png")
    before = os.umask(umask)
    try:
        write_text_atomic(tmp_path / "link", "né\udce9\n")  # surrogate escapes stand for bytes
    finally:
        os.umask(before)
    assert (tmp_path / "image.png").read_bytes() == b"pixels"
    assert (tmp_path / "link").read_bytes() == b"n\xc3\xa9\xe9\n"
    assert stat.S_IMODE((tmp_path / "link").lstat().st_mode) == mode


def test_json_is_stable_and_exact(tmp_path):
    """Keys are sorted, numbers keep their digits, and bytes that are not UTF-8 are escaped."""
    numbers = [0.1, 1e-300, np.float32(0.5), np.int64(3)]
    write_json(tmp_path / "a.json", {"b": numbers, "a": {"é\udce9": np.array([[1, 2]])}, "c": 1 / 3})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert text == (
        '{\n "a": {\n  "é\\udce9": [\n   [\n    1,\n    2\n   ]\n  ]\n },\n'
        ' "b": [\n  0.1,\n  1e-300,\n  0.5,\n  3\n ],\n "c": 0.3333333333333333\n}\n'
    )
    assert json.loads(text)["a"] == {"é\udce9": [[1, 2]]}


def test_what_json_does_not_have_is_refused(tmp_path):
    """A NaN, an infinity or an object is a bug of the caller, and nothing is written."""
    for value in (float("inf"), np.array([np.nan])):
        with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
            write_json(tmp_path / "a.json", {"x": value})
    with pytest.raises(TypeError, match="expected text, numbers, lists and dicts, got PosixPath"):
        write_json(tmp_path / "a.json", {"x": Path("x")})
    assert names_in(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(tmp_path):
    """Fault 48: the message has path and bytes, the old file is whole and no half file stays."""
    path = tmp_path / "labels.csv"
    path.write_bytes(b"good")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # Python ignores the signal
    message = f"^cannot write {path}: File too large; it needs 100,000 bytes; free disk"
    try:
        with pytest.raises(ResourceError, match=message):
            write_bytes_atomic(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (names_in(tmp_path), path.read_bytes()) == (["labels.csv"], b"good")


def test_an_interruption_leaves_nothing_behind(tmp_path, monkeypatch):
    """Fault 47: Ctrl-C while writing removes the half file and keeps the old one, which is replaced later."""
    path = tmp_path / ("é" * 127)  # 254 bytes: the name beside it must not be longer
    write_bytes_atomic(path, b"good")

    def interrupted(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_bytes_atomic(path, b"new")
    assert (names_in(tmp_path), path.read_bytes()) == ([path.name], b"good")
    write_bytes_atomic(path, b"new" * 1_000_000)
    assert (names_in(tmp_path), path.read_bytes()) == ([path.name], b"new" * 1_000_000)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
def test_devices_and_pipes_are_written_through(tmp_path):
    """Neither is replaced by a file; a reader that went away is left to the caller."""
    with pytest.raises(ResourceError, match="cannot write /dev/full: No space left on device; it needs 3"):
        write_bytes_atomic(Path("/dev/full"), b"abc")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_bytes_atomic(pipe, b"abc")
    assert os.read(reader, 9) == b"abc"
    os.close(reader)
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        write_bytes_atomic(Path(f"/proc/self/fd/{writer}"), b"x")
    os.close(writer)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    """A folder, a missing folder and a file as folder are named with the system's reason."""
    (tmp_path / "file").write_bytes(b"")
    reasons = {"": "Is a directory", "none/a": "No such file or directory", "file/a": "Not a directory"}
    for place, why in reasons.items():
        with pytest.raises(UsageError, match=rf"cannot write .*: {why}; choose another place"):
            write_bytes_atomic(tmp_path / place, b"x")
    with pytest.raises(UsageError, match=r"cannot write .*file: .*; choose another place"):
        make_folder(tmp_path / "file")
    make_folder(tmp_path)
    assert names_in(tmp_path) == ["file"]


def written(columns, header=HEADER, **options):
    stream = io.BytesIO()
    write_rows(stream, header, columns, **options)
    return stream.getvalue()


def test_csv_is_plain():
    """LF, quotes only where needed, numbers with all their digits, None as nothing, arrays as numbers."""
    columns = [["a", 'b"', "c,d", "e\rf", None], [1, 0.1, True, np.float64(1 / 3), np.int64(7)]]
    assert written(columns) == b'path,label\na,1\n"b""",0.1\n"c,d",true\n"e\rf",0.3333333333333333\n,7\n'
    assert written([np.array(["x", "y"]), np.array([1.5, 2.0])]) == b"path,label\nx,1.5\ny,2.0\n"


cells = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
file_names = st.binary(min_size=1, max_size=255).filter(lambda name: not set(name) & {0, ord("/")})


@settings(max_examples=50)
@given_examples(st.lists(st.tuples(cells, cells).filter(any), min_size=1), file_names)
def test_whatever_is_written_is_read_back(tmp_path_factory, rows, name):
    """Any text in CSV and JSON lines, and any name that a disk can hold, reads back the same."""
    folder = tmp_path_factory.mktemp("t")
    rows = [*rows, (os.fsdecode(name), "x")]
    columns = [list(column) for column in zip(*rows, strict=True)]
    write_rows(folder / "a.csv", HEADER, columns)
    write_rows(folder / "a.jsonl", HEADER, columns, format="jsonl")
    write_rows(folder / "safe.csv", HEADER, columns, excel_safe=True)
    assert read_table(folder / "a.csv").rows == tuple(rows)
    assert read_table(folder / "safe.csv").rows == tuple((*cells, "true") for cells in rows)
    assert read_table(folder / "a.jsonl").rows == tuple(rows)


def test_spreadsheets_run_nothing_when_asked():
    """Fault 35: with ``excel_safe`` text that would be a formula gets a quote in front, line feeds and
    full-width signs included; numbers do not, and a column says so.
    """
    cells = [*"=+-@\t\r\n＝＋－＠", "'=x", "x=1", "'x", ""]
    header, *rows = csv.reader(io.StringIO(written([cells, [-1] * 15], excel_safe=True).decode(), newline=""))
    assert header == ["path", "label", "excel_safe"]
    assert rows == [[f"'{cell}" if row < 12 else cell, "-1", "true"] for row, cell in enumerate(cells)]
    assert [plain_cell(cell) for cell, *_ in rows] == cells
    plain = csv.reader(io.StringIO(written([cells, [-1] * 15]).decode(), newline=""))
    assert [cell for cell, _ in plain][1:] == cells


def test_json_lines_and_parquet_keep_types():
    """One object a line in the order of the header, null for None; text and numbers read back."""
    data = written([["b", None], [0.5, 2]], header=["z", "a"], format="jsonl")
    assert data == b'{"z": "b", "a": 0.5}\n{"z": null, "a": 2}\n'
    data = written([["a", None], [0.5, 2.0], np.array([1, 2])], header=["a", "b", "c"], format="parquet")
    expected = {"a": ["a", None], "b": [0.5, 2.0], "c": [1, 2]}
    assert pl.read_parquet(io.BytesIO(data)).to_dict(as_series=False) == expected


@pytest.mark.parametrize(
    ("columns", "format_", "error", "message"),
    [
        ([["a"], ["b"]], "xlsx", UsageError, "expected --format csv, jsonl, parquet, got 'xlsx'"),
        ([["a"]], "csv", ValueError, r"expected a column for each name of \['path', 'label'\], got 1"),
        ([["a"], []], "csv", ValueError, r"expected columns of one length, got {'path': 1, 'label': 0}"),
        ([["a"], [float("nan")]], "csv", ValueError, "expected a finite number, got nan"),
        ([["a"], [float("inf")]], "jsonl", ValueError, "not JSON compliant"),
        (
            [["a", "\udce9"], [1, 2]],
            "parquet",
            UsageError,
            r"^row 2 of 'path' is '\\udce9', which is not Unicode, as Parquet needs it; write csv or jsonl",
        ),
    ],
)
def test_tables_that_cannot_be_written_are_refused(tmp_path, columns, format_, error, message):
    """A wrong table is refused before anything is written."""
    with pytest.raises(error, match=message):
        write_rows(tmp_path / "a", HEADER, columns, format=format_)
    assert list(tmp_path.iterdir()) == []


# A table that is written as its rows come.

ROWS = [('a,"b"', 1), ("line\nbreak", None), ("é", 3), ("=x", 4), ("last", 5)]


@pytest.fixture
def saved_often(monkeypatch):
    """Rows are flushed to disk two by two."""
    monkeypatch.setattr(write, "SAVED_EVERY", 2)


def columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def grow(target, rows=ROWS, stop_after=None, **options):
    """Add rows one by one; returns how many were there at the beginning."""
    with ResumableWriter(target, HEADER, **options) as table:
        before = table.n_rows
        for number, row in enumerate(rows[before:], before):
            if number == stop_after:
                raise KeyboardInterrupt
            table.tally += 1
            table.add(columns([row]))
        assert table.tally == table.n_rows == len(rows)
    return before


def whole(rows=ROWS, format_="csv"):
    """The bytes of a table that is written at once."""
    return written(columns(rows) if rows else [[], []], format=format_)


@every_format
def test_rows_one_by_one_are_a_table(tmp_path, saved_often, format_):
    """Fault 25: with rows or without, under any name, the bytes are those of a table written at once."""
    target = tmp_path / os.fsdecode(b"p\xff")
    for rows in (ROWS, []):
        assert grow(target, rows, format=format_) == 0
        assert names_in(tmp_path) == [target.name]
        assert target.read_bytes() == whole(rows, format_)


@every_format
@pytest.mark.parametrize("stop_after", [1, 2, 3, 4])
def test_an_interrupted_table_continues(tmp_path, saved_often, format_, stop_after):
    """Fault 47: after the last saved rows, to the same bytes; the old file stays until then."""
    (tmp_path / "t").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "t", stop_after=stop_after, format=format_, identity="this")
    assert (tmp_path / "t").read_text() == "old"
    assert (len(names_in(tmp_path)) == 1) is (stop_after < 2)  # nothing saved, nothing left
    assert grow(tmp_path / "t", format=format_, identity="this") == stop_after // 2 * 2
    assert (tmp_path / "t").read_bytes() == whole(format_=format_)
    assert names_in(tmp_path) == ["t"]


@pytest.mark.parametrize("damage", ["identity", "cut", "state"])
def test_rows_that_are_not_ours_or_not_whole_are_discarded(tmp_path, saved_often, damage):
    """Another identity, a file that was cut, a state that is damaged: the table begins anew."""
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "t", stop_after=4, identity="this")
    part, state = (next(tmp_path.glob(pattern)) for pattern in (".*.part", ".*.json"))
    if damage == "cut":
        os.truncate(part, 3)
    if damage == "state":
        state.write_text('{"identity": "this", "rows": 4}')
    assert grow(tmp_path / "t", identity="other" if damage == "identity" else "this") == 0
    assert names_in(tmp_path) == ["t"]


def test_rows_of_another_table_are_not_taken_for_ours(tmp_path, saved_often):
    """A writer of another identity that was killed before it saved leaves no rows to us."""
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "t", stop_after=2, identity="this")
    other = ResumableWriter(tmp_path / "t", HEADER, identity="other")
    other.__enter__()
    other.add(columns([("x" * 99, 1)]))
    other._out.close()  # with its lock, as the death of its process does
    other._lock.release()
    assert grow(tmp_path / "t", identity="this") == 0
    assert (tmp_path / "t").read_bytes() == whole()


def test_rows_that_may_differ_later_are_not_kept(tmp_path, saved_often):
    """A later writer begins before the first of them."""
    with contextlib.suppress(KeyboardInterrupt), ResumableWriter(tmp_path / "t", HEADER) as table:
        for number, row in enumerate(ROWS):
            table.tally += 1
            table.add(columns([row]), lasting=number != 2)
        raise KeyboardInterrupt
    assert grow(tmp_path / "t") == 2
    assert (tmp_path / "t").read_bytes() == whole()


def test_a_parquet_file_that_cannot_be_written_keeps_its_rows(tmp_path, monkeypatch):
    """Fault 48: without disk space the rows stay; text that is not Unicode is refused with its row."""
    writes = write.write_bytes_atomic

    def refuse(target, data):
        if target == tmp_path / "t":
            raise ResourceError("disk full")
        writes(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(write, "write_bytes_atomic", refuse)
        with pytest.raises(ResourceError, match="disk full"):
            grow(tmp_path / "t", format="parquet", identity="this")
    assert grow(tmp_path / "t", format="parquet", identity="this") == len(ROWS)
    assert pl.read_parquet(tmp_path / "t").rows() == ROWS
    with pytest.raises(UsageError, match=r"^row 2 of 'path' is '\\udce9', which is not Unicode"):
        grow(tmp_path / "t", [("a", 1), ("\udce9", 2)], format="parquet")
    assert pl.read_parquet(tmp_path / "t").rows() == ROWS


def test_a_stream_gets_rows_as_they_come(tmp_path):
    """The header with the first, each at once; a pipe too; Parquet comes at the end, whole."""
    stream = io.BytesIO()
    with ResumableWriter(stream, HEADER) as table:
        table.add(columns(ROWS[:1]))
        assert stream.getvalue() == b'path,label\n"a,""b""",1\n'
        table.add(columns(ROWS[1:]))
    assert stream.getvalue() == whole()
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    grow(tmp_path / "pipe")
    assert os.read(reading, 4096) == whole()
    os.close(reading)
    grow(stream := io.BytesIO(), format="parquet")
    assert stream.getvalue() == whole(format_="parquet")


def test_one_writer_at_a_time(tmp_path):
    """Fault 50: the second is refused; the first continues."""
    with ResumableWriter(tmp_path / "t", HEADER) as table:
        with (
            pytest.raises(BusyError, match=r"t: another process writes there; wait until it has finished$"),
            ResumableWriter(tmp_path / "t", HEADER),
        ):
            pass
        table.add(columns(ROWS))
    assert (tmp_path / "t").read_bytes() == whole()


def test_a_place_for_rows_that_cannot_be_written_is_refused(tmp_path):
    """Before any row is asked for where that is possible; a full disk with the place and the bytes."""
    with pytest.raises(UsageError, match=r"cannot write .*No such file or directory"):
        grow(tmp_path / "no" / "t")
    with pytest.raises(UsageError, match=r"cannot write .*File name too long"):
        grow(tmp_path / ("x" * 300))
    with Path("/dev/full").open("wb", buffering=0) as full:
        for target, name in ((full, "stdout"), (Path("/dev/full"), "/dev/full")):
            with pytest.raises(ResourceError, match=rf"cannot write {name}: No space left .* bytes"):
                grow(target)
