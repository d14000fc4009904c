"""Images in a zip or tar, read in place: nothing is ever extracted under a name that the archive chose."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import IO, NamedTuple, Protocol, runtime_checkable

from assay.data.dataset import Listing, Skipped
from assay.data.formats import (
    IMAGE_EXTENSIONS,
    SNIFF_BYTES,
    USUAL,
    Limits,
    extension,
    promises_image,
    raw_fault,
)
from assay.data.paths import check_entry
from assay.data.sources import ScanReport, is_hidden
from assay.errors import DataError, ResourceError

MAX_RATIO = 1000
"""Deflate reaches 1032:1 on zeros; a member that claims nearly that is a bomb, not a picture."""

_SMALL_BYTES = 1024 * 1024
_TAR_RATIO, _SMALL_TAR_BYTES = 200, 1024**3
_CHUNK_BYTES = 1024 * 1024
_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")
_ENCRYPTED, _UTF8 = 1, 0x800  # flags of a zip's member
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,  # a UnicodeDecodeError is one
    struct.error,
    EOFError,
    OverflowError,
    zlib.error,
)
_UNPACKERS: dict[bytes, Callable[[Path], io.BufferedIOBase]] = {
    b"\x1f\x8b": gzip.GzipFile,
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lzma.LZMAFile,
}


class Member(NamedTuple):
    """Where one member lies."""

    place: zipfile.ZipInfo | int
    """What zipfile knows of it, or the offset of its first byte in a tar."""
    packed_bytes: int
    n_bytes: int
    """As the archive declares it; never trusted, only compared."""


Entry = tuple[str, Member | Skipped | None]
"""A member's name with ``/`` between parts, hostile until checked; where it lies, or why it cannot be read,
or None for a folder."""


@runtime_checkable
class Archive(Protocol):
    """An open zip or tar."""

    def entries(self) -> Iterator[Entry]:
        """Its members, in its order; DataError if it is damaged or cut off."""
        ...

    def read(self, member: Member, n_bytes: int) -> bytes | Skipped:
        """Up to ``n_bytes`` of a member, from its beginning; safe to call from threads."""
        ...


@dataclass(frozen=True)
class ArchiveSource:
    """Reads the images of one archive, which stays open."""

    archive: Archive
    members: tuple[Member | None, ...]
    """Where the images lie."""
    skipped: Mapping[int, Skipped]
    """Why image i cannot be read."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why there are none; no more than it declares are unpacked."""
        member = self.members[index]
        if member is None:
            return self.skipped[index]
        data = self.archive.read(member, member.n_bytes + 1)
        if isinstance(data, Skipped) or len(data) == member.n_bytes:
            return data
        return Skipped("corrupt", f"the archive promises {member.n_bytes:,} bytes, but holds another number")


def scan_archive(path: Path, limits: Limits = USUAL) -> Listing:
    """All images in a zip or tar (plain, gzip, bzip2 or xz), which are told apart by content.

    A member with an image's extension is a row whatever it holds, any other if its first bytes are those of
    an allowed format. A hostile name, an encrypted or a too large member is a skipped row. A compressed tar
    takes its unpacked size among the temporary files.

    Parameters
    ----------
    limits : a member of more bytes is skipped

    Raises
    ------
    DataError : no zip or tar, a damaged one, or two members of one name
    ResourceError : no disk space to unpack a compressed tar
    """
    archive = _open(path)
    report = ScanReport()
    members: list[Member | None] = []
    for name, member in archive.entries():
        if member is None:
            _note_folder(name.rstrip("/") + "/", report)
        elif _is_row(name, member, archive, report):
            fault = check_entry(name) or raw_fault(name) or _fault(member, limits.max_bytes)
            members.append(member if fault is None and isinstance(member, Member) else None)
            # A table with a NUL in it could not be read again.
            report.add(name.replace("\0", "\ufffd"), fault)
    names, skipped, order = report.rows()
    if len(set(names)) < len(names):  # a label could be for either of two members of one name
        twice = next(name for name, following in pairwise(names) if name == following)
        raise DataError(
            f"{path}: expected every member to have a name of its own, got {twice!r} {names.count(twice)} "
            "times; pack the images again under different names"
        )
    source = ArchiveSource(archive, tuple(members[place] for place in order), skipped)
    return Listing(names, source, skipped, report.notes(), tuple(sorted(report.folders)))


