"""A table that is written as its rows come, and goes on where it was."""

import io
import os
from pathlib import Path

import polars as pl
import pytest

from assay.data import growing
from assay.data.growing import ResumableWriter
from assay.data.write_rows import write_rows
from assay.errors import BusyError, ResourceError, UsageError

HEADER = ("name", "n")
ROWS = [('a,"b"', 1), ("line\nbreak", None), ("é", 3), ("=x", 4), ("last", 5)]


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """Rows are brought to disk two by two."""
    monkeypatch.setattr(growing, "SAVED_EVERY", 2)


def columns(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def grow(target, rows=ROWS, stop_after=None, **options):
    """Add rows one by one; the rows that were there at the beginning."""
    with ResumableWriter(target, HEADER, **options) as table:
        before = table.n_rows
        for number, row in enumerate(rows[before:], before):
            if number == stop_after:
                raise KeyboardInterrupt
            table.tally += 1
            table.add(columns([row]))
        assert table.tally == table.n_rows == len(rows)
    return before


def whole(path, **options):
    write_rows(path, HEADER, columns(ROWS), **options)
    return path.read_bytes()


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_rows_one_by_one_are_a_table(tmp_path, name):
    """The bytes of a table that is written at once, and nothing beside it."""
    assert grow(tmp_path / "t", format=name) == 0
    found = (tmp_path / "t").read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["t"]
    assert found == whole(tmp_path / "other", format=name)
    if name == "parquet":
        assert pl.read_parquet(tmp_path / "t").rows() == ROWS


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("stop_after", [2, 3, 4])
def test_an_interrupted_table_goes_on(tmp_path, name, stop_after):
    """After the last rows that were brought to disk, to the same bytes; the old file stays until then."""
    (tmp_path / "t").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "t", stop_after=stop_after, format=name, identity="this")
    assert (tmp_path / "t").read_text() == "old"
    assert grow(tmp_path / "t", format=name, identity="this") == stop_after // 2 * 2
    found = (tmp_path / "t").read_bytes()
    assert [file.name for file in tmp_path.iterdir()] == ["t"]
    assert found == whole(tmp_path / "other", format=name)


def test_what_is_not_ours_or_not_whole_is_begun_anew(tmp_path):
    """Another identity, a file that was cut, a state that is damaged."""
    for spoil in ("identity", "cut", "state"):
        with pytest.raises(KeyboardInterrupt):
            grow(tmp_path / "t", stop_after=4, identity="this")
        part, state = (next(tmp_path.glob(pattern)) for pattern in (".*.part", ".*.json"))
        if spoil == "cut":
            os.truncate(part, 3)
        if spoil == "state":
            state.write_text('{"identity": "this", "rows": 4}')
        assert grow(tmp_path / "t", identity="other" if spoil == "identity" else "this") == 0
        assert [file.name for file in tmp_path.iterdir()] == ["t"]


def test_rows_of_another_table_are_not_taken_for_ours(tmp_path):
    """It was killed before it saved any, and left as many bytes as ours had."""
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "t", stop_after=2, identity="this")
    other = ResumableWriter(tmp_path / "t", HEADER, identity="other")
    other.__enter__()
    other.add(columns([("x" * 99, 1)]))
    other._part._file.close()  # with its lock, as the death of its process does
    other._part._held.release()
    assert grow(tmp_path / "t", identity="this") == 0
    assert (tmp_path / "t").read_bytes() == whole(tmp_path / "whole")


def test_a_few_rows_leave_nothing_behind(tmp_path):
    """Interrupted before anything was brought to disk, there is nothing to go on with."""
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path / "t", stop_after=1)
    assert not [*tmp_path.iterdir()]


def test_no_rows_are_a_header(tmp_path):
    """In each format what write_rows makes of empty columns."""
    for name in ("csv", "jsonl", "parquet"):
        grow(tmp_path / name, rows=[], format=name)
        write_rows(tmp_path / "other", HEADER, [[], []], format=name)
        assert (tmp_path / name).read_bytes() == (tmp_path / "other").read_bytes()


def test_what_parquet_cannot_hold_is_refused_when_it_comes(tmp_path):
    """With its row; what was there before stays."""
    (tmp_path / "t").write_text("old")
    with pytest.raises(UsageError, match=r"^row 3 of 'name' is '\\udce9', which is not Unicode"):
        grow(tmp_path / "t", rows=[("a", 1), ("b", 2), ("\udce9", 3)], format="parquet")
    assert (tmp_path / "t").read_text() == "old"


def test_a_parquet_file_without_room_keeps_its_rows(tmp_path, monkeypatch):
    """The rows are there when there is room again."""
    with monkeypatch.context() as patch:
        patch.setattr(growing, "write_bytes_atomic", no_room)
        with pytest.raises(ResourceError, match="no room"):
            grow(tmp_path / "t", format="parquet", identity="this")
    assert grow(tmp_path / "t", format="parquet", identity="this") == len(ROWS)
    assert pl.read_parquet(tmp_path / "t").rows() == ROWS


def no_room(target: Path, data: bytes) -> None:
    raise ResourceError("no room")


def test_a_stream_gets_parquet_at_the_end(tmp_path):
    """Whole, as a file has it."""
    stream = io.BytesIO()
    grow(stream, format="parquet")
    assert stream.getvalue() == whole(tmp_path / "other", format="parquet")


def test_a_stream_gets_rows_as_they_come(tmp_path):
    """The header with the first, each at once; a pipe in the file system too."""
    stream = io.BytesIO()
    with ResumableWriter(stream, HEADER) as table:
        table.add(columns(ROWS[:1]))
        assert stream.getvalue() == b'name,n\n"a,""b""",1\n'
        table.add(columns(ROWS[1:]))
    assert stream.getvalue() == whole(tmp_path / "other")
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    grow(tmp_path / "pipe")
    assert os.read(reading, 4096) == whole(tmp_path / "other")
    os.close(reading)


def test_one_writer_at_a_time(tmp_path):
    """The second is told; the first goes on."""
    with ResumableWriter(tmp_path / "t", HEADER) as table:
        with (
            pytest.raises(BusyError, match=r"t: another process writes there; wait for it to end$"),
            ResumableWriter(tmp_path / "t", HEADER),
        ):
            pass
        table.add(columns(ROWS))
    assert (tmp_path / "t").read_bytes() == whole(tmp_path / "other")


def test_a_target_may_have_any_name(tmp_path):
    """Also one that is not UTF-8."""
    target = tmp_path / os.fsdecode(b"p\xff.csv")
    with ResumableWriter(target, HEADER) as table:
        table.add(columns(ROWS))
    assert target.read_bytes() == whole(tmp_path / "other")


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path):
    """Before any row is asked for."""
    with pytest.raises(UsageError, match=r"cannot write .*No such file or directory"):
        grow(tmp_path / "no" / "t")


@pytest.mark.parametrize("target", [Path("/dev/full"), "stream"])
def test_a_full_disk_is_said(target):
    """With the place and the bytes; so that a script knows that rows are missing."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        opened = full if target == "stream" else target
        with pytest.raises(ResourceError, match=r"cannot write (/dev/full|stdout): No space left .* bytes"):
            grow(opened)


def test_rows_that_may_be_others_later_are_not_kept(tmp_path):
    """Whoever goes on begins before the first of them."""

    def write():
        with ResumableWriter(tmp_path / "t", HEADER) as table:
            for number, row in enumerate(ROWS):
                table.tally += 1
                table.add(columns([row]), lasting=number != 2)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write()
    assert grow(tmp_path / "t") == 2
    assert (tmp_path / "t").read_bytes() == whole(tmp_path / "other")
