"""Members of an archive: where they lie, and reading one there."""

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from assay.data.dataset import Skipped

MAX_RATIO = 1000
"""Deflate reaches 1032:1 on zeros; what claims to be near that is a bomb, not a picture."""
_SMALL_BYTES = 1024 * 1024


class Member(NamedTuple):
    """Where the bytes of one member lie."""

    offset: int
    """Of its first byte in the archive."""
    packed_bytes: int
    n_bytes: int
    """As the archive declares it; never trusted, only compared."""
    is_deflated: bool = False
    crc: int | None = None
    """CRC-32 of the unpacked bytes, where the archive has one."""


NOWHERE = Member(0, 0, 0)
"""In the place of a member that cannot be read."""


_ROW = struct.Struct("<qqq?q")
"""A member in few bytes; -1 for no CRC."""


class Members:
    """Many members, in 33 bytes each."""

    def __init__(self, rows: bytes = b"") -> None:
        self._rows = bytearray(rows)

    def append(self, member: Member) -> None:
        """Add one."""
        self._rows += _ROW.pack(*member[:4], -1 if member.crc is None else member.crc)

    def take(self, order: Int[np.ndarray, "N"]) -> "Members":
        """Those at these places, in this order."""
        if np.array_equal(order, np.arange(len(self))):
            return self
        rows = np.frombuffer(self._rows, dtype=f"V{_ROW.size}")
        return Members(rows[order].tobytes())

    def __len__(self) -> int:
        return len(self._rows) // _ROW.size

    def __getitem__(self, index: int) -> Member:
        offset, packed, n_bytes, deflated, crc = _ROW.unpack_from(self._rows, index * _ROW.size)
        return Member(offset, packed, n_bytes, deflated, None if crc < 0 else crc)


class Entry(NamedTuple):
    """What an archive says about one of its members."""

    name: str
    """As written, with ``/`` between parts; hostile until checked."""
    place: Member | Skipped | None
    """Where it lies, or why it cannot be read; None for a folder."""


def without_dots(name: str) -> str:
    """The name of a member without parts that lead nowhere, as ``tar cf images.tar images/.`` writes them."""
    return "/".join(part for part in name.split("/") if part != ".")


@runtime_checkable
class ByteStore(Protocol):
    """Bytes that can be read at any place, by several threads at once."""

    def read_at(self, offset: int, n_bytes: int) -> bytes | Skipped:
        """Up to ``n_bytes`` from ``offset`` on; fewer at the end."""
        ...


@dataclass(frozen=True)
class FileStore:
    """A file on disk, opened for each read, so that it can be sent to other processes."""

    path: Path
    n_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "FileStore":
        """The file as it is now; a later change makes its reads ``changed``."""
        found = path.stat()
        return cls(path, found.st_size, found.st_mtime_ns)

    def read_at(self, offset: int, n_bytes: int) -> bytes | Skipped:
        """See ``ByteStore``."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            return Skipped("changed", f"{self.path.name}: {error.strerror}")
        try:
            found = os.fstat(descriptor)
            if (found.st_size, found.st_mtime_ns) != (self.n_bytes, self.modified_ns):
                return Skipped("changed", f"{self.path.name} was changed while it was in use")
            return os.pread(descriptor, n_bytes, offset)
        except OSError as error:
            return Skipped("unreadable", f"{self.path.name}: {error.strerror}")
        finally:
            os.close(descriptor)


def read_member(store: ByteStore, member: Member, max_bytes: int) -> bytes | Skipped:
    """The bytes of one member, of which no more than ``max_bytes`` are ever unpacked."""
    fault = too_large(member, max_bytes)
    if fault is not None:
        return fault
    data = store.read_at(member.offset, member.packed_bytes)
    if isinstance(data, Skipped):
        return data
    if member.is_deflated:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.n_bytes + 1)
        except zlib.error as error:
            return Skipped("corrupt", f"the archive is damaged here: {error}")
    if len(data) != member.n_bytes:
        return Skipped("corrupt", f"the archive promises {member.n_bytes:,} bytes, but holds another number")
    if member.crc is not None and zlib.crc32(data) != member.crc:
        return Skipped("corrupt", "the archive is damaged here: wrong CRC")
    return data


def too_large(member: Member, max_bytes: int) -> Skipped | None:
    """``too_large`` for a member that claims too many bytes, in all or for its packed size."""
    if member.n_bytes > max_bytes:
        return Skipped("too_large", f"{member.n_bytes:,} bytes, the limit is {max_bytes:,}")
    if member.packed_bytes > max_bytes:
        return Skipped("too_large", f"{member.packed_bytes:,} bytes packed, the limit is {max_bytes:,}")
    if member.n_bytes > max(_SMALL_BYTES, MAX_RATIO * member.packed_bytes):
        return Skipped("too_large", f"{member.packed_bytes:,} bytes claim to unpack to {member.n_bytes:,}")
    return None


def peek_member(store: ByteStore, member: Member, n_bytes: int) -> bytes:
    """The first ``n_bytes`` of a member; fewer where they cannot be read."""
    data = store.read_at(member.offset, min(member.packed_bytes, 2 * n_bytes))
    if isinstance(data, Skipped):
        return b""
    if not member.is_deflated:
        return data[:n_bytes]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, n_bytes)
    except zlib.error:
        return b""