def _open(path: Path) -> Archive:
    if not path.is_file():
        raise DataError(f"expected a zip or tar file, got {str(path)!r}, which is no file; check the path")
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be read, got: {error.strerror}; check its rights"
        ) from error
    if head.startswith(tuple(_UNPACKERS)):
        return _Tar(path, _unpacked(path, head), is_copy=True)
    # The test that allows bytes before a zip comes last: a tar that ends with a zip would pass it.
    if not head.startswith(_ZIP_STARTS) and tarfile.is_tarfile(path):
        return _Tar(path, path.open("rb"), is_copy=False)
    if head.startswith(_ZIP_STARTS) or zipfile.is_zipfile(path):
        return _Zip(path)
    raise DataError(
        f"{path}: expected a zip or tar (plain, gzip, bzip2 or xz), got a file that starts {head[:8]!r}; "
        "unpack it into a folder first"
    )


def _is_row(name: str, member: Member | Skipped, archive: Archive, report: ScanReport) -> bool:
    """Whether a member is a row; if not, it is counted."""
    if check_entry(name) is None and any(map(is_hidden, name.split("/"))):
        report.hidden += 1
        return False
    _note_folder(name, report)
    ending = extension(name)
    if ending in IMAGE_EXTENSIONS:
        return True
    if isinstance(member, Member):
        head = archive.read(member, SNIFF_BYTES)
        if not isinstance(head, Skipped) and promises_image(name, head):
            return True
    report.ignored[ending] += 1
    return False


def _note_folder(name: str, report: ScanReport) -> None:
    top, slash, _ = name.partition("/")
    if slash and top and not is_hidden(top):
        report.folders.add(top)


def _fault(member: Member | Skipped, max_bytes: int) -> Skipped | None:
    """``too_large`` for a member that claims too many bytes, in all or for its packed size."""
    if isinstance(member, Skipped):
        return member
    _, packed, unpacked = member
    if unpacked > max_bytes:
        return Skipped("too_large", f"{unpacked:,} bytes, the limit is {max_bytes:,}")
    if packed > max_bytes:
        return Skipped("too_large", f"{packed:,} bytes packed, the limit is {max_bytes:,}")
    if unpacked > max(_SMALL_BYTES, MAX_RATIO * packed):
        return Skipped("too_large", f"{packed:,} bytes claim to unpack to {unpacked:,}")
    return None


def _without_dots(name: str) -> str:
    """The name of a member without ``.`` parts, as ``tar cf images.tar images/.`` writes them."""
    return "/".join(part for part in name.split("/") if part != ".")


def _damaged(path: Path, family: str, what: str) -> DataError:
    return DataError(
        f"{path}: expected a whole {family} file, got a damaged one ({what}); copy or download it again"
    )


