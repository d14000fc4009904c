"""Images by their addresses, and places that are many files: a folder of Parquet files or of tars."""

import shutil
import weakref
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path

from assay.data.dataset import Address, ImageSource, Listing, Skipped, address_of
from assay.data.files import (
    IMAGE_EXTENSIONS,
    USUAL,
    Limits,
    extension,
    file_version,
    natural_key,
    open_regular,
)
from assay.data.place import Url, is_url
from assay.data.remote import RemoteSource, remote_source
from assay.data.sources import FolderSource, scan_archive
from assay.data.stores import fetch_to_file, list_objects
from assay.data.tables import Table, is_parquet
from assay.errors import AssayError, DataError, TableError

PART_ENDINGS = (".parquet", ".tar")
"""Of the files of a place that is many files."""


@dataclass(frozen=True)
class AddressedSource:
    """Reads images at their addresses; what changed since they were listed is skipped."""

    addresses: Sequence[Address]
    limits: Limits = USUAL
    follow_symlinks: bool = False
    image_column: str | None = None
    """Of Parquet files, where the usual names do not tell."""

    @cached_property
    def _apart(self) -> RemoteSource:
        """The images that have an address each."""
        alone = [one if not one.member else Address("") for one in self.addresses]
        return remote_source([one.uri for one in alone], [one.version for one in alone], self.limits)

    def expect(self, indices: Iterable[int] | None) -> None:
        """See ``ReadsAhead``."""
        self._apart.expect(indices and (index for index in indices if not self.addresses[index].member))

    def read(self, index: int) -> bytes | Skipped:
        """The bytes of image ``index``, or why there are none."""
        uri, member, version = self.addresses[index]
        if not member:
            return self._apart.read(index) if uri else Skipped("missing_image")
        if not is_url(uri):
            place = Path(uri)
            inside = member.isdecimal() and not place.is_dir()
            if file_version(place if inside else place / member) != version:
                return Skipped(
                    "changed", f"{place.name if inside else member} was changed after it was listed"
                )
            if not inside:
                links, most = self.follow_symlinks, self.limits.max_bytes
                return open_regular(place, member, follow_symlinks=links, max_bytes=most)
        try:
            opened = _opened(uri, version, self.limits, self.image_column)
        except AssayError as error:  # of the archive, for which each of its images is a row with the reason
            return Skipped("unreadable", str(error))
        if is_url(uri) and version.partition("-")[0] != str(opened.n_bytes):
            return Skipped("changed", f"{uri} was changed after it was listed")
        return opened.listing.source.read(int(member))

    def address(self, index: int) -> Address:
        """Where image ``index`` lies."""
        return self.addresses[index]


class _Opened:
    """The images of one file; of one in a store a copy, which goes with this object."""

    def __init__(self, uri: str, limits: Limits, image_column: str | None) -> None:
        place = Path(uri)
        if is_url(uri):
            place = fetch_to_file(Url(uri))
            weakref.finalize(self, shutil.rmtree, place.parent, ignore_errors=True)
        self.n_bytes = place.stat().st_size
        self.listing = scan_file(place, limits, image_column)


@lru_cache(maxsize=1)  # the shards of one archive follow each other; another version is opened anew
def _opened(uri: str, _version: str, limits: Limits, image_column: str | None) -> _Opened:
    return _Opened(uri, limits, image_column)


@dataclass(frozen=True)
class CopiedSource:
    """The images of a copy of one file in a store, which have the addresses of the file itself."""

    source: ImageSource
    uri: str
    version: str
    is_image: bool
    """Whether the file is one image."""

    def read(self, index: int) -> bytes | Skipped:
        """As of any source."""
        return self.source.read(index)

    def address(self, index: int) -> Address:
        """Where image ``index`` lies: a process that has no copy makes its own."""
        return Address(self.uri, "" if self.is_image else str(index), self.version)


def copied(listing: Listing, copy: Path, url: Url) -> Listing:
    """The images of a copy of the file at ``url``."""
    alone = isinstance(listing.source, FolderSource)
    # The number of bytes begins a version of a store's object.
    return replace(listing, source=CopiedSource(listing.source, str(url), f"{copy.stat().st_size}-", alone))


