"""The directory in parts says what zipfile says of the whole."""

import zipfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assay.data import zip_directory
from assay.data.zip_directory import read_directory

FIELDS = (
    "orig_filename", "header_offset", "compress_size", "file_size", "CRC", "flag_bits", "compress_type",
    "external_attr",
)  # fmt: skip  # a list of words
DAMAGED = (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, ValueError)


def told(infos) -> list[tuple]:
    return [tuple(getattr(info, field) for field in FIELDS) for info in infos]


def by_zipfile(path: Path) -> list[tuple]:
    with zipfile.ZipFile(path) as archive:
        return told(archive.infolist())


def packed(n: int, comment: bytes = b"", before: bytes = b"") -> bytes:
    """A zip of n members, some with comments of their own and names that are no ASCII."""
    held = BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(n):
            info = zipfile.ZipInfo(f"{number}{'é' * (number % 3)}.png")
            info.comment = b"c" * (number % 5)
            archive.writestr(info, b"x" * (number % 7))
        archive.comment = comment
    return before + held.getvalue()


@pytest.mark.parametrize("part", [1, 60, 1024 * 1024])
@pytest.mark.parametrize("n", [0, 1, 40])
@pytest.mark.parametrize(("comment", "before"), [(b"", b""), (b"PK said", b""), (b"", b"#!" * 50)])
def test_all_members_come_in_their_order(tmp_path, monkeypatch, part, n, comment, before):
    """Whatever is read at a time; with a comment at the end, or a program before the zip."""
    monkeypatch.setattr(zip_directory, "_PART", part)
    path = tmp_path / "x.zip"
    path.write_bytes(packed(n, comment, before))
    found = told(read_directory(path))
    assert len(found) == n
    assert found == by_zipfile(path)


@pytest.mark.parametrize("before", [b"", b"#!" * 50])
def test_more_members_than_a_zip_of_old_can_count(tmp_path, before):
    """A zip64, which ends twice."""
    held = BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{number}.png"), b"")
    path = tmp_path / "x.zip"
    path.write_bytes(before + held.getvalue())
    assert b"PK\6\6" in held.getvalue()
    assert told(read_directory(path)) == by_zipfile(path)


def test_offsets_beyond_four_gigabytes_are_read(tmp_path, monkeypatch):
    """They stand in an extra field of the member."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    path = tmp_path / "x.zip"
    path.write_bytes(packed(12))
    assert told(read_directory(path)) == by_zipfile(path)


WHOLE = packed(9, b"a comment")


@given(
    st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4), st.integers(0, 99)
)
@example([], 0)
@example([], 30)
def test_a_damaged_directory_is_refused_as_zipfile_refuses_it(tmp_path_factory, changes, cut):
    """Bytes that were changed, an end that is missing: both read the same, or neither reads."""
    data = bytearray(WHOLE)
    for place, value in changes:
        data[place] = value
    path = tmp_path_factory.mktemp("zip") / "x.zip"
    path.write_bytes(data[: len(data) - cut])
    try:
        expected = by_zipfile(path)
    except DAMAGED:
        with pytest.raises(DAMAGED):
            list(read_directory(path))
        return
    assert told(read_directory(path)) == expected
