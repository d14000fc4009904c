"""The directory of a zip file in parts: zipfile reads it whole, and keeps half a kilobyte of each member.

Here only the end of the file is read, where the directory is said to lie, and how long each of its entries
is. What an entry says is left to zipfile, which is handed some thousands at a time.
"""

import struct
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

_END = struct.Struct("<4s8xLLH")
"""Mark, bytes of the directory, where it begins, bytes of the comment (APPNOTE.TXT 4.3.16)."""
_END64 = struct.Struct("<4s36xQQ")
_LOCATOR64 = struct.Struct("<4sL8xL")
"""Mark, the disk where a zip64 ends, number of disks."""
_ENTRY = struct.Struct("<4s24xHHH12x")
"""Mark, bytes of name, extra field and comment (APPNOTE.TXT 4.3.12)."""

_LONGEST_COMMENT = 0xFFFF
_PART = 1024 * 1024
"""Bytes of the directory that are read together."""


class _Directory(NamedTuple):
    """Where the directory lies."""

    start: int
    n_bytes: int
    shift: int
    """By which all offsets are too small: bytes before the zip, such as a program that unpacks it."""


def read_directory(path: Path) -> Iterator[zipfile.ZipInfo]:
    """What the directory says of each member, in its order.

    Raises
    ------
    BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error : it is damaged, cut off, or of a kind
        that zipfile cannot read
    """
    with path.open("rb") as file:
        place = _find(file)
        file.seek(place.start)
        left, rest = place.n_bytes, b""
        while left or rest:
            more = file.read(min(left, _PART))
            if left and not more:
                raise zipfile.BadZipFile("Truncated central directory")
            left -= len(more)
            rest += more
            whole = _whole_entries(rest)
            if not whole and not left:
                raise zipfile.BadZipFile("Truncated central directory")
            for info in _entries(rest[:whole]):
                info.header_offset += place.shift
                yield info
            rest = rest[whole:]


def _find(file: BinaryIO) -> _Directory:
    n = file.seek(0, 2)
    first = max(n - _LONGEST_COMMENT - _END.size, 0)
    file.seek(first)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if not 0 <= place <= len(tail) - _END.size:
        raise zipfile.BadZipFile("File is not a zip file")
    _, n_bytes, offset, _ = _END.unpack_from(tail, place)
    end = first + place
    larger = _find64(file, end)
    if larger is not None:
        (n_bytes, offset), end = larger, end - _LOCATOR64.size - _END64.size
    start = end - n_bytes
    if start < 0:
        raise zipfile.BadZipFile("Bad offset for central directory")
    return _Directory(start, n_bytes, start - offset)


def _find64(file: BinaryIO, end: int) -> tuple[int, int] | None:
    """Bytes and offset of the directory of a zip64, whose own end lies before the old one."""
    before = end - _LOCATOR64.size - _END64.size
    if before < 0:
        return None
    file.seek(before)
    record, locator = file.read(_END64.size), file.read(_LOCATOR64.size)
    mark, disk, disks = _LOCATOR64.unpack(locator)
    if mark != b"PK\6\7":
        return None
    if disk != 0 or disks > 1:
        raise zipfile.BadZipFile("zipfiles that span multiple disks are not supported")
    mark, n_bytes, offset = _END64.unpack(record)
    return (n_bytes, offset) if mark == b"PK\6\6" else None


def _whole_entries(part: bytes) -> int:
    """Bytes of the entries that are there to their ends."""
    place = 0
    while place + _ENTRY.size <= len(part):
        mark, *lengths = _ENTRY.unpack_from(part, place)
        if mark != b"PK\1\2":
            raise zipfile.BadZipFile("Bad magic number for central directory")
        end = place + _ENTRY.size + sum(lengths)
        if end > len(part):
            break
        place = end
    return place


def _entries(part: bytes) -> list[zipfile.ZipInfo]:
    """As zipfile reads them: a zip without members, whose directory begins at 0."""
    end = _END.pack(b"PK\5\6", len(part), 0, 0)
    with zipfile.ZipFile(BytesIO(part + end)) as archive:
        return archive.infolist()