def scan_file(place: Path, limits: Limits = USUAL, image_column: str | None = None) -> Listing:
    """The images of one Parquet file, zip or tar."""
    if is_parquet(place):
        from assay.data.parquet import parquet_listing  # polars is slow to import

        return parquet_listing(place, image_column=image_column)
    return scan_archive(place, limits)


# --- a folder of such files ----------------------------------------------------------------------------


def parts_of(folder: Path) -> tuple[Path, ...]:
    """The Parquet files or tars of a folder that holds neither images nor folders, in natural order."""
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    if any(extension(file.name) in IMAGE_EXTENSIONS or not file.is_file() for file in files):
        return ()
    parts = [file for file in files if extension(file.name) in PART_ENDINGS]
    if len({extension(file.name) for file in parts}) > 1:
        raise DataError(
            f"{folder}: expected Parquet files or tars, got both; put one kind into a folder of its own"
        )
    return tuple(sorted(parts, key=lambda file: natural_key(file.name)))


@dataclass(frozen=True)
class JoinedSource:
    """The images of several sources, one after the other."""

    sources: tuple[ImageSource, ...]
    starts: tuple[int, ...]
    """The first image of each."""

    def read(self, index: int) -> bytes | Skipped:
        """As of any source."""
        part = bisect_right(self.starts, index) - 1
        return self.sources[part].read(index - self.starts[part])

    def address(self, index: int) -> Address:
        """As of any source."""
        part = bisect_right(self.starts, index) - 1
        return address_of(self.sources[part], index - self.starts[part])


def scan_parts(parts: Sequence[Path], limits: Limits = USUAL, image_column: str | None = None) -> Listing:
    """The images of all files, each named as in its file; with the file's name before it where two files have
    a name in common: ``train-003.parquet/17``.
    """
    found = [scan_file(part, limits, image_column) for part in parts]
    return _joined([part.name for part in parts], found)


def scan_remote_parts(url: Url, limits: Limits = USUAL, image_column: str | None = None) -> Listing | None:
    """The same for Parquet files or tars below a URL; None if none is there.

    Each is copied to be listed, and again where its images are read: one copy is there at a time.
    """
    objects = [one for one in list_objects(url) if extension(one.name) in PART_ENDINGS]
    base, listings = str(url).rstrip("/"), []
    objects.sort(key=lambda one: natural_key(one.name))
    for one in objects:
        opened = _Opened(f"{base}/{one.name}", limits, image_column)
        addresses = [
            Address(f"{base}/{one.name}", str(image), one.version)
            for image in range(len(opened.listing.names))
        ]
        source = AddressedSource(addresses, limits, image_column=image_column)
        listings.append(replace(opened.listing, source=source))
    return _joined([one.name for one in objects], listings) if objects else None


def _joined(files: Sequence[str], found: Sequence[Listing]) -> Listing:
    starts = tuple(accumulate((len(listing.names) for listing in found), initial=0))[:-1]
    names = tuple(name for listing in found for name in listing.names)
    if len(set(names)) < len(names):
        pairs = zip(files, found, strict=True)
        names = tuple(f"{file}/{name}" for file, listing in pairs for name in listing.names)
    return Listing(
        names,
        JoinedSource(tuple(listing.source for listing in found), starts),
        {
            start + row: why
            for start, listing in zip(starts, found, strict=True)
            for row, why in listing.skipped.items()
        },
        tuple(dict.fromkeys(note for listing in found for note in listing.notes)),
        table=_joined_tables([listing.table for listing in found]),
    )


def _joined_tables(found: Sequence[Table | None]) -> Table | None:
    """The rows of all files as one table; TableError if they have other columns."""
    tables = [table for table in found if table is not None]
    if not tables:
        return None
    first = tables[0]
    for table in tables:
        if table.columns != first.columns:
            raise TableError(
                f"{table.path.name}: expected the columns of {first.path.name}, "
                f"{', '.join(first.columns or ())}, got {', '.join(table.columns or ())}"
            )
    if len(tables) < len(found):
        raise TableError(f"{first.path.name} has labels, and others of the files have none; give all or none")
    rows = tuple(row for table in tables for row in table.rows)
    numbers = tuple(range(1, len(rows) + 1))
    return Table(first.path.parent, first.columns, rows, numbers, "row", class_names=first.class_names)
