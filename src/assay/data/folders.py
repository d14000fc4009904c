"""A folder of images, read where it lies."""

import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from assay.data.census import ScanReport, is_hidden
from assay.data.dataset import Listing, Skipped
from assay.data.formats import (
    IMAGE_EXTENSIONS,
    SNIFF_BYTES,
    extension,
    known_format,
    promises_image,
    raw_fault,
)
from assay.data.limits import USUAL, Limits
from assay.data.paths import check_entry, open_regular, peek_regular, resolve_below
from assay.errors import DataError, LabelError


@runtime_checkable
class HasFolders(Protocol):
    """A source that knows the folders at its top, those without images too."""

    @property
    def top_folders(self) -> tuple[str, ...]:
        """Names of the folders at the top, hidden ones left out."""
        ...


@dataclass(frozen=True)
class FolderSource:
    """Reads the images of one folder. Holds no open file, so it can be sent to other processes."""

    root: Path
    names: tuple[str, ...]
    """Paths below ``root``, ``/`` between parts; bytes that are no UTF-8 are surrogate-escaped."""
    top_folders: tuple[str, ...] = ()
    follow_symlinks: bool = False
    max_bytes: int = USUAL.max_bytes

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why they cannot be had."""
        name = self.names[index]
        return open_regular(self.root, name, follow_symlinks=self.follow_symlinks, max_bytes=self.max_bytes)


def scan_folder(root: Path, *, follow_symlinks: bool = False, limits: Limits = USUAL) -> Listing:
    """All images below ``root``, in natural order of their names.

    A file with the extension of an image is a row whatever it holds; any other file is one if its first
    bytes are those of an allowed format, or, without an extension, of any that is known. Hidden entries and
    other files are left out and counted.

    Parameters
    ----------
    follow_symlinks : follow links to folders, and links that leave ``root``
    limits : a file of more bytes is skipped

    Raises
    ------
    DataError : ``root`` is no folder, or cannot be listed
    """
    if not root.is_dir():
        raise DataError(f"expected a folder of images, got {str(root)!r}, which is no folder; check the path")
    census = ScanReport()
    for directory, entries in _walk(root, census, follow_symlinks):
        for entry in entries:
            _take(root, directory + entry.name, entry, census, follow_symlinks)
    rows = census.rows()
    folders = tuple(sorted(census.folders))
    source = FolderSource(root, rows.names, folders, follow_symlinks, limits.max_bytes)
    return Listing(rows.names, source, skipped=rows.skipped, notes=census.notes())


def one_image(file: Path, limits: Limits = USUAL) -> Listing | None:
    """An image as the only one of its place; None if the first bytes are not those of an image."""
    if not file.is_file():  # a pipe would be waited for
        return None
    try:
        with file.open("rb") as opened:
            head = opened.read(SNIFF_BYTES)
    except OSError:
        return None
    if not known_format(head):
        return None
    # A zip may begin with a picture, a tar with a name that looks like one.
    if zipfile.is_zipfile(file) or tarfile.is_tarfile(file):
        return None
    source = FolderSource(file.parent, (file.name,), follow_symlinks=True, max_bytes=limits.max_bytes)
    fault = raw_fault(file.name)
    return Listing((file.name,), source, skipped={} if fault is None else {0: fault})


def class_folders(listing: Listing, *, allow_empty: bool) -> tuple[tuple[str, ...], list[int]]:
    """(classes, label of each name) of a listing whose names all are ``class/…/image``.

    A class is the first folder of a name; classes are sorted, so the order does not depend on the disk.

    Raises
    ------
    LabelError : a folder without images, unless ``allow_empty``
    """
    first = [name.partition("/")[0] for name in listing.names]
    folders = listing.source.top_folders if isinstance(listing.source, HasFolders) else ()
    empty = sorted(set(folders) - set(first))
    if empty and not allow_empty:
        raise LabelError(
            f"expected images in every class folder, got none in {', '.join(map(repr, empty))}; "
            "remove the folder, or pass --allow-empty-classes"
        )
    classes = tuple(sorted({*first, *empty}))
    index = {name: place for place, name in enumerate(classes)}
    return classes, [index[name] for name in first]


def _walk(
    root: Path, census: ScanReport, follow_symlinks: bool
) -> Iterator[tuple[str, list["os.DirEntry[str]"]]]:
    """(path below root with a final ``/``, its entries that are no folders) of each folder."""
    waiting = [""]
    seen = {os.path.realpath(root)}
    while waiting:
        below = waiting.pop()
        files = []
        for entry in _list(root, below, census):
            if is_hidden(entry.name):
                census.hidden += 1
            elif not _is_folder(entry, follow_symlinks):
                files.append(entry)
            elif extension(entry.name) in IMAGE_EXTENSIONS:
                census.add(below + entry.name, Skipped("not_regular", "a folder named like an image"))
            elif not follow_symlinks or _first_visit(entry.path, seen):
                waiting.append(f"{below}{entry.name}/")
                if not below:
                    census.folders.add(entry.name)
        yield below, files


def _list(root: Path, below: str, census: ScanReport) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(f"{root}/{below}") as entries:
            # Of a folder and a link to it the folder is visited, on whatever file system.
            return sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        if not below:
            raise DataError(
                f"cannot list the folder {str(root)!r}: {error.strerror}; check its rights"
            ) from error
        census.unlisted.append(below)
        return []


def _is_folder(entry: "os.DirEntry[str]", follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link that loops
        return False


def _first_visit(path: str, seen: set[str]) -> bool:
    """False for a folder that links led to before; without this a link to a parent never ends."""
    real = os.path.realpath(path)
    known = real in seen
    seen.add(real)
    return not known


def _take(
    root: Path, name: str, entry: "os.DirEntry[str]", census: ScanReport, follow_symlinks: bool
) -> None:
    fault = _fault(root, name, entry, follow_symlinks)
    if extension(name) in IMAGE_EXTENSIONS:
        census.add(name, fault)
    elif fault is None and _looks_like_image(root, name, follow_symlinks):
        census.add(name)
    elif fault is not None and entry.is_symlink():
        census.links[fault.reason] += 1
    else:
        census.ignored[extension(name)] += 1


def _fault(root: Path, name: str, entry: "os.DirEntry[str]", follow_symlinks: bool) -> Skipped | None:
    if entry.is_symlink():
        resolved = resolve_below(root, name, follow_symlinks=follow_symlinks)
        if isinstance(resolved, Skipped):
            return resolved
        regular = Path(resolved).is_file()
    else:
        regular = entry.is_file()
    if not regular:
        return Skipped("not_regular", f"{name!r} is not a regular file")
    return check_entry(name) or raw_fault(name)


def _looks_like_image(root: Path, name: str, follow_symlinks: bool) -> bool:
    head = peek_regular(root, name, SNIFF_BYTES, follow_symlinks=follow_symlinks)
    return not isinstance(head, Skipped) and promises_image(name, head)
