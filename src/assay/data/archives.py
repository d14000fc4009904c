"""A zip or tar of images, read in place: nothing is ever extracted under a name of the archive's."""

import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from assay.data.census import ScanReport, is_hidden
from assay.data.dataset import Listing, Skipped
from assay.data.formats import IMAGE_EXTENSIONS, SNIFF_BYTES, extension, promises_image, raw_fault
from assay.data.limits import USUAL, Limits
from assay.data.members import (
    NOWHERE,
    ByteStore,
    Entry,
    FileStore,
    Member,
    Members,
    peek_member,
    read_member,
    too_large,
)
from assay.data.paths import check_entry
from assay.data.tars import UnpackedStore, is_compressed, tar_entries
from assay.data.zips import zip_entries
from assay.errors import DataError

_ZIP_STARTS = (b"PK\3\4", b"PK\5\6")


@dataclass(frozen=True)
class ArchiveSource:
    """Reads the images of one archive."""

    store: ByteStore
    members: Members
    """Where the images lie."""
    skipped: Mapping[int, Skipped]
    """Why image i cannot be read."""
    top_folders: tuple[str, ...] = ()
    max_bytes: int = USUAL.max_bytes

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why they cannot be had."""
        fault = self.skipped.get(index)
        return fault or read_member(self.store, self.members[index], self.max_bytes)


def scan_archive(path: Path, limits: Limits = USUAL) -> Listing:
    """All images in a zip or tar (plain, gzip, bzip2 or xz), told apart by content.

    A member with the extension of an image is a row whatever it holds, any other if its first bytes are
    those of an allowed format. A hostile name, an encrypted or a too large member is a skipped row. A
    compressed tar takes room for its unpacked size among the temporary files.

    Parameters
    ----------
    limits : a member of more bytes is skipped

    Raises
    ------
    DataError : no zip or tar, a damaged one, or two members of one name
    ResourceError : no room to unpack a compressed tar
    """
    store, entries = _open(path)
    census, members, most = ScanReport(), Members(), limits.max_bytes
    for name, place in entries:
        if place is None:
            _note_folder(name.rstrip("/") + "/", census)
        elif _is_row(name, place, store, census):
            checked = _checked(name, place, most)
            members.append(NOWHERE if isinstance(checked, Skipped) else checked)
            # No file of rows could be read again with such a name in it.
            shown = name.replace("\0", "\ufffd")
            census.add(shown, checked if isinstance(checked, Skipped) else None)
    rows = census.rows()
    _refuse_duplicates(path, rows.names)
    folders = tuple(sorted(census.folders))
    source = ArchiveSource(store, members.take(rows.order), rows.skipped, folders, most)
    return Listing(rows.names, source, skipped=rows.skipped, notes=census.notes())


def _open(path: Path) -> tuple[ByteStore, Iterator[Entry]]:
    if not path.is_file():
        raise DataError(f"expected a zip or tar file, got {str(path)!r}, which is no file; check the path")
    try:
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
    except OSError as error:
        raise DataError(
            f"{path}: expected a file that can be read, got: {error.strerror}; check its rights"
        ) from error
    if is_compressed(head):
        unpacked = UnpackedStore(path)
        return unpacked, tar_entries(path, unpacked.open())
    store = FileStore.of(path)
    # The test that allows bytes before a zip is last: a tar that ends with a zip would pass it.
    if head.startswith(_ZIP_STARTS):
        return store, zip_entries(path, store)
    if tarfile.is_tarfile(path):
        return store, tar_entries(path, path.open("rb"))
    if zipfile.is_zipfile(path):  # a program that unpacks itself
        return store, zip_entries(path, store)
    raise DataError(
        f"{path}: expected a zip or tar (plain, gzip, bzip2 or xz), got a file that starts {head[:8]!r}; "
        "unpack it into a folder first"
    )


def _is_row(name: str, place: Member | Skipped, store: ByteStore, census: ScanReport) -> bool:
    """Whether a member is a row; if not, it is counted."""
    if check_entry(name) is None and any(map(is_hidden, name.split("/"))):
        census.hidden += 1
        return False
    _note_folder(name, census)
    ending = extension(name)
    if ending in IMAGE_EXTENSIONS or _looks_like_image(name, place, store):
        return True
    census.ignored[ending] += 1
    return False


def _looks_like_image(name: str, place: Member | Skipped, store: ByteStore) -> bool:
    return isinstance(place, Member) and promises_image(name, peek_member(store, place, SNIFF_BYTES))


def _note_folder(name: str, census: ScanReport) -> None:
    top, slash, _ = name.partition("/")
    if slash and top and not is_hidden(top):
        census.folders.add(top)


def _checked(name: str, place: Member | Skipped, max_bytes: int) -> Member | Skipped:
    fault = check_entry(name) or raw_fault(name)
    if fault is None and isinstance(place, Member):
        fault = too_large(place, max_bytes)
    return place if fault is None else fault


def _refuse_duplicates(path: Path, names: Sequence[str]) -> None:
    """Which of two members of one name would a label be for? Equal names are neighbours in their order."""
    twice = next((one for one, other in pairwise(names) if one == other), None)
    if twice is not None:
        raise DataError(
            f"{path}: expected every member to have a name of its own, got {twice!r} {names.count(twice)} "
            "times; pack the images again under different names"
        )
