"""Images in a folder, or named one by one: finding them, and reading their bytes where they lie."""

import os
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from assay.data.dataset import ADVICE, Listing, Skipped
from assay.data.formats import (
    IMAGE_EXTENSIONS,
    SNIFF_BYTES,
    USUAL,
    Limits,
    extension,
    known_format,
    promises_image,
    raw_fault,
)
from assay.data.paths import check_entry, natural_key, open_regular, resolve_below
from assay.data.tables import some
from assay.errors import DataError, LabelError
from assay.text import counted

_HIDDEN = frozenset(
    (
        *("__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN", "System Volume Information", "lost+found"),
        *("@eaDir", "#recycle", "#snapshot"),  # of network storage
    )
)
_SHOWN, _SHOWN_ENDINGS = 3, 10


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


def scan_folder(root: Path, *, follow_symlinks: bool = False, limits: Limits = USUAL) -> Listing:
    """All images below ``root``, in natural order of their names.

    A file with an image's extension is a row whatever it holds; any other file is one if its first bytes are
    those of an allowed format, or, without an extension, of any known one. Hidden entries and other files are
    left out and counted.

    Parameters
    ----------
    follow_symlinks : follow links to folders, and links that leave ``root``
    limits : a file of more bytes is skipped when it is read

    Raises
    ------
    DataError : ``root`` cannot be listed
    """
    report = ScanReport()
    waiting, seen = [""], {os.path.realpath(root)}
    while waiting:
        below = waiting.pop()
        for entry in _entries(root, below, report):
            name = below + entry.name
            if is_hidden(entry.name):
                report.hidden += 1
            elif not _is_folder(entry, follow_symlinks):
                _take_file(root, name, entry, report, follow_symlinks)
            elif extension(entry.name) in IMAGE_EXTENSIONS:
                report.add(name, Skipped("not_regular", "a folder named like an image"))
            elif not follow_symlinks or _is_first_visit(entry.path, seen):
                waiting.append(f"{name}/")
                if not below:
                    report.folders.add(entry.name)
    names, skipped, _ = report.rows()
    source = FolderSource(root, names, follow_symlinks, limits.max_bytes)
    return Listing(names, source, skipped, report.notes(), tuple(sorted(report.folders)))


def one_image(file: Path, limits: Limits = USUAL) -> Listing | None:
    """An image as the only one of its place; None if the first bytes are not those of an image."""
    head = open_regular(file.parent, file.name, follow_symlinks=True, first_bytes=SNIFF_BYTES)
    if isinstance(head, Skipped) or not known_format(head):
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
    empty = sorted(set(listing.folders) - set(first))
    if empty and not allow_empty:
        raise LabelError(
            f"expected images in every class folder, got none in {', '.join(map(repr, empty))}; "
            "remove the folder, or pass --allow-empty-classes"
        )
    classes = tuple(sorted({*first, *empty}))
    index = {name: place for place, name in enumerate(classes)}
    return classes, [index[name] for name in first]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is one that systems leave behind, not one that a person put there."""
    return name.startswith(".") or name in _HIDDEN


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

    def rows(self) -> tuple[tuple[str, ...], dict[int, Skipped], list[int]]:
        """Names in natural order, the fault of each index that has one, the places of adding."""
        order = sorted(range(len(self.names)), key=lambda place: natural_key(self.names[place]))
        names = tuple(self.names[place] for place in order)
        return names, {i: self.skipped[name] for i, name in enumerate(names) if name in self.skipped}, order

    def notes(self) -> tuple[str, ...]:
        """What the user should know, one line for each kind."""
        lines = []
        if self.hidden:
            lines.append(f"ignored {counted(self.hidden, 'hidden entry', 'hidden entries')}")
        most = dict(self.ignored.most_common(_SHOWN_ENDINGS))  # numbered endings may be thousands
        for ending, number in sorted(most.items()):
            what = f"named *{ending}" if ending else "without an extension"
            lines.append(f"ignored {counted(number, 'file')} {what}: no images")
        others = self.ignored.total() - sum(most.values())
        if others:
            lines.append(f"ignored {counted(others, 'file')} of other endings: no images")
        for reason, number in sorted(self.links.items()):
            lines.append(f"did not follow {counted(number, 'link')}: {reason}{ADVICE.get(reason, '')}")
        if self.unlisted:
            where = some(self.unlisted, _SHOWN)
            lines.append(f"warning: could not list {where}: the images there are missing")
        groups = self._equal_but_for_case()
        if groups:
            more = f", and {len(groups) - 1:,} more groups of such names" if len(groups) > 1 else ""
            lines.append(f"warning: names that differ only in case: {some(groups[0], _SHOWN)}{more}")
        return tuple(lines)

    def _equal_but_for_case(self) -> list[list[str]]:
        groups: dict[str, list[str]] = {}
        often = Counter(map(str.casefold, self.names))
        for name in self.names:
            if often[folded := name.casefold()] > 1:
                groups.setdefault(folded, []).append(name)
        return sorted(map(sorted, groups.values()))


def _entries(root: Path, below: str, report: ScanReport) -> list["os.DirEntry[str]"]:
    try:
        with os.scandir(f"{root}/{below}") as entries:
            # Links last: of a folder and a link to it the folder is visited, on whatever file system.
            return sorted(entries, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        if not below:
            raise DataError(
                f"cannot list the folder {str(root)!r}: {error.strerror}; check the path and its rights"
            ) from error
        report.unlisted.append(below)
        return []


def _is_folder(entry: "os.DirEntry[str]", follow_symlinks: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow_symlinks)
    except OSError:  # a link that loops
        return False


def _is_first_visit(path: str, seen: set[str]) -> bool:
    """False for a folder that links led to before; without this a link to a parent never ends."""
    real = os.path.realpath(path)
    is_new = real not in seen
    seen.add(real)
    return is_new


def _take_file(
    root: Path, name: str, entry: "os.DirEntry[str]", report: ScanReport, follow_symlinks: bool
) -> None:
    """Add a row for an image; count any other file."""
    ending, fault = extension(name), _fault(root, name, entry, follow_symlinks)
    if ending in IMAGE_EXTENSIONS:
        report.add(name, fault)
        return
    if fault is None:
        head = open_regular(root, name, follow_symlinks=follow_symlinks, first_bytes=SNIFF_BYTES)
        if not isinstance(head, Skipped) and promises_image(name, head):
            report.add(name)
            return
    if fault is not None and entry.is_symlink():
        report.links[fault.reason] += 1
    else:
        report.ignored[ending] += 1


def _fault(root: Path, name: str, entry: "os.DirEntry[str]", follow_symlinks: bool) -> Skipped | None:
    if entry.is_symlink():
        resolved = resolve_below(root, name, follow_symlinks=follow_symlinks)
        if isinstance(resolved, Skipped):
            return resolved
        is_regular = Path(resolved).is_file()
    else:
        is_regular = entry.is_file()
    if not is_regular:
        return Skipped("not_regular", f"{name!r} is not a regular file")
    return check_entry(name) or raw_fault(name)