def _stamp(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _changed(path: Path, stamp: tuple[int, int]) -> Skipped | None:
    """``changed`` if the file is another than the one that was opened: its members may lie elsewhere now."""
    try:
        is_same = _stamp(path) == stamp
    except OSError as error:
        return Skipped("changed", f"{path.name}: {error.strerror}")
    return None if is_same else Skipped("changed", f"{path.name} was changed while it was in use")


class _Zip:
    """A zip, whose directory zipfile keeps."""

    def __init__(self, path: Path) -> None:
        self._path, self._stamp = path, _stamp(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except _ZIP_ERRORS as error:
            raise _damaged(path, "zip", str(error)) from error
        # zipfile counts its open members without a lock, and would close the file under a reader.
        self._reading = Lock()

    def entries(self) -> Iterator[Entry]:
        for info in self._archive.infolist():
            name = _zip_name(info).replace("\\", "/")
            member = Member(info, info.compress_size, info.file_size)
            yield _without_dots(name), None if name.endswith("/") else _zip_fault(info) or member

    def read(self, member: Member, n_bytes: int) -> bytes | Skipped:
        fault = _changed(self._path, self._stamp)
        if fault is not None:
            return fault
        assert isinstance(member.place, zipfile.ZipInfo)
        try:
            with self._reading, self._archive.open(member.place) as file:
                return file.read(n_bytes)
        except OSError as error:
            return Skipped("unreadable", f"{self._path.name}: {error.strerror or error}")
        except _ZIP_ERRORS as error:
            return Skipped("corrupt", f"the archive is damaged here: {error}")


def _zip_name(info: zipfile.ZipInfo) -> str:
    """The name of a member, in UTF-8 wherever it can be that: hardly any other text is by chance."""
    # zipfile ends ``filename`` at a NUL, which would hide it from the check of names.
    name = info.orig_filename
    if name.isascii() or info.flag_bits & _UTF8:
        return name
    # Without the flag it should be cp437, says APPNOTE.TXT 4.4.4; many programs ignore that.
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name


def _zip_fault(info: zipfile.ZipInfo) -> Skipped | None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return Skipped("not_regular", "a link or device in a zip file")
    if info.flag_bits & _ENCRYPTED:
        return Skipped("unsupported", "encrypted")
    # The other methods unpack without a limit.
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return Skipped("unsupported", f"compressed by method {info.compress_type}; only deflate can be read")
    return None


class _Tar:
    """A plain tar, or an unpacked copy of a compressed one; members are read at their offsets."""

    def __init__(self, path: Path, file: IO[bytes], *, is_copy: bool) -> None:
        self._path, self._file = path, file
        self._stamp = None if is_copy else _stamp(path)
        weakref.finalize(self, file.close)

    def entries(self) -> Iterator[Entry]:
        places: dict[str, Member] = {}
        try:
            self._file.seek(0)
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for info in archive:
                    archive.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it; a list of all
                    if info.size < 0:
                        raise _damaged(self._path, "tar", f"a member of {info.size:,} bytes")
                    member = _tar_member(info, places)
                    if isinstance(member, Member):
                        places[info.name] = member
                    yield _without_dots(info.name), member
                # tarfile takes a damaged header for the end: all images behind it would be lost.
                self._file.seek(archive.offset)
                if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise _damaged(self._path, "tar", f"no end mark at byte {archive.offset}")
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise _damaged(self._path, "tar", str(error)) from error

    def read(self, member: Member, n_bytes: int) -> bytes | Skipped:
        fault = None if self._stamp is None else _changed(self._path, self._stamp)
        if fault is not None:
            return fault
        assert isinstance(member.place, int)
        try:
            return os.pread(self._file.fileno(), min(n_bytes, member.n_bytes), member.place)
        except OSError as error:
            return Skipped("unreadable", f"{self._path.name}: {error.strerror}")


def _tar_member(info: tarfile.TarInfo, places: Mapping[str, Member]) -> Member | Skipped | None:
    if info.isdir():
        return None
    if info.islnk():  # a hard link: tar stores a second name of a file this way
        missing = Skipped("missing", f"a link to {info.linkname!r}, which is not there")
        return places.get(info.linkname, missing)
    if info.issparse():
        return Skipped("unsupported", "a sparse member")
    if not info.isreg():
        return Skipped("not_regular", "a link, FIFO or device in a tar file")
    return Member(info.offset_data, info.size, info.size)


def _unpacked(path: Path, head: bytes) -> IO[bytes]:
    """A compressed tar, unpacked into a temporary file without a name.

    A compressed stream can be read only from its start, and images are read in any order by several threads.
    """
    unpacker = next(unpacker for magic, unpacker in _UNPACKERS.items() if head.startswith(magic))
    limit = max(_SMALL_TAR_BYTES, _TAR_RATIO * path.stat().st_size)
    file = tempfile.TemporaryFile()  # noqa: SIM115  # the source keeps it open
    try:
        with unpacker(path) as packed:
            while chunk := packed.read(_CHUNK_BYTES):
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as error:
                    raise ResourceError(
                        f"{path}: expected disk space to unpack it in {tempfile.gettempdir()}, got: "
                        f"{error.strerror} after {file.tell():,} bytes; set TMPDIR to a larger disk or "
                        "unpack it into a folder"
                    ) from error
                if file.tell() > limit:
                    raise _damaged(path, "tar", f"it unpacks to more than {limit:,} bytes")
    except BaseException as error:
        file.close()
        if isinstance(error, EOFError | zlib.error | lzma.LZMAError | OSError):  # bz2 has no error of its own
            raise _damaged(path, "tar", str(error)) from error
        raise
    return file
