"""Where images lie: in a folder, a zip or a tar, or one by one. Finding them, and reading their bytes.

Archives are read in place: nothing is ever extracted under a name that the archive chose.
"""

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
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import IO, NamedTuple

from assay.data.dataset import ADVICE, Address, Listing, Skipped
from assay.data.files import (
    IMAGE_EXTENSIONS,
    SNIFF_BYTES,
    USUAL,
    Limits,
    allowed_format,
    check_entry,
    extension,
    file_version,
    foreign_format,
    natural_key,
    open_regular,
    promises_image,
    raw_fault,
    resolve_below,
)
from assay.data.tables import Table, some
from assay.errors import DataError, LabelError, ResourceError
from assay.text import counted

_HIDDEN = frozenset(
    (
        *("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *("@eaDir", "#recycle", "#snapshot"),  # of network storage
    )
)
_SHOWN, _SHOWN_ENDINGS = 3, 10

LABEL_ENDING, MOST_LABEL_BYTES = ".cls", 256
"""Of the file beside an image in a WebDataset that has its label, as text."""

_SMALL_BYTES = 1024 * 1024
_MAX_RATIO = 1000  # deflate reaches 1032:1 on zeros: a member that claims nearly that is no picture
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


@dataclass
class ScanReport:
    """The images found in a folder or an archive, and counts of what was left out; filled entry by entry."""

    names: list[str] = field(default_factory=list)
    skipped: dict[str, Skipped] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    """Names of the folders at the top."""
    hidden: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    """Number of files of each extension that are not images."""
    links: Counter[str] = field(default_factory=Counter)
    """Number of links that were not followed, for each reason."""
    unlisted: list[str] = field(default_factory=list)
    """Folders that could not be listed."""

    def add(self, name: str, fault: Skipped | None = None) -> None:
        """Add a row for ``name``, which is skipped if it has a fault."""
        self.names.append(name)
        if fault is not None:
            self.skipped[name] = fault

    def rows(self) -> tuple[tuple[str, ...], dict[int, Skipped]]:
        """Names in natural order, and the fault of each index that has one."""
        names = tuple(sorted(self.names, key=natural_key))
        return names, {i: self.skipped[name] for i, name in enumerate(names) if name in self.skipped}

    def notes(self) -> tuple[str, ...]:
        """What the user should know, one line for each kind."""
        lines = []
        if self.hidden:
            lines.append(f"ignored {counted(self.hidden, 'hidden entry', 'hidden entries')}")
        most = dict(self.ignored.most_common(_SHOWN_ENDINGS))  # numbered endings may be thousands
        for ending, number in sorted(most.items()):
            what = f"named *{ending}" if ending else "without an extension"
            lines.append(f"ignored {counted(number, 'file')} {what}: no images")
        if others := self.ignored.total() - sum(most.values()):
            lines.append(f"ignored {counted(others, 'file')} of other endings: no images")
        for reason, number in sorted(self.links.items()):
            lines.append(f"did not follow {counted(number, 'link')}: {reason}{ADVICE.get(reason, '')}")
        if self.unlisted:
            where = some(self.unlisted, _SHOWN)
            lines.append(f"warning: could not list {where}: the images there are missing")
        # Counted first: a list for each of a million names would take much memory.
        often, alike = Counter(map(str.casefold, self.names)), dict[str, list[str]]()
        for name in self.names:
            if often[folded := name.casefold()] > 1:
                alike.setdefault(folded, []).append(name)
        if groups := sorted(map(sorted, alike.values())):
            more = f", and {len(groups) - 1:,} more groups of such names" if len(groups) > 1 else ""
            lines.append(f"warning: names that differ only in case: {some(groups[0], _SHOWN)}{more}")
        return tuple(lines)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems leave behind, not one that a person put there."""
    return name.startswith(".") or name in _HIDDEN


def class_folders(listing: Listing, *, allow_empty: bool) -> tuple[tuple[str, ...], list[int]]:
    """(classes, label of each name) of a listing whose names all are ``class/…/image``.

    A class is the first folder of a name; classes are sorted, so the order does not depend on the disk.
    """
    first = [name.partition("/")[0] for name in listing.names]
    empty = sorted(set(listing.folders) - set(first))
    if empty and not allow_empty:
        raise LabelError(
            f"expected images in every class folder, got none in {', '.join(map(repr, empty))}; "
            "remove the folder, or pass --allow-empty-classes"
        )
    classes = tuple(sorted({*first, *empty}))
    index = {name: place for place, name in enumerate(classes)}
    return classes, [index[name] for name in first]


# --- folders -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FolderSource:
    """Reads the images of one folder; holds no open file."""

    root: Path
    names: tuple[str, ...]
    """Paths below ``root``, ``/`` between parts; bytes that are not UTF-8 are surrogate escapes."""
    follow_symlinks: bool = False
    max_bytes: int = USUAL.max_bytes

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why there are none."""
        name = self.names[index]
        return open_regular(self.root, name, follow_symlinks=self.follow_symlinks, max_bytes=self.max_bytes)

    def address(self, index: int) -> Address:
        """Where image ``index`` lies."""
        name = self.names[index]
        return Address(str(self.root.absolute()), name, file_version(self.root / name))


def scan_folder(root: Path, *, follow_symlinks: bool = False, limits: Limits = USUAL) -> Listing:
    """All images below ``root``, in natural order of their names.

    A file with an image's extension is a row whatever it holds; any other file is one if its first bytes are
    those of an allowed format, or, without an extension, of any known one. Hidden entries and other files are
    left out and counted. Links to folders, and those that leave ``root``, are only followed on demand.
    """
    report = ScanReport()
    waiting, seen = [""], {os.path.realpath(root)}
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(f"{root}/{below}") as entries:
                # Links last: of a folder and a link to it the folder is visited, on whatever file system.
                found = sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            if not below:
                raise DataError(
                    f"cannot list the folder {str(root)!r}: {error.strerror}; check the path and its rights"
                ) from error
            report.unlisted.append(below)
            continue
        for entry in found:
            name, is_folder = below + entry.name, False
            with suppress(OSError):  # a link that loops
                is_folder = entry.is_dir(follow_symlinks=follow_symlinks)
            if is_hidden(entry.name):
                report.hidden += 1
            elif not is_folder:
                _take_file(root, name, entry, report, follow_symlinks)
            elif extension(entry.name) in IMAGE_EXTENSIONS:
                report.add(name, Skipped("not_regular", "a folder named like an image"))
            elif (real := os.path.realpath(entry.path)) not in seen:  # a link to a parent would never end
                seen.add(real)
                waiting.append(f"{name}/")
                if not below:
                    report.folders.add(entry.name)
    names, skipped = report.rows()
    source = FolderSource(root, names, follow_symlinks, limits.max_bytes)
    return Listing(names, source, skipped, report.notes(), tuple(sorted(report.folders)))


def _take_file(
    root: Path, name: str, entry: "os.DirEntry[str]", report: ScanReport, follow_symlinks: bool
) -> None:
    """Add a row for an image; count any other file."""
    resolved: str | Skipped = name
    if entry.is_symlink():
        resolved = resolve_below(root, name, follow_symlinks=follow_symlinks)
    if isinstance(resolved, Skipped):
        fault: Skipped | None = resolved
    elif not entry.is_file():
        fault = Skipped("not_regular", f"{name!r} is not a regular file")
    else:
        fault = check_entry(name) or raw_fault(name)
    ending = extension(name)
    is_image = ending in IMAGE_EXTENSIONS
    if not is_image and fault is None:  # only then is it opened
        head = open_regular(root, name, follow_symlinks=follow_symlinks, first_bytes=SNIFF_BYTES)
        is_image = not isinstance(head, Skipped) and promises_image(name, head)
    if is_image:
        report.add(name, fault)
    elif fault is not None and entry.is_symlink():
        report.links[fault.reason] += 1
    else:
        report.ignored[ending] += 1


def one_image(file: Path, limits: Limits = USUAL) -> Listing | None:
    """An image as the only one of its place; None if the first bytes are not those of an image."""
    head = open_regular(file.parent, file.name, follow_symlinks=True, first_bytes=SNIFF_BYTES)
    if isinstance(head, Skipped) or not (allowed_format(head) or foreign_format(head)):
        return None
    # A zip may begin with a picture, a tar with a name that looks like one.
    if zipfile.is_zipfile(file) or tarfile.is_tarfile(file):
        return None
    source = FolderSource(file.parent, (file.name,), follow_symlinks=True, max_bytes=limits.max_bytes)
    fault = raw_fault(file.name)
    return Listing((file.name,), source, skipped={} if fault is None else {0: fault})


# --- archives ------------------------------------------------------------------------------------------


class Member(NamedTuple):
    """Where one member of an archive lies."""

    place: zipfile.ZipInfo | int
    """What zipfile knows of it, or the offset of its first byte in a tar."""
    packed_bytes: int
    n_bytes: int  # as the archive declares it; never trusted, only compared


Entry = tuple[str, Member | Skipped | None]
"""A member's name, hostile until checked; where it lies, why it cannot be read, or None for a folder."""


def scan_archive(path: Path, limits: Limits = USUAL) -> Listing:
    """All images in a zip or tar (plain, gzip, bzip2 or xz), which are told apart by content.

    The labels of a WebDataset, ``0017.cls`` beside ``0017.jpg``, become the table of the listing.
    Rows are as ``scan_folder`` has them; a hostile name, an encrypted or a too large member is a skipped one.
    A compressed tar takes its unpacked size among the temporary files.
    """
    archive, report = _open(path), ScanReport()
    members, labels = dict[str, Member](), dict[str, str]()
    for name, member in archive.entries():
        bad = check_entry(name)
        if member is not None and bad is None and any(map(is_hidden, name.split("/"))):
            report.hidden += 1
            continue
        top, slash, _ = name.partition("/")
        if top and (slash or member is None) and not is_hidden(top):
            report.folders.add(top)
        if member is None:
            continue
        ending = extension(name)
        is_image = ending in IMAGE_EXTENSIONS
        if not is_image and isinstance(member, Member):
            head = _read_member(archive, member, SNIFF_BYTES)
            is_image = not isinstance(head, Skipped) and promises_image(name, head)
        if not is_image and ending == LABEL_ENDING and isinstance(member, Member):
            text = _read_member(archive, member, MOST_LABEL_BYTES)
            labels[_key(name)] = "" if isinstance(text, Skipped) else text.decode(errors="replace").strip()
            continue
        if not is_image:
            report.ignored[ending] += 1
            continue
        fault = bad or raw_fault(name) or _fault(member, limits.max_bytes)
        if fault is None and isinstance(member, Member):
            members[name] = member
        # A table with a NUL in it could not be read again.
        report.add(name.replace("\0", "\ufffd"), fault)
    names, skipped = report.rows()
    if len(set(names)) < len(names):  # a label could be for either of two members of one name
        twice = next(name for name, following in pairwise(names) if name == following)
        raise DataError(
            f"{path}: expected every member to have a name of its own, got {twice!r} {names.count(twice)} "
            "times; pack the images again under different names"
        )
    source = ArchiveSource(archive, tuple(members.get(name) for name in names), skipped)
    table = None
    if labels:
        cells = tuple((labels.get(_key(name), ""),) for name in names)
        table = Table(path, ("label",), cells, tuple(range(1, len(cells) + 1)), unit="image")
    return Listing(names, source, skipped, report.notes(), tuple(sorted(report.folders)), table)


def _key(name: str) -> str:
    """What the files of one image have in common in a WebDataset: the name up to the first dot."""
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{file.partition('.')[0]}"


def _open(path: Path) -> "_Zip | _Tar":
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
        return _Tar(path, _unpacked(path, head), stamp=None)
    # The test that allows bytes before a zip comes last: a tar that ends with a zip would pass it.
    if not head.startswith(_ZIP_STARTS) and tarfile.is_tarfile(path):
        return _Tar(path, path.open("rb"), stamp=_stamp(path))
    if head.startswith(_ZIP_STARTS) or zipfile.is_zipfile(path):
        return _Zip(path)
    raise DataError(
        f"{path}: expected a zip or tar (plain, gzip, bzip2 or xz), got a file that starts {head[:8]!r}; "
        "unpack it into a folder first"
    )


def _fault(member: Member | Skipped, max_bytes: int) -> Skipped | None:
    """``too_large`` for a member that claims too many bytes, in all or for its packed size."""
    if isinstance(member, Skipped):
        return member
    _, packed, unpacked = member
    if unpacked > max_bytes:
        return Skipped("too_large", f"{unpacked:,} bytes, the limit is {max_bytes:,}")
    if packed > max_bytes:
        return Skipped("too_large", f"{packed:,} bytes packed, the limit is {max_bytes:,}")
    if unpacked > max(_SMALL_BYTES, _MAX_RATIO * packed):
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


class _Zip:
    """A zip, whose directory zipfile keeps."""

    def __init__(self, path: Path) -> None:
        self.path, self.stamp = path, _stamp(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except _ZIP_ERRORS as error:
            raise _damaged(path, "zip", str(error)) from error
        # zipfile counts its open members without a lock, and would close the file under a reader.
        self._reading = Lock()

    def entries(self) -> Iterator[Entry]:
        for info in self._archive.infolist():
            # zipfile ends ``filename`` at a NUL, which would hide it from the check of names.
            name = info.orig_filename
            if not (name.isascii() or info.flag_bits & _UTF8):
                # Without the flag it should be cp437, says APPNOTE.TXT 4.4.4, and many programs ignore that.
                # What can be UTF-8 is hardly ever another text.
                with suppress(UnicodeError):
                    name = name.encode("cp437").decode("utf-8")
            name = name.replace("\\", "/")
            member: Member | Skipped | None = Member(info, info.compress_size, info.file_size)
            if name.endswith("/"):
                member = None
            elif stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
                member = Skipped("not_regular", "a link or device in a zip file")
            elif info.flag_bits & _ENCRYPTED:
                member = Skipped("unsupported", "encrypted")
            elif info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                # The other methods unpack without a limit.
                what = f"compressed by method {info.compress_type}; only deflate can be read"
                member = Skipped("unsupported", what)
            yield _without_dots(name), member

    def unpack(self, member: Member, n_bytes: int) -> bytes:
        assert isinstance(member.place, zipfile.ZipInfo)
        with self._reading, self._archive.open(member.place) as file:
            return file.read(n_bytes)


class _Tar:
    """A plain tar, or an unpacked copy of a compressed one; members are read at their offsets."""

    def __init__(self, path: Path, file: IO[bytes], *, stamp: tuple[int, int] | None) -> None:
        self.path, self.stamp, self._file = path, stamp, file
        weakref.finalize(self, file.close)

    def entries(self) -> Iterator[Entry]:
        places: dict[str, Member] = {}
        try:
            self._file.seek(0)
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                for info in archive:
                    archive.members.clear()  # type: ignore[attr-defined]  # typeshed lacks it; a list of all
                    if info.size < 0:  # it would lead back to an earlier header for ever
                        raise _damaged(self.path, "tar", f"a member of {info.size:,} bytes")
                    member = _tar_member(info, places)
                    if isinstance(member, Member):
                        places[info.name] = member
                    yield _without_dots(info.name), member
                # tarfile takes a damaged header for the end: all images behind it would be lost.
                self._file.seek(archive.offset)
                if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise _damaged(self.path, "tar", f"no end mark at byte {archive.offset}")
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise _damaged(self.path, "tar", str(error)) from error

    def unpack(self, member: Member, n_bytes: int) -> bytes:
        assert isinstance(member.place, int)
        return os.pread(self._file.fileno(), min(n_bytes, member.n_bytes), member.place)


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
    """A compressed tar, unpacked into a temporary file without a name."""
    # A compressed stream can be read only from its start, and several threads read images in any order.
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
                    raise DataError(
                        f"{path}: expected a tar file that unpacks to at most {limit:,} bytes, got more; "
                        "unpack it into a folder"
                    )
    except BaseException as error:
        file.close()
        if isinstance(error, EOFError | zlib.error | lzma.LZMAError | OSError):  # bz2 has no error of its own
            raise _damaged(path, "tar", str(error)) from error
        raise
    return file


def _read_member(archive: _Zip | _Tar, member: Member, n_bytes: int) -> bytes | Skipped:
    """Up to ``n_bytes`` of a member, from its beginning; safe to call from threads."""
    name = archive.path.name
    try:
        # In another file than the one that was opened, the members may lie elsewhere.
        if archive.stamp is not None and _stamp(archive.path) != archive.stamp:
            return Skipped("changed", f"{name} was changed while it was in use")
    except OSError as error:
        return Skipped("changed", f"{name}: {error.strerror}")
    try:
        return archive.unpack(member, n_bytes)
    except OSError as error:
        return Skipped("unreadable", f"{name}: {error.strerror or error}")
    except _ZIP_ERRORS as error:
        return Skipped("corrupt", f"the archive is damaged here: {error}")


@dataclass(frozen=True)
class ArchiveSource:
    """Reads the images of one archive, which stays open."""

    archive: _Zip | _Tar
    members: tuple[Member | None, ...]
    """Where the images lie."""
    skipped: Mapping[int, Skipped]
    """Why image i cannot be read."""

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why there are none; no more than it declares are unpacked."""
        member = self.members[index]
        if member is None:
            return self.skipped[index]
        data = _read_member(self.archive, member, member.n_bytes + 1)
        if isinstance(data, Skipped) or len(data) == member.n_bytes:
            return data
        return Skipped("corrupt", f"the archive promises {member.n_bytes:,} bytes, but holds another number")

    def address(self, index: int) -> Address:
        """Where image ``index`` lies."""
        return Address(str(self.archive.path.absolute()), str(index), file_version(self.archive.path))
